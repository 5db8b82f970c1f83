"""Each program in tests/programs has the same output and exit status with plain Python and `skjob run`.

If there is a difference, skjob must report it with the message in the program's header, and it must not report one
about other programs. docs/explanation/differences.md has the kinds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from local_runs import FinishedRun, LocalRuns, WarmClusters
from support import python_server
from user_programs import UserProgram, user_programs
from waiting import DEADLINE

KINDS = set("ABCDEFGHIK")
RUNS_HERE = "runs in this process"
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "differences.md"


def _runs(folder: Path, clusters: WarmClusters, program: UserProgram) -> LocalRuns:
    folder.mkdir()
    program.copy_to(folder)
    return LocalRuns(folder, clusters)


def _by_python(runs: LocalRuns, program: UserProgram) -> FinishedRun:
    command = [*program.command, *program.arguments]
    start = python_server.run_new if program.new_python else python_server.run
    ended = start(command, runs.folder, runs.environment, stdin=program.stdin, timeout=DEADLINE)
    return FinishedRun(ended.returncode, ended.stdout, ended.stderr, {})


def _by_skjob(runs: LocalRuns, program: UserProgram) -> FinishedRun:
    if program.module:
        return runs.run(Path(program.module), "-m", arguments=program.arguments, stdin=program.stdin)
    return runs.run(program.main, arguments=program.arguments, stdin=program.stdin)


def _marks(program: UserProgram) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.slow] if program.slow else []
    return [*marks, pytest.mark.xfail(reason=program.open, strict=True)] if program.open else marks


@pytest.mark.parametrize("program", [pytest.param(each, id=each.name, marks=_marks(each)) for each in user_programs()])
def test_program_prints_the_same(tmp_path: Path, warm_clusters: WarmClusters, program: UserProgram) -> None:
    plain = _runs(tmp_path / "plain", warm_clusters, program)  # each has its own files
    by_skjob = _runs(tmp_path / "by_skjob", warm_clusters, program)
    for time in range(2 if program.twice else 1):
        expected = _by_python(plain, program)
        ended = _by_skjob(by_skjob, program)
        if program.differs:
            assert program.messages
            assert ended.stdout != expected.stdout, "the output is the same: the header is out of date"
        else:
            assert ended.stdout == expected.stdout, f"run {time + 1}: {expected.stderr}\n{ended.stderr}"
        assert ended.returncode == expected.returncode, ended.stderr
        for message in program.messages:
            assert message in ended.stderr, f"run {time + 1}: {ended.stderr}"
        if not any(RUNS_HERE in message for message in program.messages):
            assert RUNS_HERE not in ended.stderr, ended.stderr


def test_programs_of_every_kind_are_run_and_documented() -> None:
    """`make test` runs programs of every kind, and the page on differences names each program."""
    programs = user_programs()
    assert {program.kind for program in programs if not program.slow} == KINDS
    page = PAGE.read_text()
    assert [program.name for program in programs if f"`{program.name}`" not in page] == []
