"""The table of the upstream suites, at the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROPERTY = "upstream"
COLUMNS = (
    "collected", "passed", "design", "chance", "memory", "absent", "slow", "skipped", "batches", "tests_with_batches",
)  # fmt: skip


Reports = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def upstream_options(pytestconfig: pytest.Config) -> list[str]:
    """For the pytest that runs a suite: `-m "not slow"` leaves the slow ones out there too."""
    expression = pytestconfig.getoption("markexpr")
    return ["-m", expression] if expression else []


@pytest.fixture(scope="session")
def upstream_reports() -> Reports:
    """For each suite that has run, the report of `upstream_plugin.py`."""
    return {}


@pytest.fixture
def keep_report(request: pytest.FixtureRequest, upstream_reports: Reports) -> Callable[[str, dict[str, Any]], None]:
    """For the tests that follow, and for the table at the end, which another process may show."""

    def keep(suite: str, report: dict[str, Any]) -> None:
        upstream_reports[suite] = report
        request.node.user_properties.append((PROPERTY, (suite, report)))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports: Reports = {
        suite: report
        for outcome in ("passed", "failed")
        for test in terminalreporter.stats.get(outcome, ())
        for name, value in getattr(test, "user_properties", ())
        if name == PROPERTY and test.when == "call"
        for suite, report in [value]
    }
    if not reports:
        return
    terminalreporter.section("upstream suites with skjob's backend")
    total = {column: sum(report[column] for report in reports.values()) for column in COLUMNS}
    terminalreporter.line(_line("", {column: column.partition("_")[0] for column in COLUMNS}, "failed (with memory)"))
    for suite, report in {**reports, "all": total}.items():
        terminalreporter.line(_line(suite.rpartition(".")[2], report, _share(report)))
    terminalreporter.line(
        "collected = passed + design + chance + memory + absent + slow + skipped; "
        "batches: how many went through the backend; tests: from how many tests"
    )
    for report in reports.values():
        for listed in report["listed"]:
            terminalreporter.line(f"{listed['kind']:<8}{listed['tests']:>3} x {listed['test']}: {listed['cause']}")


def _share(report: dict[str, Any]) -> str:
    """Failures by the tests that have run: skjob's own, and with those of any processes."""
    own = report["design"] + report["chance"]
    ran = report["passed"] + own + report["memory"]
    return f"{own / ran:.1%} ({(own + report['memory']) / ran:.1%})"


def _line(name: str, values: dict[str, Any], share: str) -> str:
    return f"{name:<16}" + "".join(f"{values[column]!s:>10}" for column in COLUMNS) + f"  {share}"
