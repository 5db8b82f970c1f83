"""What is known of a cluster of this process, added up from what a run's parts report. It shows nothing itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import Event
from skjob.errors import without_credentials
from skjob.run.live.state import CostSoFar

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.costs.prices import Cost
    from skjob.deploy.scaling.loop import Progress


class Status(StrEnum):
    """The state of a cluster, from its start to its end."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "not started"


@dataclass
class ClusterState:
    """A cluster as it is shown. `place` says where it runs, `size` how large each worker is, and `step` what its start
    waits for. `link` is the address of its dashboard, if that can be opened."""

    status: Status = Status.STARTING
    name: str = ""
    place: str = ""
    size: str = ""
    step: str = ""
    workers: WorkerCounts | None = None
    cost: CostSoFar | None = None
    link: str = ""
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    ended: float | None = None


class View(Protocol):
    """Shows a cluster and the work on it. Called from several threads; never raises."""

    @property
    def wants_events(self) -> bool:
        """Whether `event` does anything: else nobody has to report them."""
        ...

    def note(self, line: str) -> None:
        """Show a line that the user should read."""

    def changed(self) -> None:
        """Take note that the state has changed."""

    def event(self, event: Event) -> None:
        """Show what a Parallel call or one of its fits does."""

    @property
    def cell_has_calls(self) -> bool:
        """Whether the current cell has made calls that are shown."""
        ...

    def begin_cell(self) -> None:
        """Take note that another cell begins."""

    def refresh(self) -> None:
        """Show the latest state."""

    def show_card(self) -> None:
        """Show the cluster, where it can be shown beside the work on it."""

    def close(self) -> None:
        """Show the last state, for good."""


class ClusterObserver:
    """Keeps the state of a cluster (`RunObserver`), and passes on to a view what it has to show."""

    def __init__(self, state: ClusterState, view: View) -> None:
        self.state = state
        self.view = view
        self.is_lost: Callable[[], bool] = lambda: False
        """Whether the cluster was lost; a line then says so."""
        self._lock = threading.Lock()

    def notify(self, message: str) -> None:
        """Show a line, unless it was shown before: a cause that holds a worker back is found again and again."""
        message = without_credentials(message)
        with self._lock:
            if message in self.state.notes:
                return
            self.state.notes.append(message)
        if self.state.status is Status.READY and self.is_lost():
            self.state.status = Status.LOST
            self.state.link = ""
        self.view.note(message)

    def notify_again(self, message: str) -> None:
        """Show a line of the current cell, also one that was shown before."""
        message = without_credentials(message)
        with self._lock:
            self.state.notes = [note for note in self.state.notes if note != message] + [message]
        self.view.note(message)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what the start waits for within the block."""
        self.state.step = name
        self.view.changed()
        yield
        self.state.step = ""

    def workers(self, counts: WorkerCounts) -> None:
        """Take note of how many workers there are."""
        self.state.workers = counts
        self.view.changed()

    def progress(self, progress: Progress) -> None:
        """Ignore: events carry more detail."""

    def cost(self, cost: Cost, limit: float | None) -> None:
        """Take note of what the cluster has cost so far."""
        self.state.cost = CostSoFar(cost.amount, cost.currency, limit)
        self.view.changed()

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Ignore."""

    def event(self, event: Event) -> None:
        """Pass on what a Parallel call does."""
        self.view.event(event)

    def set_status(self, status: Status) -> None:
        """Record the cluster's status."""
        self.state.status = status
        if status in (Status.CLOSED, Status.FAILED):
            self.state.ended = time.time()
        self.view.changed()
