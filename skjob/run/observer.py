"""Interfaces for those that observe a run: the recorder, which passes everything on, and the reporter for the user."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import Event
from skjob.errors import without_credentials
from skjob.utils.notify import Notify

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.costs.prices import Cost
    from skjob.deploy.scaling.loop import Progress
    from skjob.run.record import Record


class RunListener(Protocol):
    """Hears what happens while a run goes on. Called from the run's thread and from those that watch its cluster."""

    def notify(self, message: str) -> None:
        """Report a line that the user should read."""

    def workers(self, counts: WorkerCounts) -> None:
        """Report how many workers there are now."""

    def progress(self, progress: Progress) -> None:
        """Report how many tasks are done and how many are left."""

    def cost(self, cost: Cost, limit: float | None) -> None:
        """Report what the run has cost so far, and `--max-cost`, if it is set. Not called where no prices are known."""

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Report the most memory that each worker has used, in bytes, by its name."""

    def event(self, event: Event) -> None:
        """Report what a Parallel call of the program or one of its fits does, in the order in which it happens."""


class RunObserver(RunListener, Protocol):
    """Follows a run's steps too."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Enclose one step that the run waits for."""
        ...


class RunReporter(RunListener, Protocol):
    """Shows a run to a person, and its record at the end. It measures nothing: the recorder does."""

    def step_started(self, name: str) -> None:
        """Show a step that the run now waits for."""

    def step_done(self, name: str, seconds: float) -> None:
        """Show how long a step took that has succeeded."""

    def step_failed(self, name: str) -> None:
        """Take note that an error or a signal has ended a step."""

    def ended(self, record: Record) -> None:
        """Show how the run ended."""


class NoteObserver:
    """Writes notes, each of them once, and nothing else: for `skjob.cluster()` and `skjob up`.

    A cause that holds a worker back is found again and again.
    """

    def __init__(self, write: Notify) -> None:
        self._write = write
        self._written: set[str] = set()

    def notify(self, message: str) -> None:
        """Write a line, unless it was written before."""
        message = without_credentials(message)
        if message not in self._written:
            self._written.add(message)
            self._write(message)

    def step(self, name: str) -> AbstractContextManager[None]:
        """Write nothing."""
        return nullcontext()

    def workers(self, counts: WorkerCounts) -> None:
        """Write nothing."""

    def progress(self, progress: Progress) -> None:
        """Write nothing."""

    def cost(self, cost: Cost, limit: float | None) -> None:
        """Write nothing."""

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Write nothing."""

    def event(self, event: Event) -> None:
        """Write nothing."""
