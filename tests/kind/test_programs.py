"""Programs of tests/programs on a real Kubernetes: the same output and exit status as with plain Python.

These programs depend on files, modules or state of processes, which differ between pods and this machine.
tests/integration/test_programs.py runs all programs on this machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.runs import DEADLINE
from support.side_by_side import Sandbox, side_by_side
from user_programs import UserProgram, user_programs

NOT_SLOW = {"fold_files", "sys_path"}
IN_PODS = {
    *NOT_SLOW, "dump_fitted", "environ_setting", "hash_order", "logging_in_fit", "manager_of_processes",
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
        pytest.param(each, id=each.name, marks=[] if each.name in NOT_SLOW else [pytest.mark.slow])
        for each in user_programs()
        if each.name in IN_PODS
    ],
)
@side_by_side
def test_program_prints_the_same_in_pods(sandbox: Sandbox, program: UserProgram) -> None:
    plain_folder = sandbox.folder / "plain"
    plain_folder.mkdir()
    program.copy_to(plain_folder)
    plain_command = [sandbox.runs.python, *program.command, *program.arguments]
    expected = _run(plain_command, plain_folder, sandbox.runs.environment, program.stdin)
    assert expected.returncode == 0, expected.stderr
    skjob = [
        *sandbox.runs.command("")[:-1],
        *program.command,
        *program.arguments,
    ]  # before the copy: `command` writes a script
    program.copy_to(sandbox.folder)
    ended = _run(skjob, sandbox.folder, sandbox.runs.environment, program.stdin)
    assert (ended.returncode, ended.stdout) == (0, expected.stdout), ended.stderr
    messages = program.messages + program.messages_in_pods
    assert [words for words in messages if words not in ended.stderr] == [], ended.stderr
    assert (RUNS_HERE in ended.stderr) == any(RUNS_HERE in words for words in messages), ended.stderr
    assert sandbox.runs.record()["place"] == "kubernetes"
