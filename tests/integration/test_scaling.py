"""The scaling loop on a real local cluster: requested workers, released workers, and that no task is lost."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed
import joblib
import numpy
import pytest
from dask.utils import key_split
from distributed import Client, Future
from waiting import DEADLINE, until

from skjob.config.plan import WorkerSize
from skjob.config.settings import WorkerRange
from skjob.deploy.base import WorkerCounts
from skjob.deploy.local import LocalCluster
from skjob.deploy.scaling.loop import ScalingLoop
from skjob.deploy.scaling.scheduler import release_workers, take_snapshot
from skjob.engine.backend import SkjobBackend

MIN_IDLE_SECONDS = 1.0
"""Minimum seconds for which an idle worker is kept."""

pytestmark = pytest.mark.usefixtures("send_small_calls_to_workers")


@pytest.fixture(scope="module", autouse=True)
def fast_scaling() -> Iterator[None]:
    """Let the loop poll often, and release workers soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skjob.deploy.scaling.loop.INTERVAL", 0.2)
        patch.setattr("skjob.deploy.scaling.policy.MIN_IDLE_SECONDS", MIN_IDLE_SECONDS)
        yield


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    size = WorkerSize(cpu=0.5, memory=2**30, threads=1)
    preload = ("sklearn.model_selection",)
    cluster = LocalCluster("scaling", tmp_path_factory.mktemp("scaling"), 1, size, 3, preload)
    try:
        with pytest.MonkeyPatch.context() as patch:  # workers import this module and its imports
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def client(warm: LocalCluster) -> Iterator[Client]:
    """A client of a cluster with one idle worker of one thread."""
    with Client(warm.address, security=warm.tls.security(), set_as_default=False) as client:
        until(lambda: not client.run_on_scheduler(_tasks), "the previous test has left tasks")
        warm.cancel_pending(warm.requested(), _names(client))
        until(lambda: _has_one_worker(warm, client), "the cluster does not have exactly one worker")
        yield client


@pytest.fixture
def cluster(warm: LocalCluster, client: Client) -> LocalCluster:
    """The client's cluster."""
    return warm


def _tasks(dask_scheduler: Any = None) -> list[Any]:
    return list(dask_scheduler.tasks)


def _has_one_worker(cluster: LocalCluster, client: Client) -> bool:
    """Start or release workers so that one is left; return whether there is exactly one."""
    names = _names(client)
    if not names:
        _add(cluster, client, 1)
    elif gone := client.run_on_scheduler(release_workers, names[1:]):
        cluster.remove_workers(gone)
    return len(_names(client)) == cluster.requested() == cluster.running() == 1


@contextmanager
def _scaling(cluster: LocalCluster, client: Client, limits: WorkerRange) -> Iterator[list[WorkerCounts]]:
    counts: list[WorkerCounts] = []
    lost: list[Exception] = []
    loop = ScalingLoop(
        cluster,
        client,
        limits,
        1,
        reconnect_timeout=DEADLINE,
        observe=counts.append,
        progress=lambda _: None,
        notify=lambda _: None,
        lost=lost.append,
        usual_start=2.0,
    )
    loop.start()
    try:
        yield counts
    finally:
        loop.stop()
    assert lost == []


def _names(client: Client) -> list[str]:
    return sorted(client.run_on_scheduler(take_snapshot).processing)


def _add(cluster: LocalCluster, client: Client, total: int) -> None:
    cluster.add_workers(total)
    client.wait_for_workers(total, timeout=DEADLINE)


def nap(seconds: float, number: int = 0, end: Path | None = None) -> int:
    """Sleep for some seconds, and until the file `end` exists."""
    time.sleep(seconds)
    if end is not None:
        until(end.exists, "the file is not created")
    return number


