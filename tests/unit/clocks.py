"""The time in unit tests: a clock that goes on as somebody sleeps by it, and the wait for another thread."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 120.0
"""Seconds after which what another thread or process is waited for hangs."""


class Clock:
    """Takes the place of the module `time`. A sleep takes no time, and afterwards it is as much later."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
