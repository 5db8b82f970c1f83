"""Each example on a real Kubernetes, from a user's environment: its results are those of plain Python.

examples/digit-features is installed in editable mode in the user's environment; the image has neither that nor the
boosters. All examples run on one warm cluster, except the one that starts its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from kubernetes import client
from story import EXAMPLES, install_package
from support.example_programs import (
    ARGUMENTS,
    BRINGS_ITS_CLUSTER,
    JOBS,
    RESULTS,
    SCORES,
    SCRIPTS,
    SUCCEEDED,
    best_or_only_score,
    measurements,
    notebook,
    printed_results,
    results,
    scores,
)
from support.nodes import address_for_pods
from support.runs import DEADLINE, Runs
from support.user_env import RunsIn, UserEnvironment

WARM_CLUSTER = "examples"


@pytest.fixture(scope="module")
def own_package(user_environment: UserEnvironment, tmp_path_factory: pytest.TempPathFactory) -> None:
    install_package(user_environment.python, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def warm_cluster(own_package: None, user_runs_in: RunsIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster with all packages that the examples import."""
    runs = user_runs_in(tmp_path_factory.mktemp("warm"))
    for name in SCRIPTS:
        (runs.folder / name).write_text((EXAMPLES / name).read_text())
    (runs.folder / "jobs.py").write_text("import pandas, pyarrow\n")
    up = runs.skjob("up", WARM_CLUSTER, "--workers", "2")
    try:
        assert up.returncode == 0, up.stderr
        yield WARM_CLUSTER
    finally:
        down = runs.skjob("down", WARM_CLUSTER)
    assert down.returncode == 0, down.stderr


def run_plain_python(runs: Runs, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folder = runs.folder / "plain"
    folder.mkdir()
    (folder / name).write_text(notebook() if name == BRINGS_ITS_CLUSTER else (EXAMPLES / name).read_text())
    ended = subprocess.run(
        [runs.python, name, *arguments], cwd=folder, env=runs.environment | environment,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.slow  # tests/integration/test_examples.py runs them on this machine, test_run.py searches in pods
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_has_the_same_results_in_pods(user_runs: Runs, warm_cluster: str, name: str) -> None:
    arguments = ARGUMENTS.get(name, [])
    ended = user_runs.run((EXAMPLES / name).read_text(), "--cluster", warm_cluster, "--", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert printed_results(ended.stdout) == printed_results(run_plain_python(user_runs, name, *arguments).stdout)
    assert scores(user_runs.folder) == scores(user_runs.folder / "plain")
    assert bool(scores(user_runs.folder)) == (SCORES in arguments)
    record = user_runs.record()
    assert (record["place"], record["outcome"]) == ("kubernetes", SUCCEEDED)


@pytest.mark.usefixtures("own_package")
def test_notebook_starts_its_own_cluster(user_runs: Runs) -> None:
    options = {"SKJOB_ON": "kubernetes", "SKJOB_CONTEXT": "kind-skjob", "SKJOB_NAMESPACE": user_runs.namespace}
    ended = run_plain_python(user_runs, BRINGS_ITS_CLUSTER, **options)
    assert printed_results(ended.stdout)[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert f"running on Kubernetes: context `kind-skjob`, namespace `{user_runs.namespace}`" in ended.stderr
    assert [file.name for file in (user_runs.folder / "plain").iterdir()] == [BRINGS_ITS_CLUSTER]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_job_file_writes_its_results(user_runs: Runs, warm_cluster: str, kind_api: client.ApiClient, name: str) -> None:
    (user_runs.folder / "job.yaml").write_text((EXAMPLES / name).read_text())
    command = [part if part != "train.py" else "job.yaml" for part in user_runs.command("", "--cluster", warm_cluster)]
    with measurements(address_for_pods(kind_api)) as storage:
        ended = subprocess.run(
            command, cwd=user_runs.folder, env=user_runs.environment | storage,
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert best_or_only_score(ended.stdout) > 0.8
    assert results(user_runs.folder) == RESULTS[name]
    record = user_runs.record()
    assert (record["place"], record["outcome"]) == ("kubernetes", SUCCEEDED)
