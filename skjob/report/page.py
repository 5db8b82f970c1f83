"""The report of a run as a page: what goes into it and in which order; one HTML file without a script.

Its policy forbids scripts and whatever else is not in the file, so that a value that were not escaped could still do
nothing. The estimator's own HTML diagram is not in it: it is markup with a script of its own, made from the program's
objects, which a record does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from skjob.report.html import Html, joined, tag
from skjob.report.run_sections import environment, failures, head, notes, steps, work
from skjob.report.search_sections import others, searches
from skjob.report.style import STYLE
from skjob.run.history.collect import read_details
from skjob.run.history.details import RunDetails
from skjob.run.history.records import PastRun

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_report(run: PastRun, path: Path) -> None:
    """Write the report of a run to a file, whole or not at all. Raises OSError if it cannot be written."""
    content = page(read_details(run))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def page(details: RunDetails) -> str:
    """Return the report of a run."""
    record = details.record
    sections = list(_sections(details))
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections]
    body = joined([
        head(details),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *(tag("section", tag("h2", title, id=name), content) for name, title, content in sections)),
        tag("footer", _made_from(details), class_="soft"),
    ])  # fmt: skip
    name = f"{record.program}: report of run {record.run_id}"
    inner = joined([
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", name),
        tag("style", Html(STYLE)),
    ])  # fmt: skip
    return f"<!doctype html>\n{tag('html', tag('head', inner), tag('body', body), lang='en')}\n"


def _sections(details: RunDetails) -> Iterator[tuple[str, str, Html]]:
    """Yield each section that has content: its anchor, its title, and the content."""
    yield from searches(details)
    for name, title, content in (
        ("calls", "Other parallel calls", others(details)),
        ("failures", "Failures", failures(details)),
        ("work", "Workers and time", work(details)),
        ("steps", "Steps", steps(details)),
        ("environment", "Environment", environment(details)),
        ("notes", "Notes and logs", notes(details)),
    ):
        if content is not None:
            yield name, title, content


def _made_from(details: RunDetails) -> str:
    version = details.record.versions.get("skjob", "")
    return f"Made by skjob from the record of the run{f', which skjob {version} wrote' if version else ''}."
