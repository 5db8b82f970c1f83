"""What all tests share: each is marked by its folder, and the summary counts each kind of test."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from turns import lane, rank

TESTS = Path(__file__).parent
KINDS = ("unit", "integration", "kind")
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job of a script's, `.ci/run &`: all that the tests start would ignore it too, skjob among them.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def kind_of(path: str) -> str | None:
    """The folder below tests/ that a file or a test id lies in."""
    parts = Path(path.partition("::")[0]).parts
    return next((kind for kind in KINDS if parts[:2] == ("tests", kind)), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in KINDS:
            item.add_marker(folder)
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests by lanes.

    GONE WHEN `pytest -v -n 2 --dist loadgroup` shows `@NAME` after a test marked `xdist_group("NAME")`: a lane can be a
    group then. xdist 3.8 writes groups to `_nodeid`, which pytest 9.2 no longer has, so that they do nothing.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByLane(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid)

    return ByLane(config, log)


TABLES = {
    "faults": ("killed", "when", "what the user saw", "fits lost", "fits repeated", "s to carry on"),
    "security": ("claim", "attack", "what happened", "enforced here"),
    "causes": ("cause", "how provoked", "s from known to told", "exit", "message"),
    "leftovers": ("what ended", "left after 5 s", "s until nothing was left", "what removed it"),
}
"""The tables that tests add rows to, shown at the end of a run; the first column of each is where the test ran."""


def _adds_to(table: str, request: pytest.FixtureRequest) -> Callable[..., None]:
    def add(*cells: object) -> None:
        assert len(cells) == len(TABLES[table])
        told = ["–" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
        request.node.user_properties.append((table, told))

    return add


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A row of the table of faults: what was killed, when, what the user saw, and what it cost."""
    return _adds_to("faults", request)


@pytest.fixture
def leftover_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A row of the table of leftovers: how a run ended, what was left of it, and for how long."""
    return _adds_to("leftovers", request)


@pytest.fixture
def security_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A row of the table of security: a claim, the attack on it, and what came of it in this cluster."""
    return _adds_to("security", request)


@pytest.fixture
def cause_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A row of the table of causes: why a run could not go on, how soon that was told, and in which words."""
    return _adds_to("causes", request)


def show_table(terminalreporter: pytest.TerminalReporter, table: str) -> None:
    reports = [report for outcome in OUTCOMES for report in terminalreporter.stats.get(outcome, ())]
    rows = [
        (kind_of(report.nodeid) or "", *row)
        for report in reports
        for name, row in getattr(report, "user_properties", ())
        if name == table and getattr(report, "when", "") == "call"
    ]
    if rows:
        terminalreporter.section(table)
        head = ("where", *TABLES[table])
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
    for table in TABLES:
        show_table(terminalreporter, table)
    terminalreporter.section("tests by kind")
    for kind, count in counts.items():
        told = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])
        terminalreporter.line(f"{kind + ' tests:':<19}{told or 'none ran'}")
