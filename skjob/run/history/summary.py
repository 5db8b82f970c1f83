"""Summarize a past run in one line, for `skjob runs` and for comparing two runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skjob.run.history.records import PastRun
from skjob.run.record import Record

if TYPE_CHECKING:
    from skjob.run.history.details import RunDetails


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run in one line. What its record does not contain is None.

    `fits` counts those of its searches; without a search, the fits and tasks of its other calls. `best` is the best
    mean score, in `metric`, of the run's last search that has one.
    """

    run_id: str
    program: str
    arguments: list[str]
    started: str
    place: str | None
    status: str
    exit_code: int | None
    fits: int | None = None
    reused: int | None = None
    failed: int | None = None
    searches: int = 0
    best: float | None = None
    metric: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    cost: float | None = None
    currency: str = ""


def summarize(run: PastRun) -> RunSummary:
    """Return the summary of a run, from the record alone if that has its searches: reading all fits takes longer."""
    if run.record.searches and run.record.outcome.status != "running":
        return _summary(run.record, run.record.searches, None)
    from skjob.run.history.collect import read_details

    return summary_of(read_details(run))


def summary_of(details: RunDetails) -> RunSummary:
    """Return the summary of a run from its details."""
    searches = [
        {
            "fits": each.done,
            "reused": each.reused,
            "failed": each.failed,
            "metric": each.metric,
            "best": each.best and {"score": each.best.candidate.mean, "parameters": each.best.candidate.parameters},
        }
        for each in details.searches
    ]
    others = (details.done, details.reused, details.failed) if details.has_events else None
    return _summary(details.record, searches, others)


def _summary(
    record: Record, searches: Sequence[Mapping[str, Any]], other_counts: tuple[int, int, int] | None
) -> RunSummary:
    """Summarize a record with searches as in `Searches.summary`, or with the counts of a run that has none."""
    counts: tuple[int | None, int | None, int | None] = record.fits.get("fits"), record.fits.get("found"), None
    if searches:
        counts = _sum(searches, "fits"), _sum(searches, "reused"), _sum(searches, "failed")
    elif other_counts is not None:
        counts = other_counts
    with_best = [each for each in searches if isinstance(each.get("best"), Mapping)]
    last = (with_best or [{}])[-1]
    best = last.get("best", {})
    score, parameters = best.get("score"), best.get("parameters")
    return RunSummary(
        record.run_id,
        record.program,
        record.arguments,
        record.started,
        record.place,
        record.outcome.status,
        record.outcome.exit_code,
        *counts,
        len(searches),
        float(score) if isinstance(score, int | float) else None,
        str(last.get("metric", "")),
        {str(name): str(value) for name, value in parameters.items()} if isinstance(parameters, Mapping) else {},
        record.seconds,
        *cost_of(record.cost),
    )


def _sum(searches: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(each[name] for each in searches if isinstance(each.get(name), int))


def cost_of(cost: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the amount and the currency of a record's cost; None and an empty text if unknown."""
    amount = cost.get("amount")
    if not isinstance(amount, int | float) or not math.isfinite(amount):
        return None, ""
    return float(amount), str(cost.get("currency", ""))
