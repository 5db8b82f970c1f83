"""The benchmarks work, and what they count is as it should be. What they time is not looked at here."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _table(name: str) -> dict[str, dict[str, str]]:
    """The rows of one quick run with skjob alone, by what they are about; each has its cells by column."""
    command = [sys.executable, str(BENCHMARKS / "engine.py"), name, "--quick", "--peers", "skjob"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row[1]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.mark.parametrize(("case", "rows"), [("a-search", 1), ("b-48-from-0", 2), ("c", 1), ("f", 6), ("g", 1)])
def test_each_row_of_what_is_timed_has_a_number(case: str, rows: int) -> None:
    table = _table(case)
    assert len(table) == rows
    assert all(float(row["skjob"]) >= 0 for row in table.values())


def test_data_reaches_each_worker_once() -> None:
    table = _table("d")
    counted = {what: float(row["skjob"]) for what, row in table.items() if what.endswith("× size")}
    assert len(counted) == 6
    assert all(0.95 <= times <= 1.05 for times in counted.values()), counted
    assert [row["skjob"] for what, row in table.items() if what.endswith("the local ones")] == ["0"] * 3


def test_no_finished_fit_is_repeated() -> None:
    table = _table("e")
    finished, repeated, *_ = (float(row["skjob"]) for row in table.values())
    assert finished >= 15
    assert repeated == 0


def test_each_step_of_the_story_has_its_times_beside_those_of_python_alone() -> None:
    command = [sys.executable, str(BENCHMARKS / "story.py"), "scaled", "package", "--quick", "--on", "python,local"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(head) == 6
    assert [row[0].split(":")[0].strip() for row in rows] == ["scaled up for the search", "package sync"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
