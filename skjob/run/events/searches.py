"""Add up a run's searches from its events: progress, the best candidates, the time left. Pure.

The terminal, the notebook, `skjob runs` and the report show these numbers; each reads the same events, either as they
arrive or from a record.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, ResultsDropped, TasksFinished


def float_sum(values: Collection[float]) -> float:
    """Return the exact sum, or what NumPy returns if numbers are too large or infinities cancel out."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


@dataclass
class Candidate:
    """A candidate of a search, with its scores so far by split, in the metric that chooses the best."""

    call: int
    number: int
    splits: int | None
    parameters: dict[str, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    """Scores by split; NaN if the fit failed."""
    failed: int = 0
    seconds: float = 0.0
    """Total seconds of its fits in this run, without reused ones."""
    measured: int = 0
    """Number of fits counted in `seconds`."""

    @property
    def complete(self) -> bool:
        """Whether all of its splits have a score."""
        return self.splits is not None and len(self.scores) >= self.splits

    @property
    def mean(self) -> float:
        """Mean score over the splits so far."""
        return float_sum(self.scores.values()) / len(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over the splits so far, like scikit-learn's `std_test_score`."""
        mean = self.mean
        squares = [(score - mean) * (score - mean) for score in self.scores.values()]  # `**` would raise
        return math.sqrt(float_sum(squares) / len(squares)) if squares else math.nan

    @property
    def rank_key(self) -> tuple[bool, float]:
        """Sort key by mean, NaN last."""
        return (not math.isnan(self.mean), 0.0 if math.isnan(self.mean) else self.mean)


@dataclass
class CallProgress:
    """Progress of a Parallel call."""

    started: CallStarted
    done: int = 0
    """Fits or tasks that have finished, including reused and failed ones."""
    reused: int = 0
    failed: int = 0
    finished: CallFinished | None = None
    candidates: dict[int, Candidate] = field(default_factory=dict)
    seconds: float = 0.0
    """Total seconds of its fits, without reused ones."""
    last: float = 0.0
    """Time when its last fit ended."""
    _after_gap: dict[int, FitFinished] = field(default_factory=dict)
    """Fits that finished before one with a smaller number: these may still be dropped."""
    _first_gap: int = 0
    _estimated_seconds_left: float = 0.0
    _estimated_fits_left: int = 0

    @property
    def total(self) -> int | None:
        """Number of fits or tasks it has, if known."""
        begun = self.started
        if begun.candidates is not None and begun.splits is not None:
            return begun.candidates * begun.splits
        return begun.tasks if begun.tasks is None or begun.tasks >= self.done else None

    @property
    def is_nested(self) -> bool:
        """Whether a task of another call makes it, so that its work is part of that task."""
        return self.started.parent is not None

    @property
    def measured(self) -> int:
        """Number of its fits or tasks that ran in this run."""
        return self.done - self.reused

    def ranked(self, *, complete: bool = False) -> list[Candidate]:
        """Return the candidates that have scores, the best first, those whose score is NaN last.

        Among equals the first candidate leads, as in scikit-learn. With `complete`, omit those that lack a split.
        """
        candidates = [each for each in self.candidates.values() if (each.complete if complete else each.scores)]
        return sorted(candidates, key=lambda each: (*each.rank_key, -each.number), reverse=True)

    def leading(self, number: int) -> list[Candidate]:
        """Return the best candidates so far, to be shown while the search runs.

        Those that have all of their splits come before the others. A candidate with a failed fit, whose score is NaN,
        is left out.
        """
        scored = [each for each in self.candidates.values() if not math.isnan(each.mean)]
        return heapq.nlargest(number, scored, key=lambda each: (each.complete, each.mean, -each.number))

    def seconds_left(self, now: float) -> float | None:
        """Estimate the seconds left at `now`; None before the first fit of this run, or without a total.

        Assume that the remaining splits of a candidate take as long as its others, any other fit the mean, and that as
        many run in parallel as so far.
        """
        total = self.total
        elapsed = max(self.last, now) - self.started.at
        if total is None or self.measured == 0 or elapsed <= 0 or self.finished is not None:
            return None
        parallelism = self.seconds / elapsed
        if parallelism <= 0:
            return None
        remaining = max(0, total - self.done)
        estimated = min(remaining, self._estimated_fits_left)
        estimated_seconds = (
            self._estimated_seconds_left * estimated / self._estimated_fits_left if self._estimated_fits_left else 0.0
        )
        return (estimated_seconds + (remaining - estimated) * self.seconds / self.measured) / parallelism

    def add_fit(self, event: FitFinished) -> None:
        """Add a fit."""
        self._after_gap[event.task] = event
        while self._first_gap in self._after_gap:
            del self._after_gap[self._first_gap]
            self._first_gap += 1
        self.done += 1
        self.reused += event.status is FitStatus.REUSED
        self.failed += event.status is FitStatus.FAILED
        self.last = max(self.last, event.started + event.seconds)
        if event.status is not FitStatus.REUSED:
            self.seconds += event.seconds
        if event.candidate is None:
            return
        candidate = self.candidates.get(event.candidate)
        if candidate is None:
            candidate = Candidate(self.started.call, event.candidate, self.started.splits)
            self.candidates[event.candidate] = candidate
        self._subtract_estimate(candidate)
        if event.parameters is not None:
            candidate.parameters = dict(event.parameters)
        if self.started.metric in event.scores:
            score = event.scores[self.started.metric]
        else:
            score = next(iter(event.scores.values())) if len(event.scores) == 1 else math.nan
        candidate.scores[_split(event)] = score
        candidate.failed += event.status is FitStatus.FAILED
        if event.status is not FitStatus.REUSED:
            candidate.seconds += event.seconds
            candidate.measured += 1
        self._add_estimate(candidate)

    def drop(self, event: ResultsDropped) -> None:
        """Remove the fits or tasks that do not count."""
        if not self.candidates and not self._after_gap and not self._first_gap:
            kept = min(self.done, event.kept)
            self.seconds *= kept / self.done if self.done else 0.0
            self.done = kept
        for task in [task for task in self._after_gap if task >= event.kept]:
            self._remove_fit(self._after_gap.pop(task))

    def _remove_fit(self, event: FitFinished) -> None:
        self.done -= 1
        self.reused -= event.status is FitStatus.REUSED
        self.failed -= event.status is FitStatus.FAILED
        ran = event.status is not FitStatus.REUSED
        self.seconds -= event.seconds if ran else 0.0
        if event.candidate is None:
            return
        candidate = self.candidates[event.candidate]
        self._subtract_estimate(candidate)
        candidate.scores.pop(_split(event), None)
        candidate.failed -= event.status is FitStatus.FAILED
        candidate.seconds -= event.seconds if ran else 0.0
        candidate.measured -= ran
        self._add_estimate(candidate)

    def add_tasks(self, event: TasksFinished) -> None:
        """Add tasks of a call that is not a search."""
        self.done += event.tasks
        self.seconds += event.seconds
        self.last = max(self.last, event.started + event.seconds)

    def _remaining_splits(self, candidate: Candidate) -> int:
        if candidate.splits is None or not candidate.measured:
            return 0
        return max(0, candidate.splits - len(candidate.scores))

    def _subtract_estimate(self, candidate: Candidate) -> None:
        remaining = self._remaining_splits(candidate)
        if remaining:
            self._estimated_fits_left -= remaining
            self._estimated_seconds_left -= remaining * candidate.seconds / candidate.measured

    def _add_estimate(self, candidate: Candidate) -> None:
        remaining = self._remaining_splits(candidate)
        if remaining:
            self._estimated_fits_left += remaining
            self._estimated_seconds_left += remaining * candidate.seconds / candidate.measured


class Searches:
    """Calls of a run, in the order in which they began. Add events as they come."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.calls: dict[int, CallProgress] = {}
        self._running: dict[int, CallProgress] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Add an event. Events of a call whose start is missing are ignored."""
        if isinstance(event, CallStarted):
            self.calls[event.call] = self._running[event.call] = CallProgress(event)
            return
        call = self.calls.get(event.call)
        if call is None:
            return
        if isinstance(event, FitFinished):
            call.add_fit(event)
        elif isinstance(event, TasksFinished):
            call.add_tasks(event)
        elif isinstance(event, ResultsDropped):
            call.drop(event)
        else:
            call.finished = event
            self._running.pop(event.call, None)

    @property
    def running(self) -> list[CallProgress]:
        """Calls that have not ended."""
        return [*self._running.values()]

    @property
    def outermost(self) -> list[CallProgress]:
        """Calls that are not made by a task of another call."""
        return [call for call in self.calls.values() if not call.is_nested]

    def search_of(self, call: CallProgress) -> list[CallProgress]:
        """Return the calls of the search that a call belongs to, in order; none if it belongs to no search of its own.

        See `searches` for what counts as one.
        """
        number = call.started.search
        if number is None or self._is_within_fit(call):
            return []
        return [each for each in self.calls.values() if each.started.search == number]

    @property
    def searches(self) -> list[list[CallProgress]]:
        """The calls of each search in order: one, or one per iteration of a halving search.

        A search within a fit of another one is omitted: it belongs to that fit.
        """
        grouped: dict[int, list[CallProgress]] = {}
        for call in self.calls.values():
            if call.started.search is not None and not self._is_within_fit(call):
                grouped.setdefault(call.started.search, []).append(call)
        return list(grouped.values())

    def _is_within_fit(self, call: CallProgress) -> bool:
        parent = self.calls.get(call.started.parent or 0)
        return parent is not None and (parent.started.search is not None or self._is_within_fit(parent))

    def best(self, search: list[CallProgress]) -> Candidate | None:
        """Return the best candidate of a search so far: one with all splits, from the last iteration that has one.

        None if there is none yet, if its score is NaN, or if a callable chooses the best.
        """
        for call in reversed(search):
            if not call.started.metric:
                return None
            if (leading := call.leading(1)) and leading[0].complete:
                return leading[0]
        return None

    def summary(self) -> list[dict[str, Any]]:
        """Return each search as plain data, for the record: progress, best candidate, seconds."""
        return [self._summary(search) for search in self.searches]

    def _summary(self, search: list[CallProgress]) -> dict[str, Any]:
        first, last = search[0].started, search[-1].started
        ended = [call.finished.at if call.finished is not None else call.last for call in search]
        best = self.best(search)
        return {
            "name": first.name,
            "estimator": first.estimator,
            "candidates": sum(call.started.candidates or 0 for call in search),
            "splits": last.splits,
            "iterations": len(search),
            "fits": sum(call.done for call in search),
            "reused": sum(call.reused for call in search),
            "failed": sum(call.failed for call in search),
            "finished": all(call.finished is not None and call.finished.ok for call in search),
            "metric": first.metric,
            "best": {"score": best.mean, "parameters": best.parameters} if best is not None else None,
            "seconds": round(max(0.0, max(ended) - first.at), 3),
        }


def _split(event: FitFinished) -> int:
    return event.split or 0
