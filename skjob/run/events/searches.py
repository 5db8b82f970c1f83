"""What is known of a run's searches, added up from its events: progress, the best candidates, the time left. Pure.

The terminal, the notebook, `skjob runs` and the report show what stands here; each reads the same events, while they
come or from a record.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, ResultsDropped, TasksFinished


def float_sum(values: Collection[float]) -> float:
    """Return the exact sum; of numbers too large for it, or infinite ones of both signs, what numpy returns."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


@dataclass
class Candidate:
    """A candidate of a search, with the scores of its splits so far, by the metric that chooses the best."""

    call: int
    number: int
    splits: int | None
    parameters: dict[str, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    """Scores by split; NaN if the fit failed."""
    failed: int = 0
    seconds: float = 0.0
    """What its fits took in this run, without those that were reused."""
    measured: int = 0
    """How many of its fits took these seconds."""

    @property
    def complete(self) -> bool:
        """Whether all of its splits have a score."""
        return self.splits is not None and len(self.scores) >= self.splits

    @property
    def mean(self) -> float:
        """The mean over the splits that are there."""
        return float_sum(self.scores.values()) / len(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over the splits that are there, as scikit-learn's `std_test_score` has it."""
        mean = self.mean
        squares = [(score - mean) * (score - mean) for score in self.scores.values()]  # `**` would raise
        return math.sqrt(float_sum(squares) / len(squares)) if squares else math.nan

    @property
    def rank_key(self) -> tuple[bool, float]:
        """Sorts by the mean, NaN last."""
        return (not math.isnan(self.mean), 0.0 if math.isnan(self.mean) else self.mean)


@dataclass
class CallProgress:
    """How far a Parallel call is."""

    started: CallStarted
    done: int = 0
    """Fits or tasks that have finished, the reused and failed ones among them."""
    reused: int = 0
    failed: int = 0
    finished: CallFinished | None = None
    candidates: dict[int, Candidate] = field(default_factory=dict)
    seconds: float = 0.0
    """What its fits took together, without those that were reused."""
    last: float = 0.0
    """When its last fit ended."""
    _after_gap: dict[int, FitFinished] = field(default_factory=dict)
    """Fits that finished before one with a smaller number: these may be dropped."""
    _without_gap: int = 0
    _known_left: float = 0.0
    _known_fits_left: int = 0

    @property
    def total(self) -> int | None:
        """How many fits or tasks it has, if that is known."""
        begun = self.started
        if begun.candidates is not None and begun.splits is not None:
            return begun.candidates * begun.splits
        return begun.tasks if begun.tasks is None or begun.tasks >= self.done else None

    @property
    def is_nested(self) -> bool:
        """Whether a task of another call makes it: what it does is part of that task."""
        return self.started.parent is not None

    @property
    def measured(self) -> int:
        """How many of its fits or tasks ran in this run."""
        return self.done - self.reused

    def ranked(self, number: int | None = None, *, complete: bool = False) -> list[Candidate]:
        """Return the best candidates so far, the best first, those whose score is NaN last.

        Of equals the first candidate leads, as in scikit-learn. `complete` leaves out those that lack a split.
        """
        if complete:
            candidates: Iterable[Candidate] = [each for each in self.candidates.values() if each.complete]
        else:
            candidates = [each for each in self.candidates.values() if each.scores]

        def order(candidate: Candidate) -> tuple[bool, float, int]:
            return (*candidate.rank_key, -candidate.number)

        if number is None:
            return sorted(candidates, key=order, reverse=True)
        return heapq.nlargest(number, candidates, key=order)

    def seconds_left(self, now: float) -> float | None:
        """Estimate how long the rest takes at `now`; None before the first fit of this run, or without a total.

        The remaining splits of a candidate take as long as its others did, every other fit the mean; and as many run
        at a time as have done so far.
        """
        total = self.total
        elapsed = max(self.last, now) - self.started.at
        if total is None or self.measured == 0 or elapsed <= 0 or self.finished is not None:
            return None
        at_a_time = self.seconds / elapsed
        if at_a_time <= 0:
            return None
        left = max(0, total - self.done)
        known = min(left, self._known_fits_left)
        known_seconds = self._known_left * known / self._known_fits_left if self._known_fits_left else 0.0
        return (known_seconds + (left - known) * self.seconds / self.measured) / at_a_time

    def add_fit(self, event: FitFinished) -> None:
        """Add a fit."""
        self._after_gap[event.task] = event
        while self._without_gap in self._after_gap:
            del self._after_gap[self._without_gap]
            self._without_gap += 1
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
        self._forget_left(candidate)
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
        self._learn_left(candidate)

    def drop(self, event: ResultsDropped) -> None:
        """Take out the fits or tasks that do not count."""
        if not self.candidates and not self._after_gap and not self._without_gap:
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
        self._forget_left(candidate)
        candidate.scores.pop(_split(event), None)
        candidate.failed -= event.status is FitStatus.FAILED
        candidate.seconds -= event.seconds if ran else 0.0
        candidate.measured -= ran
        self._learn_left(candidate)

    def add_tasks(self, event: TasksFinished) -> None:
        """Add tasks of a call that is no search."""
        self.done += event.tasks
        self.seconds += event.seconds
        self.last = max(self.last, event.started + event.seconds)

    def _left(self, candidate: Candidate) -> int:
        if candidate.splits is None or not candidate.measured:
            return 0
        return max(0, candidate.splits - len(candidate.scores))

    def _forget_left(self, candidate: Candidate) -> None:
        left = self._left(candidate)
        if left:
            self._known_fits_left -= left
            self._known_left -= left * candidate.seconds / candidate.measured

    def _learn_left(self, candidate: Candidate) -> None:
        left = self._left(candidate)
        if left:
            self._known_fits_left += left
            self._known_left += left * candidate.seconds / candidate.measured


class Searches:
    """The calls of a run, in the order in which they began. Add events as they come."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.calls: dict[int, CallProgress] = {}
        self._running: dict[int, CallProgress] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Add an event. One of a call whose start is missing is ignored."""
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
        """Calls that no task of another call makes."""
        return [call for call in self.calls.values() if not call.is_nested]

    def search_of(self, call: CallProgress) -> list[CallProgress]:
        """Return the calls of the search that a call belongs to, in order; none if it belongs to no search of its own.

        See `searches`.
        """
        number = call.started.search
        if number is None or self._is_within_fit(call):
            return []
        return [each for each in self.calls.values() if each.started.search == number]

    @property
    def searches(self) -> list[list[CallProgress]]:
        """The calls of each search in order: one, or one for each iteration of a halving search.

        A search within a fit of another is left out: it belongs to that fit.
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
        """Return the best candidate of a search so far: one with all splits, of its last iteration that has one.

        None if there is none yet, if its score is NaN, or if a callable chooses.
        """
        for call in reversed(search):
            if not call.started.metric:
                return None
            if (ranked := call.ranked(1, complete=True)) and not math.isnan(ranked[0].mean):
                return ranked[0]
        return None

    def summary(self) -> list[dict[str, Any]]:
        """Return each search as plain data, for the record: what it has done, its best candidate, its seconds."""
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
