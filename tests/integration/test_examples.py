"""Each example gives the same results with plain Python and with `skjob run` on this machine.

Under plain Python, joblib sees one core, and the boosters' `Client()` connects to the tests' warm cluster, so that no
more processes are started. tests/kind/test_examples.py runs the examples on Kubernetes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from local_runs import LocalRuns, WarmClusters, user_environment
from story import EXAMPLES, user_python
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
from waiting import DEADLINE

OWN_PACKAGE = "own_package.py"
LARGER = "declared_job/larger.yaml"
USES_A_CLIENT = {"lightgbm_on_dask.py", "xgboost_on_dask.py"}

SLOW = {
    "any_dask_client.py",  # test_run.py, with the README's program
    "larger_than_memory.py",  # dask-ml: test_larger.py
    LARGER,  # test_larger.py
    "xgboost_on_dask.py",  # test_boosters.py
    "lightgbm_on_dask.py",  # test_boosters.py
    "random_forest.py",  # scikit-learn's own tests of forests, in tests/upstream
    "pipeline_cross_val_score.py",  # test_engine_joblib.py
    "scaled_up_search.py",  # test_scaling.py
}
"""Examples that are slow; the named tests cover them."""


def _parametrized(names: list[str]) -> pytest.MarkDecorator:
    marked = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]
    return pytest.mark.parametrize("name", marked)


def _runs(folder: Path, clusters: WarmClusters, name: str) -> LocalRuns:
    folder.mkdir()
    (folder / Path(name).name).write_text((EXAMPLES / name).read_text())
    return LocalRuns(folder, clusters)


@_parametrized([name for name in SCRIPTS if name != OWN_PACKAGE])
def test_script_has_the_same_results(tmp_path: Path, warm_clusters: WarmClusters, name: str) -> None:
    arguments = ARGUMENTS.get(name, [])
    plain = _runs(tmp_path / "plain", warm_clusters, name)  # each has its own stored fits
    plain.environment["LOKY_MAX_CPU_COUNT"] = "1"
    if name in USES_A_CLIENT:
        plain.environment |= warm_clusters.dask_client_variables()
    by_skjob = _runs(tmp_path / "by_skjob", warm_clusters, name)
    expected = plain.python(Path(name), *arguments)
    assert expected.returncode == 0, expected.stderr
    ended = by_skjob.run(Path(name), arguments=arguments)
    assert ended.record["outcome"] == SUCCEEDED, ended.stderr
    assert printed_results(ended.stdout) == printed_results(expected.stdout)
    assert scores(by_skjob.folder) == scores(plain.folder)
    assert bool(scores(plain.folder)) == (SCORES in arguments)


def _run(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.slow  # also tested on Kubernetes
def test_editable_package_of_the_user(tmp_path: Path) -> None:
    """The package is installed in editable mode, in an environment with the packages of this one."""
    python = user_python(tmp_path)
    plain, by_skjob = tmp_path / "plain", tmp_path / "by_skjob"
    for folder in (plain, by_skjob):
        folder.mkdir()
        (folder / OWN_PACKAGE).write_text((EXAMPLES / OWN_PACKAGE).read_text())
    environment = user_environment(tmp_path)
    expected = printed_results(_run(plain, environment, python, OWN_PACKAGE).stdout)
    ended = _run(by_skjob, environment, python, "-m", "skjob", "run", "--on", "local", "--workers", "2", OWN_PACKAGE)
    assert printed_results(ended.stdout) == expected
    [record] = (by_skjob / ".skjob" / "runs").glob("*/run.json")
    assert json.loads(record.read_text())["outcome"] == SUCCEEDED


def test_notebook_starts_its_own_cluster(tmp_path: Path) -> None:
    (tmp_path / BRINGS_ITS_CLUSTER).write_text(notebook())
    environment = user_environment(tmp_path) | {"SKJOB_ON": "local"}
    ended = _run(tmp_path, environment, sys.executable, BRINGS_ITS_CLUSTER)
    assert printed_results(ended.stdout)[1:] == [
        "fitted on 2 workers", "best C:     0.0826", "best score: 0.9916", "fitted in … s"
    ]  # fmt: skip
    assert "skjob: running on this machine: " in ended.stderr


@_parametrized(JOBS)
def test_job_file_writes_its_results(tmp_path: Path, warm_clusters: WarmClusters, name: str) -> None:
    runs = _runs(tmp_path / "job", warm_clusters, name)
    with measurements("127.0.0.1") if name == LARGER else nullcontext({}) as storage:
        runs.environment |= storage
        ended = runs.run(Path(Path(name).name))
    assert ended.record["outcome"] == SUCCEEDED, ended.stderr
    assert best_or_only_score(ended.stdout) > 0.8
    assert results(runs.folder) == RESULTS[name]


def test_readme_names_every_example() -> None:
    named = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    assert named == {*SCRIPTS, *JOBS, BRINGS_ITS_CLUSTER, "digit-features"}
