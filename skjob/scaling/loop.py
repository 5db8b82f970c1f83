"""Applies the policy: one loop a cluster, in a thread of the parent process.

It is the only place that asks for workers or releases them while a program runs. Releasing is done in the one order
that works with the Dask operator: the scheduler retires the worker by name, which moves its data away and lets no new
task in; then the cluster ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from skjob.cluster.base import Cluster, WorkerCounts
from skjob.config import WorkerRange
from skjob.scaling.policy import Decision, Demand, Worker, decide

INTERVAL = 1.0


def scheduler_demand(dask_scheduler: Any = None) -> tuple[int, dict[str, int]]:
    """Runs on the scheduler: tasks waiting or running, and for each worker, by name, how many it has."""
    workers = dask_scheduler.workers.values()
    waiting = len(dask_scheduler.unrunnable) + len(dask_scheduler.queued)
    processing = {str(worker.name): len(worker.processing) for worker in workers}
    return waiting + sum(processing.values()), processing


class ScalingLoop:
    """Keeps the number of workers at what the policy wants.

    `observe` is called with the counts each time, `complain` with what holds a worker back, and `lost` with an error
    that ends the run.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: Any,
        limits: WorkerRange,
        threads: int,
        *,
        observe: Callable[[WorkerCounts], None],
        complain: Callable[[str], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._limits = limits
        self._threads = threads
        self._observe = observe
        self._complain = complain
        self._lost = lost
        self._idle_since: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-scaling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until nothing is under way any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self._tick()
            except Exception as error:
                if not self._stop.is_set():
                    self._lost(error)
                return

    def _tick(self) -> None:
        tasks, processing = self._client.run_on_scheduler(scheduler_demand)
        demand = Demand(tasks, self._workers(processing))
        asked = self._cluster.asked()
        self._observe(WorkerCounts(asked, self._cluster.running(), len(processing)))
        if len(processing) < asked:
            for problem in self._cluster.problems():
                self._complain(problem)
        if self._limits.adaptive:
            self._apply(decide(demand, asked, self._limits, self._threads))

    def _workers(self, processing: dict[str, int]) -> tuple[Worker, ...]:
        now = time.monotonic()
        self._idle_since = {name: self._idle_since.get(name, now) for name, tasks in processing.items() if tasks == 0}
        return tuple(Worker(name, now - self._idle_since.get(name, now)) for name in processing)

    def _apply(self, decision: Decision) -> None:
        if decision.total is not None:
            self._cluster.add_workers(decision.total)
        if decision.release:
            names = list(decision.release)
            self._client.retire_workers(names=names, close_workers=False)
            self._cluster.remove_workers(names)
