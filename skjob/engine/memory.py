"""How many fits a worker takes at once, where its memory is too small for as many as it has threads.

A fit needs its data once more than the worker has it, for the rows of its fold, and what the estimator itself says it
needs. Where that fits on a worker as often as it has threads, nothing is declared. Where not, each worker's memory is a
resource of Dask's, of which each task takes its part; a task that needs all of it runs alone.

An estimator says what it needs with a method `memory_needed(data_bytes: int) -> int`, in bytes, beside its data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.transfer.task_pickler import large_size
from skjob.engine.transfer.worker_plugins import register
from skjob.utils.dask_client import workers_of

RESOURCE = "skjob-memory"

USABLE = 0.7
"""Of a worker's memory: Dask stops giving a worker tasks at 80 %, and interpreter and libraries have some of that."""


def needed(calls: list[JoblibCall], data: Iterable[Any]) -> int:
    """Bytes that a task needs beside the shared data itself: a copy of it, and what its largest fit asks for."""
    data_bytes = sum(large_size(value) for value in data)
    return data_bytes + max((_own(call, data_bytes) for call in calls), default=0)


def _own(call: JoblibCall, data_bytes: int) -> int:
    try:
        _, arguments, _ = call
        return max(0, int(arguments[0].memory_needed(data_bytes)))  # scikit-learn puts the estimator first
    except Exception:  # most calls have no such estimator
        return 0


class MemoryResource(WorkerPlugin):  # type: ignore[misc]
    """Declares a worker's memory as a resource, also of those that join later."""

    name = "skjob-memory"
    idempotent = True

    async def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        if worker.memory_manager.memory_limit:
            await worker.set_resources(**{RESOURCE: int(worker.memory_manager.memory_limit * USABLE)})


class WorkerMemory:
    """What the smallest worker of a cluster can give, looked up when a task first needs much."""

    MUCH = 32 * 2**20
    """Bytes below which no task counts."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._usable: int | None = None
        self._threads = 1

    def reserved(self, need: int) -> dict[str, int] | None:
        """The resources that a task with this need takes; None where the worker's threads are limit enough."""
        if need < self.MUCH:
            return None
        with self._lock:
            if self._usable is None:
                self._look()
        if not self._usable or self._threads == 1 or need * self._threads <= self._usable:
            return None
        return {RESOURCE: min(need, self._usable)}

    def _look(self) -> None:
        try:
            workers = workers_of(self._client).values()
        except (TimeoutError, OSError):
            return  # later tasks look again, as where there is no worker yet
        if not workers:
            return
        limits = [worker["memory_limit"] or 0 for worker in workers]
        self._usable = int(min(limits) * USABLE)  # 0 where there is no limit
        self._threads = max(worker["nthreads"] for worker in workers)
        if self._threads > 1:
            register(self._client, MemoryResource())
