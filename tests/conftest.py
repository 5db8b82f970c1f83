"""What all tests share: each is marked by its folder, and the summary counts each kind of test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
KINDS = ("unit", "integration", "kind")
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


def kind_of(path: str) -> str | None:
    """The folder below tests/ that a file or a test id lies in."""
    parts = Path(path.partition("::")[0]).parts
    return next((kind for kind in KINDS if parts[:2] == ("tests", kind)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in KINDS:
            item.add_marker(folder)


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A row of the table of faults, shown at the end: what was killed, when, what the user saw, and what it cost."""

    def add(killed: str, when: str, seen: str, lost: int, repeated: int, seconds: float | None) -> None:
        told = "–" if seconds is None else f"{seconds:.1f}"
        request.node.user_properties.append(("fault", (killed, when, seen, str(lost), str(repeated), told)))

    return add


def show_faults(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in OUTCOMES for report in terminalreporter.stats.get(outcome, ())]
    rows = [
        (kind_of(report.nodeid) or "", *row)
        for report in reports
        for name, row in getattr(report, "user_properties", ())
        if name == "fault" and getattr(report, "when", "") == "call"
    ]
    if rows:
        terminalreporter.section("faults")
        head = ("where", "killed", "when", "what the user saw", "fits lost", "fits repeated", "s to carry on")
        for row in (head, ("---",) * len(head), *rows):
            terminalreporter.line(f"| {' | '.join(row)} |")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.collectonly:
        return
    counts = {kind: Counter[str]() for kind in KINDS}
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, ()):
            kind = kind_of(report.nodeid)
            if kind:
                counts[kind][outcome] += 1
    show_faults(terminalreporter)
    terminalreporter.section("tests by kind")
    for kind, count in counts.items():
        told = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])
        terminalreporter.line(f"{kind + ' tests:':<19}{told or 'none ran'}")
