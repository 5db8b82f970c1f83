"""A thread that does the same again and again."""

from __future__ import annotations

import threading

import pytest
from clocks import DEADLINE, wait_for

from skjob.utils.periodic import PeriodicThread

pytestmark = pytest.mark.unit


def test_an_action_is_repeated_after_the_first_until_it_is_stopped() -> None:
    calls: list[str] = []
    periodic = PeriodicThread("test", lambda: calls.append("again"), first=lambda: calls.append("first"))
    assert not calls
    periodic.start(0.001)
    wait_for(lambda: len(calls) > 3)
    periodic.stop()
    periodic.join(DEADLINE)
    assert calls == ["first", *["again"] * (len(calls) - 1)]
    assert periodic.stopped
    assert not any(thread.name == "test" for thread in threading.enumerate())


def test_an_action_may_stop_its_own_thread() -> None:
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        periodic.stop()

    periodic = PeriodicThread("test", act)
    periodic.start(0.001)
    periodic.join(DEADLINE)
    assert calls == [1]


def test_a_stop_does_not_wait_for_the_next_call() -> None:
    periodic = PeriodicThread("test", lambda: None)
    periodic.start(DEADLINE * 10)
    periodic.stop()
    periodic.join(DEADLINE)
    assert not any(thread.name == "test" for thread in threading.enumerate())


def test_one_that_was_not_started_can_be_stopped() -> None:
    calls: list[int] = []
    periodic = PeriodicThread("test", lambda: calls.append(1))
    periodic.stop()
    periodic.join(DEADLINE)
    assert calls == []
