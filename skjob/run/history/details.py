"""Details of a past run: its searches with their candidates, other calls, failures by cause, and its workers.

`collect.py` fills them in; `skjob show` and the report read them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from skjob.engine.events import CallStarted
from skjob.run.events.searches import CallProgress, Candidate, float_sum
from skjob.run.record import Record


@dataclass
class CandidateDetails:
    """A candidate with what `Candidate` omits: when it was done, and all of its metrics."""

    candidate: Candidate
    iteration: int | None
    ended: float = 0.0
    scores: dict[str, list[float]] = field(default_factory=dict)
    train_scores: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, metric: str, *, train: bool = False) -> float:
        """Return the mean of a metric over the splits that have it."""
        scores = (self.train_scores if train else self.scores).get(metric, [])
        return float_sum(scores) / len(scores) if scores else math.nan

    @property
    def mean_seconds(self) -> float | None:
        """Mean seconds of its fits, if one of them ran in this run."""
        return self.candidate.seconds / self.candidate.measured if self.candidate.measured else None


@dataclass
class SearchDetails:
    """A search: its calls, one or one for each iteration of a halving search, and their candidates."""

    calls: list[CallProgress]
    candidates: list[CandidateDetails]
    """The best first; later iterations before earlier ones."""
    best: CandidateDetails | None
    metric: str
    """The metric that the candidates are ordered by."""
    chosen_by_callable: bool = False

    @property
    def started(self) -> CallStarted:
        """The start of its first call."""
        return self.calls[0].started

    @property
    def halving(self) -> bool:
        """Whether it is a halving search, which has iterations."""
        return self.started.iteration is not None

    @property
    def title(self) -> str:
        """The classes of the search and of its estimator."""
        return title(self.started)

    @property
    def done(self) -> int:
        """Number of its fits that have finished."""
        return sum(call.done for call in self.calls)

    @property
    def total(self) -> int:
        """Number of its fits, as far as known."""
        return sum(max(call.done, call.total or 0) for call in self.calls)

    @property
    def reused(self) -> int:
        """Number of its fits that were reused."""
        return sum(call.reused for call in self.calls)

    @property
    def failed(self) -> int:
        """Number of its fits that failed."""
        return sum(call.failed for call in self.calls)

    @property
    def ordering(self) -> str:
        """Description of the order of its candidates; empty if it has one metric."""
        if self.chosen_by_callable:
            return f"ordered by `{self.metric}`, although a callable of the program chooses the best"
        if self.started.metric_is_first:
            return f"ordered by `{self.metric}`, the first of its metrics"
        return "" if self.metric in ("", "score") else f"ordered by `{self.metric}`"

    @cached_property
    def varying(self) -> list[str]:
        """Parameters that differ between candidates, in the search's order."""
        values: dict[str, set[str | None]] = {}
        for each in self.candidates:
            for name in each.candidate.parameters:
                values.setdefault(name, set())
        for name, distinct in values.items():
            distinct.update(each.candidate.parameters.get(name) for each in self.candidates)
        return [name for name, distinct in values.items() if len(distinct) > 1]

    @property
    def fixed(self) -> dict[str, str]:
        """Parameters with the same value in all candidates."""
        varying = set(self.varying)
        first = self.candidates[0].candidate.parameters if self.candidates else {}
        return {name: value for name, value in first.items() if name not in varying}


@dataclass
class CallGroup:
    """Parallel calls that belong to no search, grouped by function and estimator."""

    title: str
    calls: int = 0
    done: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    scores: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class FailureGroup:
    """Fits that failed for the same reason. Errors that differ only in numbers are the same."""

    error: str
    fits: int = 0
    example: str = ""
    """The parameters of one of them."""
    workers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Span:
    """A time in which a worker ran a fit or several tasks. `started` is in seconds since the epoch."""

    started: float
    seconds: float
    failed: bool = False

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.started + self.seconds


@dataclass
class WorkerDetails:
    """What a worker did; the one without a name is the program's own process."""

    name: str
    done: int = 0
    failed: int = 0
    busy: float = 0.0
    spans: list[Span] = field(default_factory=list)

    def add(self, span: Span, done: int = 1) -> None:
        """Add a fit, or `done` tasks."""
        self.done += done
        self.failed += span.failed
        self.busy += span.seconds
        self.spans.append(span)

    @property
    def first(self) -> float:
        """When its first fit began."""
        return min(span.started for span in self.spans)

    @property
    def last(self) -> float:
        """When its last fit ended."""
        return max(span.ended for span in self.spans)


@dataclass
class RunDetails:
    """Everything that is known about a past run."""

    record: Record
    began: float
    """In seconds since the epoch."""
    ended: float
    has_events: bool = False
    searches: list[SearchDetails] = field(default_factory=list)
    others: list[CallGroup] = field(default_factory=list)
    failures: list[FailureGroup] = field(default_factory=list)
    workers: list[WorkerDetails] = field(default_factory=list)
    busy_times: list[tuple[float, float]] = field(default_factory=list)
    """Intervals in which there were Parallel calls, without overlaps."""
    fit_seconds: list[float] = field(default_factory=list)
    """Seconds of each fit that was not reused."""

    @property
    def done(self) -> int:
        """Number of fits and tasks that have finished."""
        return sum(each.done for each in self._counted)

    @property
    def reused(self) -> int:
        """Number of fits that were reused."""
        return sum(each.reused for each in self._counted)

    @property
    def failed(self) -> int:
        """Number of fits that failed."""
        return sum(each.failed for each in self._counted)

    @property
    def _counted(self) -> list[SearchDetails | CallGroup]:
        return [*self.searches, *self.others]

    @property
    def threads(self) -> int:
        """Number of fits that a worker runs concurrently."""
        threads = self.record.cluster.get("worker_threads")
        return threads if isinstance(threads, int) and threads > 0 else 1

    def idle(self, worker: WorkerDetails) -> float:
        """Return the seconds that a worker had nothing to do while calls were running, counted from its first fit."""
        available = sum(max(0.0, end - max(start, worker.first)) for start, end in self.busy_times)
        return max(0.0, available - worker.busy / self.threads)


def title(started: CallStarted) -> str:
    """Return a call's title, such as `GridSearchCV of SVC`."""
    return f"{started.name} of {started.estimator}" if started.estimator else started.name
