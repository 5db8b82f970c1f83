"""Collect what a past run did, from its record and its events.

Runs of earlier versions have no events: then only the record is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, ResultsDropped, TasksFinished
from skjob.run.events.file import read_events
from skjob.run.events.searches import CallProgress, Candidate, Searches
from skjob.run.history.details import (
    CallGroup,
    CandidateDetails,
    FailureGroup,
    RunDetails,
    SearchDetails,
    Span,
    WorkerDetails,
    title,
)
from skjob.run.history.records import PastRun
from skjob.run.record import Record, read_moment

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


def read_details(run: PastRun) -> RunDetails:
    """Read all that is known about a past run."""
    return add_up(run.record, read_events(run.folder))


def add_up(record: Record, events: Iterable[Event]) -> RunDetails:
    """Return the details of a run from its record and events."""
    collector = _Collector()
    for event in events:
        collector.add(event)
    return collector.details(record)


class _Collector:
    """Collects events one by one. Fits are kept by task number: a task that ran again counts once."""

    def __init__(self) -> None:
        self._sums = Searches()
        self._fits: dict[int, dict[int, FitFinished]] = {}
        self._by_callable: set[int] = set()
        self._workers: dict[str, WorkerDetails] = {}
        self._first = math.inf
        self._last = 0.0

    def add(self, event: Event) -> None:
        """Add an event. Ignore those of a call whose start is missing, as `Searches` does."""
        if isinstance(event, FitFinished) and event.call in self._sums.calls:
            self._choose_metric(event)
        self._sums.add(event)
        if event.call not in self._sums.calls:
            return
        if isinstance(event, CallStarted | CallFinished):
            self._extend_time(event.at, event.at)
        elif isinstance(event, ResultsDropped):
            fits = self._fits.get(event.call, {})
            for task in [task for task in fits if task >= event.kept]:
                del fits[task]
        else:
            self._extend_time(event.started, event.started + event.seconds)
        if isinstance(event, TasksFinished):
            self._worker(event.worker).add(Span(event.started, event.seconds), event.tasks)
        elif isinstance(event, FitFinished):
            self._fits.setdefault(event.call, {})[event.task] = event
            if event.status is not FitStatus.REUSED:
                span = Span(event.started, event.seconds, event.status is FitStatus.FAILED)
                self._worker(event.worker).add(span)

    def _extend_time(self, start: float, end: float) -> None:
        self._first, self._last = min(self._first, start), max(self._last, end)

    def _worker(self, name: str) -> WorkerDetails:
        return self._workers.setdefault(name, WorkerDetails(name))

    def _choose_metric(self, event: FitFinished) -> None:
        """Order candidates by the first metric if a callable chooses the best: there has to be some order."""
        call = self._sums.calls[event.call]
        if not call.started.metric and call.started.search is not None:
            self._by_callable.add(event.call)
            if event.scores:
                call.started = replace(call.started, metric=next(iter(event.scores)))

    def details(self, record: Record) -> RunDetails:
        """Return the details collected so far."""
        if started := read_moment(record.started):
            began = started.timestamp()
        else:
            began = self._first if math.isfinite(self._first) else 0.0
        ended = max(began + (record.seconds or 0.0), self._last)
        fits = [event for events in self._fits.values() for event in events.values()]
        return RunDetails(
            record,
            began,
            ended,
            has_events=bool(self._sums.calls),
            searches=[self._search(calls) for calls in self._sums.searches],
            others=self._others(),
            failures=self._failures(fits),
            workers=sorted(self._workers.values(), key=lambda worker: (worker.name == "", worker.first)),
            busy_times=_merged(self._call_times()),
            fit_seconds=[event.seconds for event in fits if event.status is not FitStatus.REUSED],
        )

    def _search(self, calls: list[CallProgress]) -> SearchDetails:
        candidates = {each.started.call: self._candidates(each) for each in calls}
        by_callable = calls[0].started.call in self._by_callable
        best = None if by_callable else self._sums.best(calls)
        return SearchDetails(
            calls,
            [
                candidates[call.started.call][candidate.number]
                for call in reversed(calls)
                for candidate in (*call.ranked(complete=True), *_incomplete(call))
                if candidate.number in candidates[call.started.call]
            ],
            None if best is None else candidates[best.call].get(best.number),
            calls[0].started.metric,
            by_callable,
        )

    def _candidates(self, call: CallProgress) -> dict[int, CandidateDetails]:
        candidates: dict[int, CandidateDetails] = {}
        for event in self._fits.get(call.started.call, {}).values():
            if event.candidate is None:
                continue
            details = candidates.get(event.candidate)
            if details is None:
                details = CandidateDetails(call.candidates[event.candidate], call.started.iteration)
                candidates[event.candidate] = details
            details.ended = max(details.ended, event.started + event.seconds)
            _extend(details.scores, event.scores)
            _extend(details.train_scores, event.train_scores)
        return candidates

    def _failures(self, fits: list[FitFinished]) -> list[FailureGroup]:
        groups: dict[str, FailureGroup] = {}
        for event in fits:
            if event.status is not FitStatus.FAILED:
                continue
            group = groups.setdefault(_NUMBER.sub("#", event.error), FailureGroup(event.error))
            group.fits += 1
            group.workers.add(event.worker)
            if not group.example and event.candidate is not None:
                parameters = self._sums.calls[event.call].candidates[event.candidate].parameters
                group.example = ", ".join(f"{name}={value}" for name, value in parameters.items())
        return sorted(groups.values(), key=lambda group: -group.fits)

    def _others(self) -> list[CallGroup]:
        groups: dict[str, CallGroup] = {}
        for call in self._sums.calls.values():
            if call.started.search is not None or call.is_nested:
                continue  # a call made by a task of another call is part of that task
            name = title(call.started)
            group = groups.setdefault(name, CallGroup(name))
            group.calls += 1
            group.done += call.done
            group.reused += call.reused
            group.failed += call.failed
            group.seconds += call.seconds
            for event in self._fits.get(call.started.call, {}).values():
                _extend(group.scores, event.scores)
        return list(groups.values())

    def _call_times(self) -> list[tuple[float, float]]:
        return [
            (call.started.at, call.finished.at if call.finished else max(call.started.at, call.last))
            for call in self._sums.calls.values()
        ]


def _incomplete(call: CallProgress) -> list[Candidate]:
    return [candidate for candidate in call.ranked() if not candidate.complete]


def _extend(into: dict[str, list[float]], scores: Mapping[str, float]) -> None:
    for metric, score in scores.items():
        into.setdefault(metric, []).append(score)


def _merged(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(times):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged
