"""Libraries around scikit-learn: a real program of each gives the same results with plain Python and with skjob.

`make test-works-with` installs them in the locked versions into a separate environment, and runs these tests;
`make test-all` runs them as well. The programs are in tests/works_with; docs/howto/works-with.md is made from them.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from local_runs import user_environment
from waiting import DEADLINE

PROGRAMS = Path(__file__).parents[1] / "works_with"
ENVIRONMENT = Path(os.environ.get("SKJOB_WORKS_WITH", Path(__file__).parents[2] / ".works-with")).absolute()
RUN = ("skjob", "run", "--on", "local", "--workers", "2")
ARGUMENTS = {"hydra-core": ("--multirun", "model.C=0.1,10")}
SCRIPTS = ("hydra-core", "imbalanced-learn", "mlflow", "optuna", "wandb")
SECONDS = 2 * DEADLINE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * SECONDS)]

FinishedRun = subprocess.CompletedProcess[str]


class Library:
    """The program of a library, run by plain Python and by skjob in separate folders."""

    def __init__(self, name: str, folder: Path) -> None:
        if not (ENVIRONMENT / ".installed").is_file():
            pytest.skip("`make test-all` and `make test-works-with` install the libraries")
        self.name = name
        self.folder = folder
        path = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"
        inherited = user_environment(folder) | {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
        removed = ("MLFLOW_", "WANDB_", "PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in inherited.items() if not name.startswith(removed)}

    def copy(self, name: str) -> Path:
        """Copy the program's files to a folder of this name."""
        return shutil.copytree(PROGRAMS / self.name, self.folder / name)

    def run(self, command: Sequence[str], folder: Path, **variables: str) -> FinishedRun:
        """Run a command in a folder; it must succeed."""
        ended = subprocess.run(
            command, cwd=folder, env=self.environment | variables, capture_output=True, text=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return ended

    def by_python(self) -> FinishedRun:
        return self.run(["python", "train.py", *ARGUMENTS.get(self.name, ())], self.copy("python"))

    def by_skjob(self, *options: str, **variables: str) -> FinishedRun:
        command = [*RUN, *options, "train.py", *ARGUMENTS.get(self.name, ())]
        return self.run(command, self.copy("skjob"), **variables)

    def record(self) -> dict[str, Any]:
        """Return the record of skjob's run."""
        [path] = (self.folder / "skjob" / ".skjob" / "runs").glob("*/run.json")
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def _printed(ended: FinishedRun) -> list[str]:
    """Return the printed lines, without Hydra's, which have the time."""
    return [line for line in ended.stdout.splitlines() if "[HYDRA]" not in line]


def _fits_on_workers(record: dict[str, Any], folder: Path) -> int:
    lines = (folder / "skjob" / ".skjob" / "runs" / record["run_id"] / "fits.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return sum(event["kind"] == "fit" and bool(event.get("worker")) for event in events)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_prints_the_same(name: str, tmp_path: Path) -> None:
    library = Library(name, tmp_path)
    plain, ended = library.by_python(), library.by_skjob()
    assert _printed(ended) == _printed(plain)
    assert len(_printed(ended)) > 1
    assert _fits_on_workers(library.record(), tmp_path) > 0, ended.stderr
    assert "runs in this process" not in ended.stderr
    if name == "mlflow":
        _check_mlflow_runs(library, ended)
    elif name == "wandb":
        assert len(list((tmp_path / "skjob" / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
    elif name == "hydra-core":
        folders = [{path.parent.name: path.read_text() for path in (tmp_path / place / "sweep").glob("*/scores.txt")}
                   for place in ("python", "skjob")]  # fmt: skip
        assert folders[0] == folders[1]
        assert len(folders[0]) == 2


def _logged_values(database: Path) -> dict[str, tuple[dict[str, float], dict[str, str]]]:
    """Return the metrics and tags that skjob has logged, by MLflow run id."""
    logged: dict[str, tuple[dict[str, float], dict[str, str]]] = {}
    connection = sqlite3.connect(database)
    for table, place in (("metrics", 0), ("tags", 1)):
        query = f"SELECT run_uuid, key, value FROM {table} WHERE key LIKE 'skjob.%'"  # noqa: S608 - constant table names
        for run, key, value in connection.execute(query):
            logged.setdefault(run, ({}, {}))[place][key] = value
    connection.close()
    return logged


def _check_mlflow_runs(library: Library, ended: FinishedRun) -> None:
    """Check that the first MLflow run has its search and the run's values, and the second its cross-validation."""
    record = library.record()
    first, second = (each["run_id"] for each in record["mlflow"])
    logged = _logged_values(library.folder / "skjob" / "mlflow.db")
    assert logged.keys() == {first, second}
    metrics, tags = logged[first]
    assert metrics["skjob.best_score"] == record["searches"][0]["best"]["score"]
    assert metrics["skjob.fits"] == 18
    assert metrics["skjob.seconds"] == record["seconds"]
    assert (tags["skjob.run_id"], tags["skjob.outcome"]) == (record["run_id"], "succeeded")
    metrics, tags = logged[second]
    assert metrics == {"skjob.cross_validation.score": float(ended.stdout.splitlines()[-1])}
    assert tags == {"skjob.run_id": record["run_id"]}
    [report] = (library.folder / "skjob").rglob("artifacts/skjob/report.html")
    assert record["run_id"] in report.read_text()
    assert f"skjob: logged to MLflow, run {first}" in ended.stderr.splitlines()


def test_mlflow_option_logs_a_program_without_mlflow(tmp_path: Path) -> None:
    library = Library("imbalanced-learn", tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    variables = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "balanced"}
    ended = library.by_skjob("--mlflow", **variables)
    [(run, (metrics, tags))] = _logged_values(tmp_path / "mlflow.db").items()
    assert f"skjob: logged to MLflow, run {run}" in ended.stderr.splitlines()
    assert tags["skjob.run_id"] == library.record()["run_id"]
    assert {"skjob.best_score", "skjob.cross_validation.score", "skjob.fits", "skjob.seconds"} <= metrics.keys()


def test_unreachable_mlflow_server_is_reported_in_one_line(tmp_path: Path) -> None:
    library = Library("imbalanced-learn", tmp_path)
    ended = library.by_skjob("--mlflow", MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    lines = [line for line in ended.stderr.splitlines() if "MLflow" in line]
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("skjob: not all could be logged to MLflow: ")
    assert library.record()["outcome"] == {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


def test_stage_of_dvc_is_a_run(tmp_path: Path) -> None:
    library = Library("dvc", tmp_path)
    folder = library.copy("skjob")
    library.run(["dvc", "init", "--no-scm", "--quiet"], folder)
    library.run(["dvc", "repro"], folder)
    python, skjob = (json.loads((folder / f"{name}.json").read_text()) for name in ("python", "skjob"))
    assert python == skjob
    assert len(python) == 9
    shown = library.run(["dvc", "metrics", "show", "--json"], folder).stdout
    assert json.loads(shown)[""]["data"]["skjob.json"]["data"] == skjob
    assert _fits_on_workers(library.record(), tmp_path) == 18
    again = library.run(["dvc", "repro"], folder)
    assert "Stage 'by_skjob' didn't change, skipping" in again.stdout
    library.record()  # there is still only one run


def test_papermill_runs_a_notebook_with_a_cluster(tmp_path: Path) -> None:
    library = Library("papermill", tmp_path)
    folder = library.copy("notebook")
    outputs = {}
    for workers in (0, 2):
        name = f"{workers}.ipynb"
        parameters = ["-p", "workers", str(workers), "-y", "C: [0.1, 1.0, 10.0]"]
        library.run(["papermill", "train.ipynb", name, "--no-progress-bar", *parameters], folder)
        cells = json.loads((folder / name).read_text())["cells"]
        outputs[workers] = {cell["id"]: cell.get("outputs", []) for cell in cells}
    [scores] = outputs[0]["scores"]
    assert outputs[2]["scores"] == [scores]
    assert len(scores["text"]) == 2
    output = "".join(text for each in outputs[2]["search"] for text in each.get("text", ()))
    assert "skjob: running on this machine" in output
    assert "runs in this process" not in output
    assert outputs[0]["search"] == []
