"""The table of the upstream suites, at the end of the run."""

from __future__ import annotations

from typing import Any

import pytest

REPORTS = pytest.StashKey[dict[str, dict[str, Any]]]()
COLUMNS = ("collected", "passed", "design", "chance", "memory", "absent", "skipped", "batches", "tests_with_batches")


@pytest.fixture(scope="session")
def upstream_reports(pytestconfig: pytest.Config) -> dict[str, dict[str, Any]]:
    """For each suite that has run, the report of `upstream_plugin.py`."""
    return pytestconfig.stash.setdefault(REPORTS, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash.get(REPORTS, {})
    if not reports:
        return
    terminalreporter.section("upstream suites with skjob's backend")
    total = {column: sum(report[column] for report in reports.values()) for column in COLUMNS}
    terminalreporter.line(_line("", {column: column.partition("_")[0] for column in COLUMNS}, "failed (with memory)"))
    for suite, report in {**reports, "all": total}.items():
        terminalreporter.line(_line(suite.rpartition(".")[2], report, _share(report)))
    terminalreporter.line(
        "collected = passed + design + chance + memory + absent + skipped; "
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
