"""Where a worker's memory is too small for a task on each of its threads, each task takes its part of it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from client_loop import client_loop
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from skjob.engine.memory import RESOURCE, USABLE, MemoryResource, WorkerMemory, needed
from skjob.engine.transfer.received_data import Pickled

X = numpy.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)

GB = 10**9


class Hungry(BaseEstimator):  # type: ignore[misc]
    """Says what it needs: `times` the data, or whatever else `times` is."""

    def __init__(self, times: Any = 0) -> None:
        self.times = times

    def fit(self, X: Any, y: Any) -> Any:
        return self

    def score(self, X: Any, y: Any) -> float:
        return 1.0

    def memory_needed(self, data_bytes: int) -> Any:
        if self.times == "error":
            raise RuntimeError("cannot tell")
        return self.times if isinstance(self.times, str) else self.times * data_bytes


def _plain(*arguments: Any) -> Any:
    return arguments


# ------------------------------------------------------------------------------------------------- what a task needs

DATA = numpy.zeros(1000)  # 8,000 bytes


@pytest.mark.parametrize(
    ("calls", "data", "bytes_needed"),
    [
        ([], [], 0),
        ([(_plain, (), {})], [], 0),
        ([(_plain, (DATA,), {})], [DATA], 8000),
        ([(_plain, (1, 2), {})], [DATA, DATA, Pickled(b"x" * 500)], 16_500),
        ([(_plain, (SVC(),), {})], [DATA], 8000),
        ([(_plain, (Hungry(3), DATA), {})], [DATA], 8000 + 24_000),
        ([(_plain, (Hungry(1.5), DATA), {})], [DATA], 8000 + 12_000),
        ([(_plain, (Hungry(1),), {}), (_plain, (Hungry(5),), {}), (_plain, (SVC(),), {})], [DATA], 8000 + 40_000),
        ([(_plain, (Hungry(-3),), {})], [DATA], 8000),
        ([(_plain, (Hungry("error"),), {})], [DATA], 8000),
        ([(_plain, (Hungry("much"),), {})], [DATA], 8000),
        ([(_plain, (DATA, Hungry(3)), {})], [DATA], 8000),
    ],
)
def test_a_task_needs_its_data_again_and_what_its_hungriest_estimator_says(
    calls: Any, data: Any, bytes_needed: int
) -> None:
    assert needed(calls, data) == bytes_needed


def test_a_fit_of_a_search_is_asked_too(recorded: Callable[..., Any]) -> None:
    with recorded() as calls:
        GridSearchCV(Hungry(2), {"times": [2]}, cv=2, refit=False).fit(X, y)
    assert [needed([call], [X]) for call in calls] == [3 * X.nbytes] * 2


# ------------------------------------------------------------------------------------------------- what it reserves


class FakeClient:
    """Has workers of these memory limits and threads."""

    def __init__(self, *workers: tuple[int | None, int]) -> None:
        self.workers = workers
        self.loop = client_loop()
        self.extensions: dict[str, Any] = {}
        self.looks = 0
        self.plugins: list[Any] = []
        self.scheduler = self

    def scheduler_info(self, n_workers: int) -> Any:
        assert n_workers == 0
        return {"id": "the scheduler"}

    async def identity(self, n_workers: int) -> Any:
        assert n_workers == -1  # all of them, not the first few
        self.looks += 1
        described = [{"memory_limit": limit, "nthreads": threads} for limit, threads in self.workers]
        return {"workers": dict(enumerate(described))}

    async def register_plugin(self, plugin: Any) -> None:
        self.plugins.append(plugin)


@pytest.mark.parametrize(
    ("workers", "need", "reserved"),
    [
        ([(10 * GB, 4)], 0, None),
        ([(10 * GB, 4)], WorkerMemory.MIN_RESERVED - 1, None),
        ([(10 * GB, 4)], GB, None),  # 4 threads, 7 GB
        ([(10 * GB, 4)], 1_750_000_000, None),
        ([(10 * GB, 4)], 1_750_000_001, 1_750_000_001),
        ([(10 * GB, 4)], 3 * GB, 3 * GB),
        ([(10 * GB, 4)], 50 * GB, 7 * GB),  # alone, and it may do or not
        ([(10 * GB, 1)], 3 * GB, None),  # alone anyway
        ([(10 * GB, 1)], 50 * GB, None),
        ([(10 * GB, 1), (10 * GB, 2)], 4 * GB, 4 * GB),
        ([(40 * GB, 4), (4 * GB, 4)], 2 * GB, 2 * GB),  # it may come to the smallest
        ([(40 * GB, 4), (4 * GB, 4)], 20 * GB, 2_800_000_000),  # and must not wait for ever for one that has as much
        ([(100 * 2**20, 2)], WorkerMemory.MIN_RESERVED, None),
        ([(90 * 2**20, 2)], WorkerMemory.MIN_RESERVED, WorkerMemory.MIN_RESERVED),
        ([(None, 4)], 50 * GB, None),
        ([(0, 4)], 50 * GB, None),
        ([(10 * GB, 4), (None, 4)], 50 * GB, None),
        ([], 50 * GB, None),
    ],
)
def test_a_task_reserves_memory_where_threads_are_no_limit(
    workers: list[tuple[int | None, int]], need: int, reserved: int | None
) -> None:
    assert WorkerMemory(FakeClient(*workers)).reserved(need) == (reserved if reserved is None else {RESOURCE: reserved})


def test_workers_are_looked_at_once_and_only_when_much_is_needed() -> None:
    client = FakeClient((10 * GB, 4))
    memory = WorkerMemory(client)
    memory.reserved(1000)
    assert client.looks == 0
    for _ in range(3):
        memory.reserved(3 * GB)
    assert client.looks == 1


def test_the_resource_is_declared_before_a_task_asks_for_it() -> None:
    """Else no worker would ever have it, and the task would wait for ever."""
    client = FakeClient((10 * GB, 4))
    assert WorkerMemory(client).reserved(3 * GB) is not None
    [plugin] = client.plugins
    assert isinstance(plugin, MemoryResource)
    alone = FakeClient((10 * GB, 1))
    WorkerMemory(alone).reserved(3 * GB)
    assert alone.plugins == []


def test_a_cluster_without_workers_is_looked_at_again() -> None:
    client = FakeClient()
    memory = WorkerMemory(client)
    assert memory.reserved(3 * GB) is None
    client.workers = ((10 * GB, 4),)
    assert memory.reserved(3 * GB) == {RESOURCE: 3 * GB}


@pytest.mark.parametrize(("limit", "declared"), [(10 * GB, {RESOURCE: 7 * GB}), (None, {}), (0, {})])
def test_a_worker_declares_what_can_be_used_of_its_memory(limit: int | None, declared: dict[str, int]) -> None:
    resources: dict[str, int] = {}

    async def set_resources(**given: int) -> None:
        resources.update(given)

    worker = SimpleNamespace(memory_manager=SimpleNamespace(memory_limit=limit), set_resources=set_resources)
    asyncio.run(MemoryResource().setup(worker))
    assert resources == declared


@pytest.mark.parametrize("limit", [2**30, 10 * GB, 10 * GB + 1, 33_333_333_333])
def test_a_task_that_needs_all_fits_on_the_smallest_worker(limit: int) -> None:
    """Both round in the same direction: a byte too much, and it would wait for ever."""
    reserved = WorkerMemory(FakeClient((limit, 2), (limit + 1, 2))).reserved(10 * limit)
    assert reserved == {RESOURCE: int(limit * USABLE)}
