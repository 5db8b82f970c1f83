"""The number of tasks that were done in the program's process, passed on now and then."""

from __future__ import annotations

from skjob.engine.fidelity.done_here import DoneHere


def test_it_is_passed_on_once_a_second() -> None:
    now = 100.0
    told: list[int] = []
    done = DoneHere(told.append, lambda: now)
    done.add(0)
    assert told == []
    for _ in range(8):
        done.add(2)
        now += 0.25
    assert told == [2, 10]
