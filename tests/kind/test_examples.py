"""Each example on a real Kubernetes, from a user's environment: what it prints there is what Python alone prints.

The examples are those that lie in examples/, so that none can be forgotten; what they say of time is masked. Their own
package, examples/digit-features, is installed in editable mode beside what the user has.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import joblib
import pandas
import pytest
from runs import DEADLINE, Runs
from story import EXAMPLES, FITTED, install_package
from user_env import UserEnvironment

SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
JOBS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))
BRINGS_ITS_CLUSTER = "notebook_style.py"
ARGUMENTS = {
    "digits_grid_search.py": ["scores.json"],  # with every digit
    "scaled_up_search.py": ["--candidates", "4", "--seconds", "0.2"],
}

SUCCEEDED = {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


@pytest.fixture(scope="module", autouse=True)
def own_package(user_environment: UserEnvironment, tmp_path_factory: pytest.TempPathFactory) -> None:
    install_package(user_environment.python, tmp_path_factory.mktemp("own"))


def without_times(printed: str) -> str:
    """What an example prints, with its seconds masked: there are some, in each."""
    assert FITTED.search(printed), printed
    return FITTED.sub("fitted in … s", printed)


def by_python(runs: Runs, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folder = runs.folder / "alone"
    folder.mkdir()
    (folder / name).write_text((EXAMPLES / name).read_text())
    ended = subprocess.run(
        [runs.python, name, *arguments], cwd=folder, env=runs.environment | environment,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != BRINGS_ITS_CLUSTER])
def test_a_script_gives_in_pods_what_it_gives_by_python(user_runs: Runs, name: str) -> None:
    arguments = ARGUMENTS.get(name, [])
    ended = user_runs.run((EXAMPLES / name).read_text(), "--", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert without_times(ended.stdout) == without_times(by_python(user_runs, name, *arguments).stdout)
    told = user_runs.record()
    assert (told["place"], told["outcome"]) == ("kubernetes", SUCCEEDED)
    if "scores.json" in arguments:
        assert _scores(user_runs.folder) == _scores(user_runs.folder / "alone")


def _scores(folder: Path) -> dict[str, object]:
    scores = json.loads((folder / "scores.json").read_text())
    return {name: values for name, values in scores.items() if "_time" not in name}


def test_a_notebook_brings_its_cluster(user_runs: Runs) -> None:
    where = {"SKJOB_ON": "kubernetes", "SKJOB_CONTEXT": "kind-skjob", "SKJOB_NAMESPACE": user_runs.namespace}
    ended = by_python(user_runs, BRINGS_ITS_CLUSTER, **where)
    assert without_times(ended.stdout).splitlines()[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert f"running on Kubernetes: context `kind-skjob`, namespace `{user_runs.namespace}`" in ended.stderr
    assert [file.name for file in (user_runs.folder / "alone").iterdir()] == [BRINGS_ITS_CLUSTER]


@pytest.mark.parametrize("name", JOBS)
def test_a_declared_job_writes_its_results(user_runs: Runs, name: str) -> None:
    (user_runs.folder / "job.yaml").write_text((EXAMPLES / name).read_text())
    command = [part if part != "train.py" else "job.yaml" for part in user_runs.command("")]
    ended = subprocess.run(
        command, cwd=user_runs.folder, env=user_runs.environment, capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 0, ended.stderr
    assert joblib.load(user_runs.folder / "best.joblib").n_features_in_ == 64
    assert len(pandas.read_csv(user_runs.folder / "results.csv")) == 8
    told = user_runs.record()
    assert (told["place"], told["outcome"]) == ("kubernetes", SUCCEEDED)
