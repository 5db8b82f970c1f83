"""The scaling loop on a real cluster of this machine: who is asked for, who goes, and that no task is lost by it."""

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

KEPT = 1.0
"""Seconds for which a worker without work stays, at least."""

pytestmark = pytest.mark.usefixtures("send_small_calls_to_workers")


@pytest.fixture(scope="module", autouse=True)
def soon() -> Iterator[None]:
    """The loop looks often, and lets workers go soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skjob.deploy.scaling.loop.INTERVAL", 0.2)
        patch.setattr("skjob.deploy.scaling.policy.MIN_IDLE_SECONDS", KEPT)
        yield


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    size = WorkerSize(cpu=0.5, memory=2**30, threads=1)
    preload = ("sklearn.model_selection",)
    cluster = LocalCluster("scaling", tmp_path_factory.mktemp("scaling"), 1, size, 3, preload)
    try:
        with pytest.MonkeyPatch.context() as patch:  # it imports this module, with what that imports
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def client(warm: LocalCluster) -> Iterator[Client]:
    """Of a cluster with one worker of one thread, which has nothing to do."""
    with Client(warm.address, security=warm.tls.security(), set_as_default=False) as client:
        until(lambda: not client.run_on_scheduler(_tasks), "the test before has left tasks")
        warm.cancel_pending(warm.requested(), _names(client))
        until(lambda: _one_is_there(warm, client), "there are other workers than one")
        yield client


@pytest.fixture
def cluster(warm: LocalCluster, client: Client) -> LocalCluster:
    """The client's."""
    return warm


def _tasks(dask_scheduler: Any = None) -> list[Any]:
    return list(dask_scheduler.tasks)


def _one_is_there(cluster: LocalCluster, client: Client) -> bool:
    """Whether it is so; brings it about."""
    names = _names(client)
    if not names:
        _add(cluster, client, 1)
    elif gone := client.run_on_scheduler(release_workers, names[1:]):
        cluster.remove_workers(gone)
    return len(_names(client)) == cluster.requested() == cluster.running() == 1


@contextmanager
def _scaled(cluster: LocalCluster, client: Client, limits: WorkerRange) -> Iterator[list[WorkerCounts]]:
    seen: list[WorkerCounts] = []
    lost: list[Exception] = []
    loop = ScalingLoop(
        cluster,
        client,
        limits,
        1,
        reconnect_timeout=DEADLINE,
        observe=seen.append,
        progress=lambda _: None,
        notify=lambda _: None,
        lost=lost.append,
        usual_start=2.0,
    )
    loop.start()
    try:
        yield seen
    finally:
        loop.stop()
    assert lost == []


def _names(client: Client) -> list[str]:
    return sorted(client.run_on_scheduler(take_snapshot).processing)


def _add(cluster: LocalCluster, client: Client, total: int) -> None:
    cluster.add_workers(total)
    client.wait_for_workers(total, timeout=DEADLINE)


def nap(seconds: float, number: int = 0, over: Path | None = None) -> int:
    """Take at least so long, and until there is this file."""
    time.sleep(seconds)
    if over is not None:
        until(over.exists, "nobody ends it")
    return number


