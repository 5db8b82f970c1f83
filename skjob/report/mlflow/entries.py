"""What is logged to MLflow of a run: pure. `process.py` logs it.

Each MLflow run gets the id of skjob's run and the scores of its own calls. What holds for the whole run (fits, seconds,
cost, report) goes to one of them alone, the first, or else a sum over MLflow runs would count it several times.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.events import CallStarted, Event, FitFinished, ResultsDropped
from skjob.run.events.searches import float_sum
from skjob.run.history.collect import add_up
from skjob.run.history.details import RunDetails
from skjob.run.history.summary import summary_of
from skjob.run.record import Record

MAX_TAG = 5000
"""Characters of a tag's value: some of MLflow's stores refuse more."""

_REFUSED = re.compile(r"[^\w\-./ ]", re.ASCII)


@dataclass
class Entries:
    """Tags, and metrics with their steps."""

    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)

    def add(self, name: str, value: float | None, step: int = 0) -> None:
        """Add a metric, unless its value is not known."""
        if value is not None and not math.isnan(value):
            self.metrics.append((f"skjob.{_REFUSED.sub('_', name)}", float(value), step))


@dataclass
class MlflowEntries:
    """What is logged: to each MLflow run by its place among those of the record, and what holds for the whole run."""

    own: list[Entries]
    whole: Entries
    details: RunDetails


def entries_of(record: Record, events: Iterable[Event]) -> MlflowEntries:
    """Return what is logged of a run with these events. Without MLflow runs in the record, `own` has those of one."""
    calls = _Calls()
    details = add_up(record, calls.watch(events))
    runs: Sequence[Mapping[str, Any]] = record.mlflow or [{"calls": calls.scores.keys() | calls.outermost}]
    return MlflowEntries([_own(run, details, calls) for run in runs], _whole(details), details)


class _Calls:
    """The scores of the fits of each call, and which calls no task of another makes."""

    def __init__(self) -> None:
        self.scores: dict[int, dict[int, FitFinished]] = defaultdict(dict)
        self.outermost: set[int] = set()
        self._search: set[int] = set()

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, CallStarted):
                if event.parent is None:
                    self.outermost.add(event.call)
                if event.search is not None:
                    self._search.add(event.call)
            elif isinstance(event, FitFinished) and event.call not in self._search:
                self.scores[event.call][event.task] = event
            elif isinstance(event, ResultsDropped):
                fits = self.scores.get(event.call, {})
                for task in [task for task in fits if task >= event.kept]:
                    del fits[task]
            yield event

    def means(self, call: int) -> dict[str, float]:
        """Return the mean of each metric over the splits of a cross-validation."""
        found: dict[str, list[float]] = defaultdict(list)
        for fit in self.scores.get(call, {}).values():
            for metric, score in fit.scores.items():
                found[metric].append(score)
        return {metric: float_sum(scores) / len(scores) for metric, scores in found.items()}


def _own(run: Mapping[str, Any], details: RunDetails, calls: _Calls) -> Entries:
    entries = Entries({"skjob.run_id": details.record.run_id})
    its_calls = set(run.get("calls", ()))
    searches = [each for each in details.searches if each.started.call in its_calls and each.best is not None]
    for step, search in enumerate(searches):
        assert search.best is not None  # noqa: S101 - the others were left out
        entries.add("best_score", search.best.candidate.mean, step)
        parameters = ", ".join(f"{name}={value}" for name, value in search.best.candidate.parameters.items())
        entries.tags["skjob.best_parameters"] = parameters[:MAX_TAG]
    validations = [means for call in sorted(its_calls & calls.outermost) if (means := calls.means(call))]
    for step, means in enumerate(validations):
        for metric, mean in means.items():
            entries.add(f"cross_validation.{metric}", mean, step)
    return entries


def _whole(details: RunDetails) -> Entries:
    record, summary = details.record, summary_of(details)
    entries = Entries({"skjob.outcome": record.outcome.status, "skjob.place": record.place or ""})
    entries.add("seconds", record.seconds)
    entries.add("fits", summary.fits)
    entries.add("reused_fits", summary.reused)
    entries.add("failed_fits", summary.failed)
    if summary.cost is not None:
        entries.add("cost", summary.cost)
        entries.tags["skjob.currency"] = summary.currency
    return entries
