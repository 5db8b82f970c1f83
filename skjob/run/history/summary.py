"""A past run in a line: for `skjob runs`, and what two runs are compared by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from skjob.run.history.collect import read_details
from skjob.run.history.details import RunDetails, SearchDetails
from skjob.run.history.records import PastRun


@dataclass(frozen=True)
class RunSummary:
    """What there is to say of a run in a line. What its record does not tell is None.

    `fits` counts those of searches and cross-validations, and tasks of whatever else ran in parallel. `best` is the
    best mean score of the run's last search, by `metric`.
    """

    run_id: str
    program: str
    arguments: list[str]
    started: str
    place: str | None
    status: str
    exit_code: int | None
    fits: int | None
    reused: int | None
    failed: int | None
    best: float | None
    metric: str
    parameters: dict[str, str] = field(default_factory=dict)
    searches: int = 0
    seconds: float | None = None
    cost: float | None = None
    currency: str = ""


def summarize(run: PastRun) -> RunSummary:
    """Return the summary of a run."""
    return summary_of(read_details(run))


def summary_of(details: RunDetails) -> RunSummary:
    """Return the summary of a run whose details are known."""
    record = details.record
    search = last_search(details)
    best = search.best if search is not None else None
    counts: tuple[int | None, int | None, int | None] = record.fits.get("fits"), record.fits.get("found"), None
    if details.has_events:
        counts = details.done, details.reused, details.failed
    return RunSummary(
        record.run_id,
        record.program,
        record.arguments,
        record.started,
        record.place,
        record.outcome.status,
        record.outcome.exit_code,
        *counts,
        None if best is None else best.candidate.mean,
        "" if search is None else search.metric,
        {} if best is None else best.candidate.parameters,
        len(details.searches),
        record.seconds,
        *cost_of(record.cost),
    )


def last_search(details: RunDetails) -> SearchDetails | None:
    """Return the last search that has a best candidate, else the last one."""
    with_best = [each for each in details.searches if each.best is not None] or details.searches
    return with_best[-1] if with_best else None


def cost_of(cost: dict[str, object]) -> tuple[float | None, str]:
    """Return the amount and the currency of a record's cost, None and nothing if it is not known."""
    amount = cost.get("amount")
    known = isinstance(amount, int | float) and math.isfinite(amount)
    return (float(amount), str(cost.get("currency", ""))) if known else (None, "")  # type: ignore[arg-type]
