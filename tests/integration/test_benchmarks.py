"""The benchmarks run, and their counts are as expected. Times are not tested."""

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
"""Timeout of a process that runs several measurements."""

pytestmark = pytest.mark.slow  # benchmarks are run by hand, and tests of the engine check the same counts

Table = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def quick_table() -> Table:
    """The rows of one quick run with skjob only, by case and subject; each row maps columns to cells."""
    cases = ["a-search", "b-48-from-0", "c", "d", "e", "f", "g"]
    command = [sys.executable, str(BENCHMARKS / "engine"), *cases, "--quick", "--peers", "skjob"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {f"{row[0]}: {row[1]}": dict(zip(head, row, strict=True)) for row in rows}


def _rows_of(table: Table, letter: str) -> Table:
    return {what.partition(": ")[2]: row for what, row in table.items() if what.startswith(f"{letter}: ")}


@pytest.mark.parametrize(("letter", "rows"), [("a", 1), ("b", 2), ("c", 1), ("f", 6), ("g", 1)])
def test_each_timed_row_has_a_number(quick_table: Table, letter: str, rows: int) -> None:
    table = _rows_of(quick_table, letter)
    assert len(table) == rows
    assert all(float(row["skjob"]) >= 0 for row in table.values())


def test_event_benchmark_prints_three_numbers() -> None:
    command = [sys.executable, str(BENCHMARKS / "stream.py"), "--fits", "50", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert len([number for number in re.findall(r"[0-9.]+", done.stdout) if float(number) > 0]) == 3


def test_measurement_runs_in_its_own_process() -> None:
    cases, _ = runner.subjects()
    numbers = runner.measure(next(case for case in cases if case.name == "a-calls"), "skjob", quick=True)
    assert isinstance(numbers, dict), numbers
    assert numbers["efficiency"] > 0


def test_data_reaches_each_worker_once(quick_table: Table) -> None:
    table = _rows_of(quick_table, "d")
    copies = {what: float(row["skjob"]) for what, row in table.items() if what.endswith("× size")}
    assert len(copies) == 6
    assert all(0.95 <= times <= 1.05 for times in copies.values()), copies
    assert [row["skjob"] for what, row in table.items() if what.endswith("the local ones")] == ["0"] * 3


def test_finished_fits_are_not_repeated(quick_table: Table) -> None:
    finished, repeated, *_ = (float(row["skjob"]) for row in _rows_of(quick_table, "e").values())
    assert finished >= 15
    assert repeated == 0


def test_story_benchmark_times_each_step_with_python_and_skjob() -> None:
    command = [sys.executable, str(BENCHMARKS / "story.py"), "scaled", "package", "--quick", "--on", "python,local"]
    one_core = os.environ | {
        "LOKY_MAX_CPU_COUNT": "1"
    }  # times are not tested, so plain Python needs no worker processes
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_SECONDS, env=one_core, check=False)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(head) == 6
    assert [row[0].split(":")[0].strip() for row in rows] == ["scaled up for the search", "package sync"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