def test_workers_start_for_tasks_and_are_released_afterwards(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    with _scaling(cluster, client, WorkerRange(1, 3)) as counts:
        futures = client.map(nap, [0.1] * 20, range(20), end=end, pure=False)
        until(lambda: counts and counts[-1].connected == 3, "not all workers start")
        end.touch()
        assert client.gather(futures) == list(range(20))
        del futures
        until(
            lambda: (counts[-1].asked, counts[-1].connected) == (1, 1), f"not scaled down to one worker: {counts[-1]}"
        )
    assert all(1 <= each.asked <= 3 for each in counts)


def test_last_worker_with_shared_data_is_released_and_replaced(cluster: LocalCluster, client: Client) -> None:
    data = numpy.arange(200_000.0)
    backend = SkjobBackend(client, width=2, wait_for_workers=DEADLINE)

    def totals() -> list[float]:
        with joblib.parallel_config(backend=backend, n_jobs=-1):
            return joblib.Parallel()(joblib.delayed(numpy.sum)(data) for _ in range(4))

    with _scaling(cluster, client, WorkerRange(0, 2)) as counts:
        assert totals() == [data.sum()] * 4
        assert client.run_on_scheduler(_scattered), "no data is shared, so there is nothing to lose"
        until(lambda: counts and (counts[-1].asked, counts[-1].connected) == (0, 0), "the last worker is not released")
        released_at = len(counts)
        assert totals() == [data.sum()] * 4
        # The latest counts may be from before the request.
        until(lambda: any(1 <= each.asked <= 2 for each in counts[released_at:]), "no worker was requested")


def _scattered(dask_scheduler: Any = None) -> list[str]:
    return [task.key for task in dask_scheduler.tasks.values() if task.run_spec is None and task.who_has]


def test_last_worker_with_wanted_results_is_kept(cluster: LocalCluster, client: Client) -> None:
    _add(cluster, client, 2)
    first, second = _names(client)
    results = [
        client.submit(nap, 0, number, workers=[int(name)], pure=False) for number, name in enumerate((first, second))
    ]
    until(lambda: all(result.done() for result in results), "the tasks are not done")
    gone = client.run_on_scheduler(release_workers, [first, second])
    assert len(gone) == 1
    cluster.remove_workers(gone)
    assert client.gather(results) == [0, 1]
    assert client.run_on_scheduler(release_workers, _names(client)) == []
    results.clear()


def test_worker_that_got_a_task_is_kept(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    end = tmp_path / "end"
    _add(cluster, client, 2)
    first, second = _names(client)
    task = client.submit(nap, 0, 5, end, workers=[int(first)], pure=False)
    until(lambda: client.run_on_scheduler(take_snapshot).processing[first], "the task did not start")
    assert client.run_on_scheduler(release_workers, [first, second]) == [second]
    cluster.remove_workers([second])
    end.touch()
    assert task.result(DEADLINE) == 5
    assert _names(client) == [first]


def test_tasks_run_once_while_workers_are_released(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    """Tasks are submitted continuously while workers are released: each task runs exactly once, and writes one mark."""
    _add(cluster, client, 3)
    marks = tmp_path / "marks"
    marks.mkdir()

    def mark(folder: str, number: int) -> int:
        with (Path(folder) / str(number)).open("a") as file:
            file.write("x")
        time.sleep(0.02)
        return number

    futures: list[Future] = []
    stop = threading.Event()

    def keep_submitting() -> None:
        while not stop.wait(0.03):
            futures.append(client.submit(mark, str(marks), len(futures), pure=False))

    thread = threading.Thread(target=keep_submitting)
    thread.start()
    try:
        until(lambda: futures, "no task was submitted")
        deadline = time.monotonic() + DEADLINE
        while len(_names(client)) > 1 and time.monotonic() < deadline:
            gone = client.run_on_scheduler(release_workers, _names(client)[1:])
            if gone:
                cluster.remove_workers(gone)
    finally:
        stop.set()
        thread.join()
    assert len(_names(client)) == 1
    assert client.gather(futures) == list(range(len(futures)))
    assert {file.read_text() for file in marks.iterdir()} == {"x"}
    assert len(list(marks.iterdir())) == len(futures) > 0


def test_released_worker_is_not_restarted(cluster: LocalCluster, client: Client) -> None:
    with _scaling(cluster, client, WorkerRange(0, 1)) as counts:
        until(
            lambda: counts and (counts[-1].asked, counts[-1].running, counts[-1].connected) == (0, 0, 0),
            "the worker stays",
        )
        time.sleep(2 * MIN_IDLE_SECONDS)
        assert (counts[-1].asked, counts[-1].running, counts[-1].connected) == (0, 0, 0)
    assert cluster.running() == 0


def doze(seconds: float, end: Path | None = None) -> None:
    """A task with a name that no other test uses."""
    nap(seconds, end=end)


def test_snapshot_of_the_scheduler(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    """It has the durations of finished and running tasks, and the waiting tasks. Scattered data is not a task."""
    before = set(client.run_on_scheduler(take_snapshot).done)
    data = client.scatter(numpy.zeros(10))
    client.gather(client.map(doze, [0.3] * 3, pure=False))
    end = tmp_path / "end"
    pending = client.map(doze, [0.0] * 3, end=end, pure=False)
    try:
        until(lambda: max(client.run_on_scheduler(take_snapshot).running.get("doze", [0])) > 0.5, "no task is running")
        snapshot = client.run_on_scheduler(take_snapshot)
        (count, seconds) = snapshot.done["doze"]
        assert set(snapshot.done) - before == {"doze"}
        assert key_split(data.key) not in snapshot.done
        assert (count, len(snapshot.running["doze"]), snapshot.waiting) == (3, 1, {"doze": 2})
        assert seconds >= 0.9
        assert sum(snapshot.processing.values()) + sum(snapshot.waiting.values()) >= 3
    finally:
        end.touch()
        client.gather(pending)


def test_pending_worker_is_cancelled(cluster: LocalCluster, client: Client) -> None:
    names = _names(client)
    cluster.add_workers(3)
    cluster.cancel_pending(5, names)
    assert cluster.requested() == 1
    assert _names(client) == names
    assert client.submit(nap, 0, 3).result(DEADLINE) == 3


def test_tasks_are_limited_by_memory() -> None:
    """Tasks wait until enough memory of a worker is free, whatever the number of its threads."""
    with (
        dask.config.set({"distributed.worker.resources.skjob-memory": 10}),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=4,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert client.run_on_scheduler(take_snapshot).at_once is None
        for need, at_once in ((0, 4), (3, 3), (6, 1)):
            pending = client.map(nap, [2.0] * 4, resources={"skjob-memory": need} if need else None, pure=False)
            until(lambda: sum(client.run_on_scheduler(take_snapshot).processing.values()), "the tasks did not start")
            snapshot = client.run_on_scheduler(take_snapshot)
            assert (snapshot.at_once, len(snapshot.running["nap"])) == (at_once, at_once)
            assert sum(snapshot.waiting.values()) == 4 - at_once
            client.cancel(pending, force=True)
            until(
                lambda: not sum(client.run_on_scheduler(take_snapshot).processing.values()),
                "the tasks were not cancelled",
            )
