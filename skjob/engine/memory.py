"""Limit how many fits a worker runs at once if its memory is too small for one in each thread.

A fit needs a second copy of its data, for the rows of its fold, and what the estimator itself declares. If a worker has
room for that in each of its threads, nothing is reserved. If not, each worker's memory is a resource of Dask's, of
which each task takes its part; a task that needs all of it runs alone.

An estimator declares what it needs besides its data with a method `memory_needed(data_bytes: int) -> int`, in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.transfer.task_pickler import large_size
from skjob.engine.transfer.worker_plugins import register_plugin
from skjob.utils.dask_client import workers_of

RESOURCE = "skjob-memory"

USABLE = 0.7
"""Share of a worker's memory for tasks: Dask pauses a worker at 80 %, which includes interpreter and libraries."""


def needed(calls: list[JoblibCall], data: Iterable[Any]) -> int:
    """Return the bytes that a task needs besides the shared data: a copy of it, and what its largest fit declares."""
    data_bytes = sum(large_size(value) for value in data)
    return data_bytes + max((_declared(call, data_bytes) for call in calls), default=0)


def _declared(call: JoblibCall, data_bytes: int) -> int:
    try:
        _, arguments, _ = call
        return max(0, int(arguments[0].memory_needed(data_bytes)))  # scikit-learn puts the estimator first
    except Exception:  # most calls have no such estimator
        return 0


class MemoryResource(WorkerPlugin):  # type: ignore[misc]
    """Declares a worker's memory as a resource, also for workers that join later."""

    name = "skjob-memory"
    idempotent = True

    async def setup(self, worker: Any) -> None:
        """Declare the resource. Each worker calls it as it joins."""
        if worker.memory_manager.memory_limit:
            await worker.set_resources(**{RESOURCE: int(worker.memory_manager.memory_limit * USABLE)})


class WorkerMemory:
    """The usable memory of a cluster's smallest worker, looked up when a task first needs much."""

    MIN_RESERVED = 32 * 2**20
    """Bytes below which a task reserves nothing."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._usable: int | None = None
        self._threads = 1

    def reserved(self, need: int) -> dict[str, int] | None:
        """Return the resources that a task with this need reserves; None if the worker's threads are limit enough."""
        if need < self.MIN_RESERVED:
            return None
        with self._lock:
            if self._usable is None:
                self._look_up()
        if not self._usable or self._threads == 1 or need * self._threads <= self._usable:
            return None
        return {RESOURCE: min(need, self._usable)}

    def _look_up(self) -> None:
        try:
            workers = workers_of(self._client).values()
        except (TimeoutError, OSError):
            return  # later tasks try again, as if there is no worker yet
        if not workers:
            return
        limits = [worker["memory_limit"] or 0 for worker in workers]
        self._usable = int(min(limits) * USABLE)  # 0 if there is no limit
        self._threads = max(worker["nthreads"] for worker in workers)
        if self._threads > 1:
            register_plugin(self._client, MemoryResource())
