"""Data four times as large as a worker's memory limit, as Parquet on an S3 server, read by workers in pods.

Its features have few distinct values, so that the files are a fifth of the size in memory. moto serves S3 in this
process, at this machine's address in the nodes' network, which pods and this machine can reach. Peak memory of workers
comes from the kernel, and is in the record.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from kubernetes import client
from sklearn.linear_model import LogisticRegression
from support.command import run_here
from support.nodes import address_for_pods
from support.runs import Runs
from support.s3_server import s3_server

LIMIT = 512 * 2**20
FEATURES = 32
ROWS_IN_FILE = 65_536
LARGE_SECONDS = 1500.0
DISTINCT_FILES = 4
"""Number of different files; the others are copies."""

WEIGHTS = numpy.random.default_rng(7).normal(size=FEATURES).astype("float32") / 4


def _rows(number: int) -> tuple[Any, Any]:
    rng = numpy.random.default_rng(number)
    X = numpy.round(4 * rng.standard_normal((ROWS_IN_FILE, FEATURES), dtype="float32")) / 4
    return X, (X @ WEIGHTS + rng.logistic(size=ROWS_IN_FILE) > 0).astype("int8")


def _table(number: int) -> pyarrow.Table:
    X, y = _rows(number)
    return pyarrow.table({**{f"f{index}": X[:, index] for index in range(FEATURES)}, "y": y})


@pytest.fixture(scope="module")
def storage(kind_api: client.ApiClient) -> Iterator[dict[str, str]]:
    """Environment variables for access to an S3 server."""
    with s3_server(address_for_pods(kind_api)) as variables:
        yield variables


@pytest.fixture(scope="module")
def table(storage: dict[str, str]) -> tuple[str, int]:
    """The table's address, and its size in memory: more than four times a worker's memory limit."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.items():
            patch.setenv(name, value)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("larger")
        size = number = 0
        while size <= 4 * LIMIT:
            path = "larger/table/part{:03}.parquet"
            if number < DISTINCT_FILES:
                table, file = _table(number), io.BytesIO()
                pyarrow.parquet.write_table(table, file, compression="none")
                system.pipe_file(path.format(number), file.getvalue())
            else:
                system.cp_file(path.format(number % DISTINCT_FILES), path.format(number))
            size, number = size + table.nbytes, number + 1
    return "s3://larger/table/*.parquet", size


def _command(runs: Runs, job: dict[str, Any], *options: str) -> list[str]:
    (runs.folder / "job.yaml").write_text(json.dumps(job))
    return [part if part != "train.py" else "job.yaml" for part in runs.command("", *options)]


def _run(runs: Runs, storage: dict[str, str], job: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(runs, job, *options), cwd=runs.folder, env=runs.environment | storage,
        capture_output=True, text=True, timeout=LARGE_SECONDS,
    )  # fmt: skip


def _run_in_process(
    runs: Runs, storage: dict[str, str], job: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    return run_here(_command(runs, job, *options)[3:], runs.environment | storage, runs.folder)


ESTIMATORS = {
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss", "average": True, "random_state": 0},
    "dask_ml.linear_model.LogisticRegression": {"solver": "lbfgs", "max_iter": 2},
}
"""One estimator that reads each piece once, and one that reads all of them six times."""


@pytest.mark.timeout(2 * LARGE_SECONDS)
@pytest.mark.slow  # tests/integration/test_larger.py reads less data in pieces
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_training_on_four_times_a_workers_memory(
    user_runs: Runs, storage: dict[str, str], table: tuple[str, int], estimator: str
) -> None:
    address, size = table
    assert size > 4 * LIMIT
    job = {
        "estimator": {"class": estimator, "parameters": ESTIMATORS[estimator]},
        "data": {"path": address, "target": "y"},
        "holdout": 0.1,
        "outputs": {"model": "model.joblib"},
    }
    ended = _run(user_runs, storage, job, "--workers", "3", "--worker-memory", "512Mi")
    assert ended.returncode == 0, ended.stderr
    assert "stays in pieces of up to 11 MiB, read again for each pass over it" in ended.stderr
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("score ")]
    score = float(line.split()[1])
    record = user_runs.record()
    peaks = record["peak_memory"]
    assert len(peaks) == 3
    assert all(100 * 2**20 < peak < LIMIT for peak in peaks.values())
    assert "nobody may see" not in json.dumps(record) + ended.stderr + ended.stdout

    X, y = _rows(0)
    expected = LogisticRegression().fit(X, y)
    X_test, y_test = _rows(1)
    assert score == pytest.approx(expected.score(X_test, y_test), abs=0.01)
    model = joblib.load(Path(user_runs.folder, "model.joblib"))
    assert float(numpy.mean(model.predict(X_test) == y_test)) == pytest.approx(expected.score(X_test, y_test), abs=0.01)
    print(f"{size / 2**20:.0f} MiB, peaks {sorted(peak // 2**20 for peak in peaks.values())} MiB, score {score:.4f}")


def test_data_that_fits_in_memory_is_loaded_whole(
    kind_runs: Runs, storage: dict[str, str], table: tuple[str, int]
) -> None:
    address = table[0].replace("*", "part000")
    job = {
        "estimator": {"class": "sklearn.linear_model.SGDClassifier", "parameters": {"random_state": 0}},
        "data": {"path": address, "target": "y"},
        "outputs": {"model": "model.joblib"},
    }
    ended = _run_in_process(kind_runs, storage, job, "--worker-memory", "512Mi")
    assert ended.returncode == 0, ended.stderr
    assert "loaded whole" in ended.stderr
    assert kind_runs.record()["data"]["pieces"] is False


def test_data_that_does_not_fit_is_rejected_before_the_start(
    kind_runs: Runs, storage: dict[str, str], table: tuple[str, int]
) -> None:
    job = {
        "estimator": {"class": "sklearn.svm.SVC"},
        "data": {"path": table[0], "target": "y"},
        "outputs": {"model": "model.joblib"},
    }
    ended = _run_in_process(kind_runs, storage, job, "--worker-memory", "512Mi")
    assert ended.returncode == 120
    assert "`SVC` needs all of it" in ended.stderr
    assert "--worker-memory 9Gi" in ended.stderr
    assert kind_runs.record()["steps"] == []
    assert not (kind_runs.folder / "model.joblib").exists()
