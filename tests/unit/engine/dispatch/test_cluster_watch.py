"""A call waits for workers and for the connection, but not for those that will not come."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.engine.dispatch import cluster_watch as module
from skjob.engine.dispatch.batch import Batch, BatchTask, WorkersLost
from skjob.engine.dispatch.cluster_watch import MAX_TRIES, STUCK_INTERVAL, ClusterWatch
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.utils.dask_client import CONNECTION_LOST


class _Client:
    """A client of a cluster with so many workers, which take tasks or do not."""

    def __init__(self) -> None:
        self.status = "running"
        self.workers = 1
        self.takes_tasks = True
        self.probes: list[str] = []

    def scheduler_info(self, n_workers: int) -> dict[str, int]:
        return {"n_workers": self.workers}

    def run_on_scheduler(self, function: Any, callback_timeout: float) -> bool:
        return self.takes_tasks

    def submit(self, function: Any, key: str, pure: bool) -> Any:
        self.probes.append(key)
        return self

    def release(self) -> None:
        """The probe's."""


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def _watch(client: Any, *, tasks: int = 1) -> ClusterWatch:
    outstanding = OutstandingTasks()
    for _ in range(tasks):
        outstanding.add(BatchTask(Batch([(int, (), {})], [None], [None], [None], 0), [0]))
    return ClusterWatch(client, outstanding, 60.0)


def test_a_call_whose_workers_stay_away_is_lost(clock: _Clock) -> None:
    client = _Client()
    watch = _watch(client)
    assert watch.find_loss() is None
    client.workers = 0
    assert watch.find_loss() is None
    clock.now += 59
    assert watch.find_loss() is None
    clock.now += 2
    assert str(watch.find_loss()) == "there has been no worker for 60 s"


def test_a_worker_that_finishes_a_task_is_there(clock: _Clock) -> None:
    client = _Client()
    client.workers = 0
    watch = _watch(client)
    assert watch.find_loss() is None
    clock.now += 61
    watch.note_outcome()
    assert watch.find_loss() is None


def test_workers_without_memory_take_no_tasks(clock: _Clock) -> None:
    client = _Client()
    client.takes_tasks = False
    watch = _watch(client)
    clock.now += STUCK_INTERVAL
    assert watch.find_loss() is None
    clock.now += 61
    lost = watch.find_loss()
    assert str(lost) == (
        "there has been no worker for 60 s that takes tasks: their memory is full; "
        "give them more with `--worker-memory`"
    )


def test_nothing_is_lost_while_no_task_is_out(clock: _Clock) -> None:
    client = _Client()
    client.workers = 0
    watch = _watch(client, tasks=0)
    for _ in range(3):
        assert watch.find_loss() is None
        clock.now += 61


def test_a_closed_client_is_lost_at_once() -> None:
    client = _Client()
    client.status = "closed"
    assert str(_watch(client).find_loss()) == CONNECTION_LOST


def test_a_check_that_fails_is_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Client()

    def fail(n_workers: int) -> Any:
        raise TimeoutError

    monkeypatch.setattr(client, "scheduler_info", fail)
    assert _watch(client).find_loss() is None


def test_a_probe_brings_the_first_worker(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Client()
    answers = iter([0, 0, 1])
    monkeypatch.setattr(client, "scheduler_info", lambda n_workers: {"n_workers": next(answers)})
    watch = _watch(client)
    watch.wait_for_worker()
    assert len(client.probes) == 1
    watch.wait_for_worker()  # one that was just seen is not asked for again
    assert len(client.probes) == 1


def test_waiting_for_a_worker_ends(clock: _Clock) -> None:
    client = _Client()
    client.workers = 0
    with pytest.raises(WorkersLost, match="no worker came within 60 s"):
        _watch(client).wait_for_worker()


def test_sending_is_tried_again_when_the_connection_breaks(clock: _Clock) -> None:
    attempts: list[int] = []

    def send() -> str:
        attempts.append(len(attempts))
        if len(attempts) < MAX_TRIES:
            raise OSError
        return "sent"

    assert _watch(_Client()).retry(send) == "sent"
    assert len(attempts) == MAX_TRIES


@pytest.mark.parametrize(("error", "expected"), [(OSError("broken"), OSError), (TimeoutError(), WorkersLost)])
def test_sending_that_goes_on_failing_is_an_error(clock: _Clock, error: Exception, expected: type[Exception]) -> None:
    def send() -> None:
        raise error

    with pytest.raises(expected):
        _watch(_Client()).retry(send)


def test_a_connection_that_does_not_come_back_is_lost(clock: _Clock) -> None:
    client = _Client()
    client.status = "connecting"
    with pytest.raises(WorkersLost, match=CONNECTION_LOST):
        _watch(client).wait_for_connection()
