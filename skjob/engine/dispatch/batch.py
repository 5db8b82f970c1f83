"""What joblib submits, the Dask tasks it is sent as, and the future that joblib waits on.

A batch is normally sent as one task. If that task ended its workers, each call of the batch is sent as a task of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.checkpoint.fit_key import FitIdentity
from skjob.engine.fidelity.effects.returned_arguments import ArgumentKey
from skjob.engine.fidelity.settings.packing import PackedSettings
from skjob.engine.joblib_calls import JoblibCall, describe
from skjob.engine.priorities import WorkEstimate
from skjob.engine.task import Outcome
from skjob.errors import lines_in_a_notebook


class WorkersLost(RuntimeError):
    """A call cannot be finished: no worker, no scheduler, or every worker that took it died."""

    def _render_traceback_(self) -> list[str]:
        return lines_in_a_notebook(self)


@dataclass(frozen=True)
class KnownResult:
    """The result of a call that did not run in this task: a stored fit, or a fit that is recorded as failed."""

    value: Any


CallResult = Outcome | KnownResult


class BatchFuture(Future[list[CallResult]]):
    """The results of a batch. `start` is the index of its first task in the Parallel call, `calls` are its tasks."""

    start = 0
    calls: Sequence[JoblibCall] = ()


@dataclass
class Batch:
    """The calls that joblib submitted together, and the result of each so far."""

    calls: list[JoblibCall]
    results: list[CallResult | None]
    identities: list[FitIdentity | None]
    estimates: list[WorkEstimate | None]
    start: int
    future: BatchFuture = field(default_factory=lambda: BatchFuture())
    failed: bool = False

    @property
    def complete(self) -> bool:
        """Whether each call has a result."""
        return None not in self.results

    def fail(self, error: BaseException) -> None:
        """Settle the batch with an error, unless it is settled."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass
class BatchTask:
    """The calls of a batch that are sent as one Dask task: usually all of them, one if the task is quarantined."""

    batch: Batch
    indices: list[int]
    quarantined: bool = False
    payload: bytes = b""
    settings: PackedSettings | None = None
    data: dict[str, Any] = field(default_factory=dict)
    """The shared data that the payload refers to, by key."""
    live_arguments: list[tuple[ArgumentKey, ...]] | None = None
    """For each call, the arguments that the program still references; None if plain Python shares none with it."""
    priority: float = 0.0
    tries: int = 0
    sent_at: float = 0.0
    key: str = ""
    remote: Any = None
    """The Dask future, once the task is sent."""

    @property
    def calls(self) -> list[JoblibCall]:
        """The calls of this task."""
        return [self.batch.calls[index] for index in self.indices]

    @property
    def name(self) -> str:
        """How messages name the task: by its first call."""
        return describe(self.batch.calls[self.indices[0] if self.indices else 0])
