"""Hooks and fixtures of all tests: marks by folder, tables that tests add rows to, and counts of each kind of test."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cluster_state import STARTING, cluster_state
from support.xdist_lanes import lane, next_lanes, rank

TESTS = Path(__file__).parent
KINDS = ("unit", "integration", "upstream", "browser", "kind")
MIN_SECONDS_SHOWN = 5.0
"""Minimum seconds of a file to be listed at the end of a run."""
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a script, such as `.ci/run &`, ignores SIGINT, which processes of the tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
    # In a GitHub job, runs of the tests would add to the job's summary and annotations.
    os.environ.pop(name, None)


def kind_of(path: str) -> str | None:
    """Return the folder below tests/ of a file or a test id."""
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
    """Give each process lanes of tests, and those that need the cluster as soon as it is ready.

    GONE WHEN `-v --dist loadgroup` shows `@NAME` after the tests of a mark `xdist_group(NAME)`: xdist 3.8 writes the
    groups to `_nodeid`, which pytest 9.2 no longer has. Lanes can be such groups then; their order stays.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByLane(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            ready = cluster_state() != STARTING
            for name in next_lanes(list(self.workqueue), cluster_is_ready=ready, taken=self.assigned_work[node]):
                self.workqueue.move_to_end(name)
            super()._assign_work_unit(node)

    return ByLane(config, log)


TABLES = {
    "faults": ("killed", "when", "what the user saw", "fits lost", "fits repeated", "s until next fit"),
    "security": ("claim", "attack", "what happened", "enforced here"),
    "causes": ("cause", "how provoked", "s from known to reported", "exit", "message"),
    "leftovers": ("what ended", "left after 5 s", "s until nothing was left", "what removed it"),
}
"""Columns of the tables that tests add rows to, shown at the end of a run after a column with the test's kind."""


def _row_adder(table: str, request: pytest.FixtureRequest) -> Callable[..., None]:
    def add(*cells: object) -> None:
        assert len(cells) == len(TABLES[table])
        texts = ["–" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
        request.node.user_properties.append((table, texts))

    return add


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table of faults: what was killed, when, what the user saw, and which fits were lost."""
    return _row_adder("faults", request)


@pytest.fixture
def leftover_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table of leftovers: how a run ended, what was left of it, and for how long."""
    return _row_adder("leftovers", request)


@pytest.fixture
def security_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table of security: a claim, the attack on it, and its outcome on this cluster."""
    return _row_adder("security", request)


@pytest.fixture
def cause_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table of causes: why a run could not continue, how soon it was reported, and the message."""
    return _row_adder("causes", request)


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


def show_seconds(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the seconds of all phases by folder and by file, the longest first."""
    seconds, tests = Counter[str](), Counter[str]()
    for outcome in (*OUTCOMES, ""):  # setup and teardown that passed have an empty outcome
        for report in terminalreporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                for place in (str(Path(*Path(file).parts[:2])), file):
                    seconds[place] += report.duration
                    tests[place] += report.when == "call"
    folders = [place for place in seconds if not place.endswith(".py")]
    if not folders:
        return
    terminalreporter.section("seconds by folder and file")
    for place in sorted(folders, key=lambda place: -seconds[place]):
        terminalreporter.line(f"{seconds[place]:8.1f} s {tests[place]:5} tests  {place}")
    terminalreporter.line("")
    for place, spent in seconds.most_common():
        if place.endswith(".py") and spent >= MIN_SECONDS_SHOWN:
            terminalreporter.line(f"{spent:8.1f} s {tests[place]:5} tests  {place}")


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
    show_seconds(terminalreporter)
    terminalreporter.section("tests by kind")
    for kind, count in counts.items():
        text = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])
        terminalreporter.line(f"{kind + ' tests:':<19}{text or 'none ran'}")
