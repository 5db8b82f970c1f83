"""Programs of tests/programs on a real Kubernetes: the same output and exit status as by plain Python.

What files and modules are there, and what of a process reaches another, is another thing in pods than on this machine.
All other programs run there alone: tests/integration/test_programs.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.runs import DEADLINE
from support.side_by_side import Stage, side_by_side
from user_programs import UserProgram, user_programs

AT_EACH_LANDING = {"fold_files", "sys_path"}
IN_PODS = {
    *AT_EACH_LANDING, "dump_fitted", "environ_setting", "hash_order", "logging_in_fit", "manager_of_processes",
    "parquet_by_tasks", "scorer_collects",
}  # fmt: skip
RUNS_HERE = "runs in this process"


def _run(command: list[str], folder: Path, environment: dict[str, str], stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=DEADLINE
    )


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(each, id=each.name, marks=[] if each.name in AT_EACH_LANDING else [pytest.mark.slow])
        for each in user_programs()
        if each.name in IN_PODS
    ],
)
@side_by_side
def test_a_program_prints_in_pods_what_it_prints_by_python(stage: Stage, program: UserProgram) -> None:
    alone = stage.folder / "alone"
    alone.mkdir()
    program.copy_to(alone)
    plain = [stage.runs.python, *program.command, *program.arguments]
    expected = _run(plain, alone, stage.runs.environment, program.stdin)
    assert expected.returncode == 0, expected.stderr
    skjob = [*stage.runs.command("")[:-1], *program.command, *program.arguments]  # before the copy: it writes a script
    program.copy_to(stage.folder)
    ended = _run(skjob, stage.folder, stage.runs.environment, program.stdin)
    assert (ended.returncode, ended.stdout) == (0, expected.stdout), ended.stderr
    told = program.told + program.told_in_pods
    assert [words for words in told if words not in ended.stderr] == [], ended.stderr
    assert (RUNS_HERE in ended.stderr) == any(RUNS_HERE in words for words in told), ended.stderr
    assert stage.runs.record()["place"] == "kubernetes"