def test_workers_come_for_work_and_go_when_it_is_done(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    over = tmp_path / "over"
    with _scaled(cluster, client, WorkerRange(1, 3)) as seen:
        futures = client.map(nap, [0.1] * 20, range(20), over=over, pure=False)
        until(lambda: seen and seen[-1].connected == 3, "not all workers come")
        over.touch()
        assert client.gather(futures) == list(range(20))
        del futures
        until(lambda: (seen[-1].asked, seen[-1].connected) == (1, 1), f"not back at one worker: {seen[-1]}")
    assert all(1 <= counts.asked <= 3 for counts in seen)


def test_the_last_goes_with_shared_data_and_another_comes_when_there_is_work(
    cluster: LocalCluster, client: Client
) -> None:
    data = numpy.arange(200_000.0)
    backend = SkjobBackend(client, width=2, wait_for_workers=DEADLINE)

    def totals() -> list[float]:
        with joblib.parallel_config(backend=backend, n_jobs=-1):
            return joblib.Parallel()(joblib.delayed(numpy.sum)(data) for _ in range(4))

    with _scaled(cluster, client, WorkerRange(0, 2)) as seen:
        assert totals() == [data.sum()] * 4
        assert client.run_on_scheduler(_scattered), "no data is shared, so there is nothing to lose"
        until(lambda: seen and (seen[-1].asked, seen[-1].connected) == (0, 0), "the last worker does not go")
        gone = len(seen)
        assert totals() == [data.sum()] * 4
        # What it saw last may be from before it asked.
        until(lambda: any(1 <= counts.asked <= 2 for counts in seen[gone:]), "no worker was asked for")


def _scattered(dask_scheduler: Any = None) -> list[str]:
    return [task.key for task in dask_scheduler.tasks.values() if task.run_spec is None and task.who_has]


def test_the_last_stays_where_somebody_wants_its_results(cluster: LocalCluster, client: Client) -> None:
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


def test_who_has_got_a_task_meanwhile_stays(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    over = tmp_path / "over"
    _add(cluster, client, 2)
    first, second = _names(client)
    task = client.submit(nap, 0, 5, over, workers=[int(first)], pure=False)
    until(lambda: client.run_on_scheduler(take_snapshot).processing[first], "the task did not begin")
    assert client.run_on_scheduler(release_workers, [first, second]) == [second]
    cluster.remove_workers([second])
    over.touch()
    assert task.result(DEADLINE) == 5
    assert _names(client) == [first]


def test_no_task_is_lost_or_done_twice_when_it_comes_as_workers_go(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    """Tasks come all the time, one by one, while workers are let go: each is done, and leaves one mark."""
    _add(cluster, client, 3)
    marks = tmp_path / "marks"
    marks.mkdir()

    def mark(folder: str, number: int) -> int:
        with (Path(folder) / str(number)).open("a") as file:
            file.write("x")
        time.sleep(0.02)
        return number

    futures: list[Future] = []
    over = threading.Event()

    def keep_coming() -> None:
        while not over.wait(0.03):
            futures.append(client.submit(mark, str(marks), len(futures), pure=False))

    thread = threading.Thread(target=keep_coming)
    thread.start()
    try:
        until(lambda: futures, "no task comes")
        deadline = time.monotonic() + DEADLINE
        while len(_names(client)) > 1 and time.monotonic() < deadline:
            gone = client.run_on_scheduler(release_workers, _names(client)[1:])
            if gone:
                cluster.remove_workers(gone)
    finally:
        over.set()
        thread.join()
    assert len(_names(client)) == 1
    assert client.gather(futures) == list(range(len(futures)))
    assert {file.read_text() for file in marks.iterdir()} == {"x"}
    assert len(list(marks.iterdir())) == len(futures) > 0


def test_a_released_worker_does_not_come_back(cluster: LocalCluster, client: Client) -> None:
    with _scaled(cluster, client, WorkerRange(0, 1)) as seen:
        until(lambda: seen and (seen[-1].asked, seen[-1].running, seen[-1].connected) == (0, 0, 0), "it stays")
        time.sleep(2 * KEPT)
        assert (seen[-1].asked, seen[-1].running, seen[-1].connected) == (0, 0, 0)
    assert cluster.running() == 0


def doze(seconds: float, over: Path | None = None) -> None:
    """A kind of task that no other test has."""
    nap(seconds, over=over)


def test_what_the_scheduler_is_asked(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    """How long tasks take, which run and for how long, and which wait; scattered data is no task."""
    before = set(client.run_on_scheduler(take_snapshot).done)
    data = client.scatter(numpy.zeros(10))
    client.gather(client.map(doze, [0.3] * 3, pure=False))
    over = tmp_path / "over"
    held = client.map(doze, [0.0] * 3, over=over, pure=False)
    try:
        until(
            lambda: max(client.run_on_scheduler(take_snapshot).running.get("doze", [0])) > 0.5, "nobody tells what runs"
        )
        sight = client.run_on_scheduler(take_snapshot)
        (count, seconds) = sight.done["doze"]
        assert set(sight.done) - before == {"doze"}
        assert key_split(data.key) not in sight.done
        assert (count, len(sight.running["doze"]), sight.waiting) == (3, 1, {"doze": 2})
        assert seconds >= 0.9
        assert sum(sight.processing.values()) + sum(sight.waiting.values()) >= 3
    finally:
        over.touch()
        client.gather(held)


def test_a_worker_that_has_not_come_is_taken_back(cluster: LocalCluster, client: Client) -> None:
    names = _names(client)
    cluster.add_workers(3)
    cluster.cancel_pending(5, names)
    assert cluster.requested() == 1
    assert _names(client) == names
    assert client.submit(nap, 0, 3).result(DEADLINE) == 3


def test_tasks_that_need_all_the_memory_run_one_at_a_time() -> None:
    """Two threads are no use to them: each waits for a worker of its own."""
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
            held = client.map(nap, [2.0] * 4, resources={"skjob-memory": need} if need else None, pure=False)
            until(lambda: sum(client.run_on_scheduler(take_snapshot).processing.values()), "the tasks did not begin")
            sight = client.run_on_scheduler(take_snapshot)
            assert (sight.at_once, len(sight.running["nap"])) == (at_once, at_once)
            assert sum(sight.waiting.values()) == 4 - at_once
            client.cancel(held, force=True)
            until(
                lambda: not sum(client.run_on_scheduler(take_snapshot).processing.values()), "the tasks are still there"
            )
