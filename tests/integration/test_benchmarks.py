"""The benchmarks work, and what they count is as it should be. What they time is not looked at here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine import runner
from waiting import DEADLINE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENGINE_SECONDS = 2 * DEADLINE
"""For a process that measures one thing after the other."""

pytestmark = pytest.mark.slow  # they are run by hand, and what they count is shown by tests of the engine

Table = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def quick() -> Table:
    """The rows of one quick run with skjob alone, by what they are about; each has its cells by column."""
    cases = ["a-search", "b-48-from-0", "c", "d", "e", "f", "g"]
    command = [sys.executable, str(BENCHMARKS / "engine"), *cases, "--quick", "--peers", "skjob"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {f"{row[0]}: {row[1]}": dict(zip(head, row, strict=True)) for row in rows}


def _of(table: Table, letter: str) -> Table:
    return {what.partition(": ")[2]: row for what, row in table.items() if what.startswith(f"{letter}: ")}


@pytest.mark.parametrize(("letter", "rows"), [("a", 1), ("b", 2), ("c", 1), ("f", 6), ("g", 1)])
def test_each_row_of_what_is_timed_has_a_number(quick: Table, letter: str, rows: int) -> None:
    table = _of(quick, letter)
    assert len(table) == rows
    assert all(float(row["skjob"]) >= 0 for row in table.values())


def test_the_cost_of_events_has_three_numbers() -> None:
    command = [sys.executable, str(BENCHMARKS / "stream.py"), "--fits", "50", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert len([number for number in re.findall(r"[0-9.]+", done.stdout) if float(number) > 0]) == 3


def test_a_measurement_has_a_process_of_its_own() -> None:
    cases, _ = runner.subjects()
    numbers = runner.measure(next(case for case in cases if case.name == "a-calls"), "skjob", quick=True)
    assert isinstance(numbers, dict), numbers
    assert numbers["efficiency"] > 0


def test_data_reaches_each_worker_once(quick: Table) -> None:
    table = _of(quick, "d")
    counted = {what: float(row["skjob"]) for what, row in table.items() if what.endswith("× size")}
    assert len(counted) == 6
    assert all(0.95 <= times <= 1.05 for times in counted.values()), counted
    assert [row["skjob"] for what, row in table.items() if what.endswith("the local ones")] == ["0"] * 3


def test_no_finished_fit_is_repeated(quick: Table) -> None:
    finished, repeated, *_ = (float(row["skjob"]) for row in _of(quick, "e").values())
    assert finished >= 15
    assert repeated == 0


def test_each_step_of_the_story_has_its_times_beside_those_of_python_alone() -> None:
    command = [sys.executable, str(BENCHMARKS / "story.py"), "scaled", "package", "--quick", "--on", "python,local"]
    one_core = os.environ | {"LOKY_MAX_CPU_COUNT": "1"}  # nothing is timed: Python alone needs no processes of its own
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, env=one_core, check=False)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(head) == 6
    assert [row[0].split(":")[0].strip() for row in rows] == ["scaled up for the search", "package sync"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
