"""Each example on a real Kubernetes, from a user's environment: what it finds there is what it finds by Python alone.

examples/digit-features is installed in editable mode beside what the user has; the image has neither it nor the
boosters.
"""

from __future__ import annotations

import subprocess

import joblib
import pandas
import pytest
from example_programs import ARGUMENTS, BRINGS_ITS_CLUSTER, JOBS, SCORES, SCRIPTS, SUCCEEDED, found, scores
from runs import DEADLINE, Runs
from story import EXAMPLES, install_package
from user_env import UserEnvironment


@pytest.fixture(scope="module", autouse=True)
def own_package(user_environment: UserEnvironment, tmp_path_factory: pytest.TempPathFactory) -> None:
    install_package(user_environment.python, tmp_path_factory.mktemp("own"))


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


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_in_pods_what_it_finds_by_python(user_runs: Runs, name: str) -> None:
    arguments = ARGUMENTS.get(name, [])
    ended = user_runs.run((EXAMPLES / name).read_text(), "--", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert found(ended.stdout) == found(by_python(user_runs, name, *arguments).stdout)
    assert scores(user_runs.folder) == scores(user_runs.folder / "alone")
    assert bool(scores(user_runs.folder)) == (SCORES in arguments)
    told = user_runs.record()
    assert (told["place"], told["outcome"]) == ("kubernetes", SUCCEEDED)


def test_a_notebook_brings_its_cluster(user_runs: Runs) -> None:
    where = {"SKJOB_ON": "kubernetes", "SKJOB_CONTEXT": "kind-skjob", "SKJOB_NAMESPACE": user_runs.namespace}
    ended = by_python(user_runs, BRINGS_ITS_CLUSTER, **where)
    assert found(ended.stdout)[1:] == [
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
