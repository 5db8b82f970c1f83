"""Each example, run as its user would: by Python alone and by `skjob run` on this machine, with the same result.

The interpreter has what is installed here, and examples/digit-features in editable mode.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from example_programs import (
    ARGUMENTS,
    BRINGS_ITS_CLUSTER,
    JOBS,
    RESULTS,
    SCORES,
    SCRIPTS,
    SUCCEEDED,
    best_or_only_score,
    found,
    measurements,
    results,
    scores,
)
from story import EXAMPLES, user_python

DEADLINE = 240.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return user_python(tmp_path_factory.mktemp("user"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No setting and no kubeconfig of whoever runs the tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return ours | {"KUBECONFIG": str(tmp_path / "none"), "NO_COLOR": "1"}


def _run(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 0, ended.stderr
    return ended


def _outcomes(folder: Path) -> list[object]:
    return [json.loads(path.read_text())["outcome"] for path in (folder / ".skjob" / "runs").glob("*/run.json")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_by_skjob_what_it_finds_by_python(
    python: str, tmp_path: Path, environment: dict[str, str], name: str
) -> None:
    alone, by_skjob = tmp_path / "alone", tmp_path / "by_skjob"  # fits that one keeps, the other must not find
    for folder in (alone, by_skjob):
        folder.mkdir()
        (folder / name).write_text((EXAMPLES / name).read_text())
    arguments = ARGUMENTS.get(name, [])
    expected = found(_run(alone, environment, python, name, *arguments).stdout)
    run = [python, "-m", "skjob", "run", name, "--on", "local", "--workers", "2", "--", *arguments]
    assert found(_run(by_skjob, environment, *run).stdout) == expected
    assert scores(by_skjob) == scores(alone)
    assert bool(scores(alone)) == (SCORES in arguments)
    assert _outcomes(by_skjob) == [SUCCEEDED]


def test_a_notebook_brings_its_cluster(python: str, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / BRINGS_ITS_CLUSTER).write_text((EXAMPLES / BRINGS_ITS_CLUSTER).read_text())
    ended = _run(tmp_path, environment | {"SKJOB_ON": "local"}, python, BRINGS_ITS_CLUSTER)
    assert found(ended.stdout)[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert "skjob: running on this machine: " in ended.stderr


@pytest.mark.parametrize("name", JOBS)
def test_a_declared_job_writes_its_results(python: str, tmp_path: Path, environment: dict[str, str], name: str) -> None:
    (tmp_path / "job.yaml").write_text((EXAMPLES / name).read_text())
    with measurements("127.0.0.1") as storage:
        run = [python, "-m", "skjob", "run", "job.yaml", "--on", "local", "--workers", "2"]
        ended = _run(tmp_path, environment | storage, *run)
    assert best_or_only_score(ended.stdout) > 0.8
    assert results(tmp_path) == RESULTS[name]
    assert _outcomes(tmp_path) == [SUCCEEDED]


def test_the_readme_names_each_example() -> None:
    named = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    assert named == {*SCRIPTS, *JOBS, BRINGS_ITS_CLUSTER, "digit-features"}
