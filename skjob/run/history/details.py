"""What a past run did: its searches with their candidates, other calls, failures by cause, and its workers.

`collect.py` adds it up; `skjob show` and the report read it.
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
    """A candidate with what `Candidate` leaves out: when it was done, and all of its metrics."""

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
        """How long one of its fits took, if one of them ran in this run."""
        return self.candidate.seconds / self.candidate.measured if self.candidate.measured else None


@dataclass
class SearchDetails:
    """A search: its calls, one or one for each iteration of a halving search, and their candidates."""

    calls: list[CallProgress]
    candidates: list[CandidateDetails]
    """The best first; those of a later iteration before those of an earlier one."""
    best: CandidateDetails | None
    metric: str
    """The metric that the candidates are ordered by."""
    chosen_by_callable: bool = False

    @property
    def started(self) -> CallStarted:
        """How its first call began."""
        return self.calls[0].started

    @property
    def halving(self) -> bool:
        """Whether it has iterations."""
        return self.started.iteration is not None

    @property
    def title(self) -> str:
        """The search's class, and that of the estimator."""
        return title(self.started)

    @property
    def done(self) -> int:
        """How many of its fits have finished."""
        return sum(call.done for call in self.calls)

    @property
    def total(self) -> int:
        """How many fits it has, as far as that is known."""
        return sum(max(call.done, call.total or 0) for call in self.calls)

    @property
    def reused(self) -> int:
        """How many of its fits were reused."""
        return sum(call.reused for call in self.calls)

    @property
    def failed(self) -> int:
        """How many of its fits failed."""
        return sum(call.failed for call in self.calls)

    @property
    def ordering(self) -> str:
        """What its candidates are ordered by, in words; nothing if it has one metric."""
        if self.chosen_by_callable:
            return f"ordered by `{self.metric}`, though the program chooses the best by a callable"
        if self.started.metric_is_first:
            return f"ordered by `{self.metric}`, the first of its metrics"
        return "" if self.metric in ("", "score") else f"ordered by `{self.metric}`"

    @cached_property
    def varying(self) -> list[str]:
        """Parameters that differ between candidates, in the order in which the search has them."""
        values: dict[str, set[str | None]] = {}
        for each in self.candidates:
            for name in each.candidate.parameters:
                values.setdefault(name, set())
        for name, found in values.items():
            found.update(each.candidate.parameters.get(name) for each in self.candidates)
        return [name for name, found in values.items() if len(found) > 1]

    @property
    def fixed(self) -> dict[str, str]:
        """Parameters that all candidates have alike."""
        varying = set(self.varying)
        first = self.candidates[0].candidate.parameters if self.candidates else {}
        return {name: value for name, value in first.items() if name not in varying}


@dataclass
class CallGroup:
    """Parallel calls that belong to no search, those of one function and one estimator together."""

    title: str
    calls: int = 0
    done: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    scores: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class FailureGroup:
    """Fits that failed for the same reason. Errors that differ in numbers alone are one."""

    error: str
    fits: int = 0
    example: str = ""
    """The parameters of one of them."""
    workers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Span:
    """What a worker was busy with: a fit, or several tasks. `started` is in seconds since the epoch."""

    started: float
    seconds: float
    failed: bool = False

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.started + self.seconds


@dataclass
class WorkerDetails:
    """What a worker did; one without a name is the program's own process."""

    name: str
    done: int = 0
    failed: int = 0
    busy: float = 0.0
    spans: list[Span] = field(default_factory=list)

    def add(self, span: Span, done: int = 1) -> None:
        """Add a fit, or so many tasks."""
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
    """Everything that can be said of a past run."""

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
    """From when to when there were Parallel calls, without overlaps."""
    fit_seconds: list[float] = field(default_factory=list)
    """How long each fit took that was not reused."""

    @property
    def done(self) -> int:
        """How many fits and tasks have finished."""
        return sum(each.done for each in self._counted)

    @property
    def reused(self) -> int:
        """How many fits were reused."""
        return sum(each.reused for each in self._counted)

    @property
    def failed(self) -> int:
        """How many fits failed."""
        return sum(each.failed for each in self._counted)

    @property
    def _counted(self) -> list[SearchDetails | CallGroup]:
        return [*self.searches, *self.others]

    @property
    def threads(self) -> int:
        """How many fits a worker does at a time."""
        threads = self.record.cluster.get("worker_threads")
        return threads if isinstance(threads, int) and threads > 0 else 1

    def idle(self, worker: WorkerDetails) -> float:
        """Return how long a worker had nothing to do while calls went on, from its first fit on."""
        here = sum(max(0.0, end - max(start, worker.first)) for start, end in self.busy_times)
        return max(0.0, here - worker.busy / self.threads)


def title(started: CallStarted) -> str:
    """Return what a call does: `GridSearchCV of SVC`."""
    return f"{started.name} of {started.estimator}" if started.estimator else started.name
