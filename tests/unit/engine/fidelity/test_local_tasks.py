"""The number of tasks that ran in the program's process is reported now and then."""

from __future__ import annotations

from skjob.engine.fidelity.local_tasks import LocalTaskCounter


def test_it_is_reported_once_a_second() -> None:
    now = 100.0
    reported: list[int] = []
    counter = LocalTaskCounter(reported.append, lambda: now)
    counter.add(0)
    assert reported == []
    for _ in range(8):
        counter.add(2)
        now += 0.25
    assert reported == [2, 10]
