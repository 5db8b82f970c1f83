"""Summarize a run in Markdown, for the summary page of a GitHub job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from skjob.errors import first_line, without_credentials
from skjob.run.history.details import RunDetails, SearchDetails
from skjob.run.history.summary import summary_of
from skjob.utils.text import shortened, visible
from skjob.utils.units import format_duration, format_score

TOP = 5
MAX_SEARCHES = 10
MAX_FAILURES = 5
MAX_PARAMETERS = 8
MAX_VALUE = 80

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def escaped(text: str) -> str:
    """Escape a text for Markdown, on one line.

    Each character that Markdown or HTML could interpret is written as a character reference.
    """
    return _PUNCTUATION.sub(lambda sign: f"&#{ord(sign[0])};", visible(without_credentials(text)))


def summary(details: RunDetails) -> str:
    """Return the summary of a run: outcome, totals, and the best candidates of each search."""
    from skjob.deploy.kubernetes.costs.prices import money

    record, known = details.record, summary_of(details)
    status = {"succeeded": "✅", "running": "⏳"}.get(record.outcome.status, "❌")
    code = f", exit status {known.exit_code}" if known.exit_code else ""
    lines = [f"### {status} skjob: {escaped(shortened(record.program, MAX_VALUE))} {escaped(known.status)}{code}", ""]
    if record.outcome.cause:
        lines += [escaped(shortened(first_line(record.outcome.cause), 500)), ""]
    totals = [("run", escaped(record.run_id)), ("where", escaped(record.place or "-"))]
    if known.fits is not None:
        totals.append(("fits" if details.searches else "fits and tasks", str(known.fits)))
        totals.append(("reused", str(known.reused or 0)))
        totals.append(("failed", "-" if known.failed is None else str(known.failed)))
    if record.workers:
        totals.append(("workers", str(max(each.connected for each in record.workers))))
    if known.seconds is not None:
        totals.append(("time", format_duration(known.seconds)))
    if known.cost is not None:
        totals.append(("cost", escaped(money(known.cost, known.currency))))
    lines += _table([name for name, _ in totals], [[value for _, value in totals]])
    for search in details.searches[:MAX_SEARCHES]:
        lines += _search(search)
    if len(details.searches) > MAX_SEARCHES:
        lines += [f"{len(details.searches) - MAX_SEARCHES} more searches are in the report.", ""]
    if details.failures:
        lines += [f"**{details.failed} fits failed:**", ""]
        lines += [f"- {each.fits}: {escaped(shortened(each.error, 300))}" for each in details.failures[:MAX_FAILURES]]
        lines.append("")
    return "\n".join(lines) + "\n"


def _search(search: SearchDetails) -> list[str]:
    lines = [f"**{escaped(search.title)}**: {search.done} of {search.total} fits", ""]
    if not search.candidates:
        return lines
    names = search.varying[:MAX_PARAMETERS]
    metric = "score" if search.metric in ("", "score") else search.metric
    heading = ["", escaped(metric), "±", *(escaped(shortened(name, MAX_VALUE)) for name in names)]
    rows = []
    for rank, each in enumerate(search.candidates[:TOP], 1):
        candidate = each.candidate
        values = [escaped(shortened(candidate.parameters.get(name, "-"), MAX_VALUE)) for name in names]
        rows.append([str(rank), format_score(candidate.mean), format_score(candidate.spread, 2), *values])
    return [*lines, *_table(heading, rows)]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(heading), _row(["---"] * len(heading)), *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
