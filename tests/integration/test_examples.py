"""Each example, run as its user would: by Python alone and by `skjob run` on this machine, with the same result.

The examples are those that lie in examples/, so that none can be forgotten. What they say of time is masked. They run
with an interpreter that has examples/digit-features in editable mode, and all that is installed here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import joblib
import pandas
import pytest
from sklearn.datasets import load_digits
from story import EXAMPLES, FITTED, user_python

DEADLINE = 120.0
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
JOBS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))
BRINGS_ITS_CLUSTER = "notebook_style.py"
ARGUMENTS = {
    "digits_grid_search.py": ["scores.json"],  # with every digit
    "scaled_up_search.py": ["--candidates", "3", "--seconds", "0.2"],
}

Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return user_python(tmp_path_factory.mktemp("user"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No setting and no kubeconfig of whoever runs the tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return ours | {"KUBECONFIG": str(tmp_path / "none"), "NO_COLOR": "1"}


def _run(folder: Path, environment: dict[str, str], *command: str) -> Ended:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 0, ended.stderr
    return ended


def _outcomes(folder: Path) -> list[object]:
    return [json.loads(path.read_text())["outcome"] for path in (folder / ".skjob" / "runs").glob("*/run.json")]


SUCCEEDED = {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


def without_times(printed: str) -> str:
    """What an example prints, with its seconds masked: there are some, in each."""
    assert FITTED.search(printed), printed
    return FITTED.sub("fitted in … s", printed)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != BRINGS_ITS_CLUSTER])
def test_a_script_gives_by_skjob_what_it_gives_by_python(
    python: str, tmp_path: Path, environment: dict[str, str], name: str
) -> None:
    for folder in ("alone", "by_skjob"):  # what one leaves, as kept fits, the other must not find
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text((EXAMPLES / name).read_text())
    arguments = ARGUMENTS.get(name, [])
    alone = _run(tmp_path / "alone", environment, python, name, *arguments)
    run = [python, "-m", "skjob", "run", name, "--on", "local", "--workers", "2", "--", *arguments]
    by_skjob = _run(tmp_path / "by_skjob", environment, *run)
    assert without_times(by_skjob.stdout) == without_times(alone.stdout)
    assert _outcomes(tmp_path / "by_skjob") == [SUCCEEDED]
    if "scores.json" in arguments:
        assert _scores(tmp_path / "by_skjob") == _scores(tmp_path / "alone")


def _scores(folder: Path) -> dict[str, object]:
    scores = json.loads((folder / "scores.json").read_text())
    return {name: values for name, values in scores.items() if "_time" not in name}


def test_a_notebook_brings_its_cluster(python: str, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / BRINGS_ITS_CLUSTER).write_text((EXAMPLES / BRINGS_ITS_CLUSTER).read_text())
    ended = _run(tmp_path, environment | {"SKJOB_ON": "local"}, python, BRINGS_ITS_CLUSTER)
    assert without_times(ended.stdout).splitlines()[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert "skjob: running on this machine: " in ended.stderr


@pytest.mark.parametrize("name", JOBS)
def test_a_declared_job_writes_its_results(python: str, tmp_path: Path, environment: dict[str, str], name: str) -> None:
    (tmp_path / "job.yaml").write_text((EXAMPLES / name).read_text())
    ended = _run(tmp_path, environment, python, "-m", "skjob", "run", "job.yaml", "--on", "local", "--workers", "2")
    assert "best score       0.98" in ended.stdout
    assert "table            results.csv" in ended.stdout
    X, y = load_digits(return_X_y=True)
    assert joblib.load(tmp_path / "best.joblib").score(X, y) > 0.98
    assert len(pandas.read_csv(tmp_path / "results.csv")) == 8
    assert _outcomes(tmp_path) == [SUCCEEDED]


def test_the_readme_names_each_example() -> None:
    named = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    assert named == {*SCRIPTS, *JOBS, "digit-features"}
