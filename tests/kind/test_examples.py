"""Each example on a real Kubernetes, from a user's environment: what it finds there is what it finds by Python alone.

examples/digit-features is installed in editable mode beside what the user has; the image has neither it nor the
boosters. All but the one that brings its own run on one warm cluster.
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

WARM = "examples"


@pytest.fixture(scope="module")
def own_package(user_environment: UserEnvironment, tmp_path_factory: pytest.TempPathFactory) -> None:
    install_package(user_environment.python, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def warm(own_package: None, user_runs_in: RunsIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster that has what any of the examples imports."""
    runs = user_runs_in(tmp_path_factory.mktemp("warm"))
    for name in SCRIPTS:
        (runs.folder / name).write_text((EXAMPLES / name).read_text())
    (runs.folder / "jobs.py").write_text("import pandas, pyarrow\n")
    up = runs.skjob("up", WARM, "--workers", "2")
    try:
        assert up.returncode == 0, up.stderr
        yield WARM
    finally:
        down = runs.skjob("down", WARM)
    assert down.returncode == 0, down.stderr


def by_python(runs: Runs, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folder = runs.folder / "alone"
    folder.mkdir()
    (folder / name).write_text(notebook() if name == BRINGS_ITS_CLUSTER else (EXAMPLES / name).read_text())
    ended = subprocess.run(
        [runs.python, name, *arguments], cwd=folder, env=runs.environment | environment,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.slow  # they run on this machine in tests/integration/test_examples.py, and searches in pods in test_run.py
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_in_pods_what_it_finds_by_python(user_runs: Runs, warm: str, name: str) -> None:
    arguments = ARGUMENTS.get(name, [])
    ended = user_runs.run((EXAMPLES / name).read_text(), "--cluster", warm, "--", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert printed_results(ended.stdout) == printed_results(by_python(user_runs, name, *arguments).stdout)
    assert scores(user_runs.folder) == scores(user_runs.folder / "alone")
    assert bool(scores(user_runs.folder)) == (SCORES in arguments)
    told = user_runs.record()
    assert (told["place"], told["outcome"]) == ("kubernetes", SUCCEEDED)


@pytest.mark.usefixtures("own_package")
def test_a_notebook_brings_its_cluster(user_runs: Runs) -> None:
    where = {"SKJOB_ON": "kubernetes", "SKJOB_CONTEXT": "kind-skjob", "SKJOB_NAMESPACE": user_runs.namespace}
    ended = by_python(user_runs, BRINGS_ITS_CLUSTER, **where)
    assert printed_results(ended.stdout)[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert f"running on Kubernetes: context `kind-skjob`, namespace `{user_runs.namespace}`" in ended.stderr
    assert [file.name for file in (user_runs.folder / "alone").iterdir()] == [BRINGS_ITS_CLUSTER]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_declared_job_writes_its_results(user_runs: Runs, warm: str, kind_api: client.ApiClient, name: str) -> None:
    (user_runs.folder / "job.yaml").write_text((EXAMPLES / name).read_text())
    command = [part if part != "train.py" else "job.yaml" for part in user_runs.command("", "--cluster", warm)]
    with measurements(address_for_pods(kind_api)) as storage:
        ended = subprocess.run(
            command, cwd=user_runs.folder, env=user_runs.environment | storage,
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert best_or_only_score(ended.stdout) > 0.8
    assert results(user_runs.folder) == RESULTS[name]
    told = user_runs.record()
    assert (told["place"], told["outcome"]) == ("kubernetes", SUCCEEDED)
