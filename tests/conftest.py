"""What all tests share: each is marked by its folder, and the summary counts each kind of test."""

from __future__ import annotations

from collections import Counter
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.collectonly:
        return
    counts = {kind: Counter[str]() for kind in KINDS}
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, ()):
            kind = kind_of(report.nodeid)
            if kind:
                counts[kind][outcome] += 1
    terminalreporter.section("tests by kind")
    for kind, count in counts.items():
        told = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])
        terminalreporter.line(f"{kind + ' tests:':<19}{told or 'none ran'}")
