"""Build the report's sections about the whole run: outcome, failures, workers, steps, environment, notes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from skjob.report.html import Html, folded, joined, table, tag
from skjob.report.run_charts import cost_words, fit_times, timeline, workers_over_time
from skjob.report.scales import label
from skjob.report.search_sections import figure
from skjob.run.history.details import RunDetails
from skjob.run.history.summary import summary_of
from skjob.run.record import read_moment
from skjob.utils.text import counts, shortened
from skjob.utils.units import format_bytes, format_duration

NO_EVENTS = "This run has no record of its fits: an earlier version wrote it, or the program made no parallel calls."

MAX_GROUPS = 20
MAX_NOTES = 200
MAX_LOG = 20_000
"""Maximum number of characters of a log, from its end."""


def head(details: RunDetails) -> Html:
    """Return the top of the page: which run it is, how it ended, and its totals."""
    record, summary = details.record, summary_of(details)
    status = record.outcome.status
    good = status == "succeeded"
    words = {"succeeded": "✓ succeeded", "running": "… not finished"}.get(status, f"✗ {status}")
    if summary.exit_code:
        words += f", exit status {summary.exit_code}"
    command = " ".join([record.program, *record.arguments])
    cause = record.outcome.cause
    facts = [("outcome", tag("span", words, class_="good" if good else "bad")), *_facts(details)]
    return tag(
        "header",
        tag("h1", record.program or "A run"),
        tag("p", f"Run {record.run_id}, started {_moment(record.started)}", class_="soft"),
        tag("p", tag("code", command), f": {record.why}" if record.why else None),
        tag("p", tag("strong", "Cause: "), shortened(cause, 2000), class_="bad") if cause else None,
        tag("p", tag("strong", "Clean-up: "), record.outcome.cleanup, class_="bad") if record.outcome.cleanup else None,
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts"),
        None if details.has_events else tag("p", NO_EVENTS),
    )  # fmt: skip


def _facts(details: RunDetails) -> list[tuple[str, str]]:
    record, summary = details.record, summary_of(details)
    facts = []
    if summary.best is not None:
        metric = "" if summary.metric in ("", "score") else f" {summary.metric}"
        facts.append(("best score", f"{label(summary.best)}{metric}"))
    if summary.fits is not None:
        parts = counts(reused=summary.reused, failed=summary.failed)
        facts.append(
            (
                "fits" if details.searches else "fits and tasks",
                f"{summary.fits}" + (f" ({', '.join(parts)})" if parts else ""),
            )
        )
    if summary.seconds is not None:
        facts.append(("time", format_duration(summary.seconds)))
    if record.workers:
        facts.append(("workers", f"at most {max(each.connected for each in record.workers)} connected"))
    facts += [("cost", row[1]) for row in cost_words(details)[:1]]
    if record.place:
        facts.append(("where", record.place))
    return facts


def _moment(text: str) -> str:
    read = read_moment(text)
    return text or "at an unknown time" if read is None else f"{read.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def failures(details: RunDetails) -> Html | None:
    """Return why fits failed, with similar errors grouped."""
    if not details.failures:
        return None
    rows = [
        [
            str(group.fits),
            shortened(group.error or "unknown reason", 500),
            shortened(group.example, 300) or "-",
            _names(group.workers),
        ]
        for group in details.failures[:MAX_GROUPS]
    ]  # fmt: skip
    hidden = len(details.failures) - len(rows)
    return joined([
        tag("p", f"{details.failed} fits failed. Errors that differ only in numbers share a row, with an example."),
        table(["fits", "error", "for example with", "on workers"], rows, "Failed fits by cause"),
        tag("p", f"{hidden} more causes are not listed.") if hidden else None,
    ])  # fmt: skip


def _names(workers: set[str]) -> str:
    names = sorted(name or "(program)" for name in workers)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def work(details: RunDetails) -> Html | None:
    """Return charts of fit times and workers, and the costs."""
    charts = [figure(each) for each in (timeline(details), workers_over_time(details), fit_times(details))]
    costs = cost_words(details)
    if not any(charts) and not costs:
        return None
    return joined([table(["what", "cost"], costs, "Cost") if costs else None, tag("div", *charts, class_="charts")])


def steps(details: RunDetails) -> Html | None:
    """Return the steps that the run waited for, with bars from start to end."""
    recorded = details.record.steps
    if not recorded:
        return None
    whole = max(details.ended - details.began, 0.001)
    rows = []
    for step in recorded:
        seconds = step.seconds
        moment = read_moment(step.started)
        start = 0.0 if moment is None else moment.timestamp() - details.began
        left = min(100.0, max(0.0, 100 * start / whole))
        width = min(100.0 - left, 100 * (seconds or 0.0) / whole)
        drawn = tag("div", tag("span", style=f"left:{left:.1f}%;width:{width:.1f}%"), class_="step", aria_hidden="true")
        rows.append([step.name, "not finished" if seconds is None else format_duration(seconds), drawn])
    return table(["step", "took", "when"], rows, "Steps that the run waited for")


def environment(details: RunDetails) -> Html | None:
    """Return versions, the cluster's settings, and whether numbers match a local run."""
    record = details.record
    cluster = [[name, _setting(name, value)] for name, value in record.cluster.items() if value not in (None, {}, [])]
    numbers = [[name, _setting(name, value)] for name, value in record.numbers.items() if value not in (None, {}, [])]
    data = [[name, _setting(name, value)] for name, value in record.data.items() if value not in (None, {}, [])]
    tables = [
        table([kind, "value"], rows, caption)
        for kind, rows, caption in (
            ("package", [[name, version] for name, version in record.versions.items()], "Versions here"),
            ("setting", cluster, "Cluster"),
            ("numbers", numbers, "Do numbers match a local run?"),
            ("data", data, "Data of the job"),
        )
        if rows
    ]
    return tag("div", *tables, class_="charts") if tables else None


def _setting(name: str, value: Any) -> str:
    if name.endswith("memory") and isinstance(value, int):
        return format_bytes(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {each}" for key, each in value.items())
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def notes(details: RunDetails) -> Html | None:
    """Return skjob's notes during the run, and the logs that it kept of a failed one."""
    record = details.record
    parts: list[Html] = []
    if record.notes:
        parts.append(tag("ul", *(tag("li", note) for note in record.notes[:MAX_NOTES]), class_="notes"))
    if len(record.notes) > MAX_NOTES:
        parts.append(tag("p", f"{len(record.notes) - MAX_NOTES} more notes are in the record."))
    parts += [folded(f"Log of {name}", tag("pre", log[-MAX_LOG:])) for name, log in list(record.logs.items())[:50]]
    return joined(parts) if parts else None
