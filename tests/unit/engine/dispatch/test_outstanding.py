"""Each task is taken once, and none is added or sent after the end of its call."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from clocks import DEADLINE

from skjob.engine.dispatch.batch import Batch, BatchTask
from skjob.engine.dispatch.outstanding import OutstandingTasks


def _task(*, quarantined: bool = False) -> BatchTask:
    return BatchTask(Batch([(int, (), {})], [None], [None], [None], 0), [0], quarantined=quarantined)


def _added(outstanding: OutstandingTasks, task: BatchTask) -> int:
    number = outstanding.add(task)
    assert number is not None
    return number


def test_tasks_are_numbered_in_the_order_in_which_they_come() -> None:
    outstanding = OutstandingTasks()
    assert [outstanding.add(_task()) for _ in range(3)] == [0, 1, 2]
    assert len(outstanding) == 3


def test_a_task_is_taken_once_by_many_threads() -> None:
    outstanding = OutstandingTasks()
    task = _task()
    number = _added(outstanding, task)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: outstanding.take(number), range(64)))
    assert [each for each in taken if each is not None] == [task]
    assert number not in outstanding


def test_nothing_is_added_or_taken_after_the_end() -> None:
    outstanding = OutstandingTasks()
    out, waiting = _task(), _task(quarantined=True)
    number = _added(outstanding, out)
    outstanding.quarantine([waiting])
    assert outstanding.close() == [out, waiting]
    assert outstanding.closed
    assert outstanding.add(_task()) is None
    assert outstanding.take(number) is None
    with outstanding.sending(number) as pending:
        assert not pending


def test_the_end_waits_for_a_task_that_is_being_sent() -> None:
    """It finds the task either sent, or never to be sent."""
    outstanding = OutstandingTasks()
    task = _task()
    number = _added(outstanding, task)
    keys: list[str] = []
    ended = threading.Thread(target=lambda: keys.extend(each.key for each in outstanding.close()))
    with outstanding.sending(number) as pending:
        assert pending
        ended.start()
        ended.join(0.05)
        assert ended.is_alive()
        task.key = "sent"
    ended.join(DEADLINE)
    assert keys == ["sent"]


def test_a_quarantined_task_starts_when_no_other_is_out() -> None:
    outstanding = OutstandingTasks()
    number = _added(outstanding, _task())
    first, second = _task(quarantined=True), _task(quarantined=True)
    outstanding.quarantine([first, second])
    assert outstanding.start_quarantined() is None
    outstanding.take(number)
    assert outstanding.start_quarantined() == (1, first)
    assert outstanding.start_quarantined() is None
    outstanding.take(1)
    assert outstanding.start_quarantined() == (2, second)


def test_what_is_given_up_leaves_the_tasks_to_be_taken() -> None:
    outstanding = OutstandingTasks()
    number, waiting = _added(outstanding, _task()), _task(quarantined=True)
    outstanding.quarantine([waiting])
    assert outstanding.give_up() == ([number], [waiting])
    assert number in outstanding
    outstanding.take(number)
    assert outstanding.start_quarantined() is None
