"""The programs in examples/, for tests that run them locally or on Kubernetes.

All programs in the folder are used, so that none can be forgotten. A program's results are what it prints, without
seconds and without what libraries log.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy
import pandas
import pytest
from story import EXAMPLES, FITTED

from support.s3_server import s3_server

BRINGS_ITS_CLUSTER = "notebook_style.py"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != BRINGS_ITS_CLUSTER)
JOBS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))

SCORES = "scores.json"
ARGUMENTS = {
    "digits_grid_search.py": [SCORES],  # with every digit
    "larger_than_memory.py": ["--gib", "0.05", "--passes", "2"],  # test_larger.py has the large one
    "scaled_up_search.py": ["--candidates", "3", "--seconds", "0.2"],
}

RESULTS = {
    "declared_job/job.yaml": {"best.joblib": ["StandardScaler", "SVC"], "results.csv": 8},
    "declared_job/larger.yaml": {"larger.joblib": ["StandardScaler", "LogisticRegression"]},
}
"""Expected output files of each declared job: models by their steps, and tables by their number of rows."""

SUCCEEDED = {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


def printed_results(printed: str) -> list[str]:
    """Return the lines that a program printed, with its seconds masked; each program prints some."""
    assert FITTED.search(printed), printed
    # LightGBM first reports its ports, from several processes at once, whatever its `verbose` says.
    before, _, after = printed.rpartition("accuracy")
    output = f"accuracy{after}" if "open ports for workers" in before else printed
    return FITTED.sub("fitted in … s", output).splitlines()


def notebook() -> str:
    """Return the program that starts its own cluster, made to wait for both workers: one could do all the work."""
    before, use, after = (EXAMPLES / BRINGS_ITS_CLUSTER).read_text().partition("    began = perf_counter()\n")
    assert use, "the notebook no longer has this line"
    return f"{before}    client.wait_for_workers(2)\n{use}{after}"


def scores(folder: Path) -> dict[str, object]:
    """Return the scores that the grid search wrote, without times; empty if another program ran."""
    written = json.loads((folder / SCORES).read_text()) if (folder / SCORES).exists() else {}
    return {name: values for name, values in written.items() if "_time" not in name}


def results(folder: Path) -> dict[str, list[str] | int]:
    """Return the models and tables in a folder."""
    models = {path.name: joblib.load(path) for path in folder.glob("*.joblib")}
    steps = {name: [type(step).__name__ for _, step in model.steps] for name, model in models.items()}
    return {**steps, **{path.name: len(pandas.read_csv(path)) for path in folder.glob("*.csv")}}


def best_or_only_score(printed: str) -> float:
    """Return the score that a declared job printed."""
    [score] = re.findall(r"^(?:best )?score +([0-9.]+)", printed, re.MULTILINE)
    return float(score)


@contextmanager
def measurements(host: str) -> Iterator[dict[str, str]]:
    """Serve the data of declared_job/larger.yaml on a local S3 server; yield the variables to access it."""
    import fsspec

    rng = numpy.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(5, 2, (20_000, 4)), columns=["speed", "heat", "load", "age"])
    frame["broken"] = (frame["heat"] + frame["load"] - frame["speed"] + rng.logistic(size=len(frame)) > 5).astype(int)
    with s3_server(host) as variables:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            system = fsspec.filesystem("s3", skip_instance_cache=True)
            system.makedirs("bucket", exist_ok=True)  # all servers in one process share their content
            for number, part in enumerate((frame[:10_000], frame[10_000:])):
                file = io.BytesIO()
                part.to_parquet(file, index=False)
                system.pipe_file(f"bucket/measurements/part{number}.parquet", file.getvalue())
        yield variables
