"""State of a run as reported so far, for display. Thread-safe: several threads report, another one draws."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import Event
from skjob.run.events.searches import Searches


@dataclass(frozen=True)
class CostSoFar:
    """Cost of a run so far, and its limit if there is one."""

    amount: float
    currency: str
    limit: float | None = None


@dataclass
class RunState:
    """The searches of a run, its workers and its cost. Hold `lock` while reading more than one of them."""

    began: float = field(default_factory=time.time)
    searches: Searches = field(default_factory=Searches)
    workers: WorkerCounts | None = None
    max_workers: int = 0
    """Maximum number of workers that were connected at the same time."""
    cost: CostSoFar | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, event: Event) -> None:
        """Add an event of the engine."""
        with self.lock:
            self.searches.add(event)

    def set_workers(self, counts: WorkerCounts) -> None:
        """Record how many workers there are."""
        with self.lock:
            self.workers = counts
            self.max_workers = max(self.max_workers, counts.connected)

    def set_cost(self, cost: CostSoFar) -> None:
        """Record what the run has cost."""
        with self.lock:
            self.cost = cost
