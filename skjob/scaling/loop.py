"""Applies the policy: one loop a cluster, in a thread of the parent process.

It is the only place that asks for workers or releases them while a program runs. Releasing is done in the one order
that works with the Dask operator: the scheduler retires the worker by name, which moves its data away and lets no new
task in; then the cluster ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skjob.cluster.base import Cluster, WorkerCounts
from skjob.config import WorkerRange
from skjob.errors import ClusterLost, StartError
from skjob.scaling.policy import Decision, Demand, Worker, decide

INTERVAL = 1.0

TELL_EVERY = 10.0
"""Seconds between two lines about the progress."""


@dataclass(frozen=True)
class Progress:
    """Tasks that are done, and those waiting or running."""

    done: int
    to_go: int


def scheduler_demand(dask_scheduler: Any = None) -> tuple[int, int, dict[str, int]]:
    """Runs on the scheduler: tasks done, tasks waiting or running, and how many of them each worker has, by name."""
    workers = dask_scheduler.workers.values()
    waiting = len(dask_scheduler.unrunnable) + len(dask_scheduler.queued)
    processing = {str(worker.name): len(worker.processing) for worker in workers}
    # Data that was scattered gets into memory too, but was never processed.
    done = sum(
        prefix.state_counts["memory"]
        for prefix in dask_scheduler.task_prefixes.values()
        if prefix.state_counts["processing"]
    )
    return done, waiting + sum(processing.values()), processing


class ScalingLoop:
    """Keeps the number of workers at what the policy wants.

    `observe` is called with the counts each time, `progress` now and then, `complain` with what holds a worker back,
    and `lost` with the error that ends the run, when the cluster has not been seen for `patience` seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: Any,
        limits: WorkerRange,
        threads: int,
        patience: float,
        *,
        observe: Callable[[WorkerCounts], None],
        progress: Callable[[Progress], None],
        complain: Callable[[str], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._limits = limits
        self._threads = threads
        self._patience = patience
        self._failing_since: float | None = None
        self._observe = observe
        self._progress = progress
        self._told = (0.0, Progress(0, 0))
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

    def unseen_for(self) -> float:
        """Seconds since the scheduler, or the API, was first found not to answer; 0 where all is well."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self._tick()
                self._failing_since = None
            except Exception as error:
                # A connection that breaks is made again; a scheduler that is gone is not.
                self._failing_since = self._failing_since or time.monotonic()
                if self.unseen_for() > self._patience:
                    self._lost(error)
                    return

    def _tick(self) -> None:
        done, tasks, processing = self._client.run_on_scheduler(scheduler_demand)
        self._tell(Progress(done, tasks))
        demand = Demand(tasks, self._workers(processing))
        asked = self._cluster.asked()
        self._observe(WorkerCounts(asked, self._cluster.running(), len(processing)))
        if len(processing) < asked:
            self._look_for_problems(alone=not processing)
        if self._limits.adaptive:
            self._apply(decide(demand, asked, self._limits, self._threads))

    def _look_for_problems(self, *, alone: bool) -> None:
        """What keeps a worker from running is worth a word; it ends the run where no other worker is left."""
        try:
            for problem in self._cluster.problems():
                self._complain(problem)
        except StartError as error:
            if alone:
                self._lost(ClusterLost(f"no worker is left: {error.message}", error.hint))
                self._stop.set()
            else:
                self._complain(error.message)

    def _tell(self, progress: Progress) -> None:
        at, last = self._told
        if progress != last and time.monotonic() - at > TELL_EVERY:
            self._told = (time.monotonic(), progress)
            self._progress(progress)

    def _workers(self, processing: dict[str, int]) -> tuple[Worker, ...]:
        now = time.monotonic()
        self._idle_since = {name: self._idle_since.get(name, now) for name, tasks in processing.items() if tasks == 0}
        return tuple(Worker(name, now - self._idle_since.get(name, now)) for name in processing)

    def _apply(self, decision: Decision) -> None:
        if decision.total is not None:
            self._cluster.add_workers(decision.total)
        if decision.release:
            names = list(decision.release)
            # One that the scheduler could not retire, because nobody could take its data, stays.
            retired = self._client.retire_workers(names=names, close_workers=False)
            self._cluster.remove_workers([str(worker["name"]) for worker in retired.values()])
