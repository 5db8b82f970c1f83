"""Log to MLflow: `python -m skjob.report.mlflow.process`, a process of its own.

Importing MLflow takes seconds, and changes the process that does it; a server that does not answer can hold it for
minutes. A line of JSON on its input says what to log. Its output is one as well: the `run_id` of the MLflow run that
got what holds for the whole run, and what could not be logged, as `problems`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ARTIFACTS = "skjob"
"""The folder of the report among the artifacts of an MLflow run."""

MAX_METRICS = 1000
"""How many MLflow takes at a time."""


def main() -> None:
    """Log what the input says."""
    request = json.loads(sys.stdin.readline())
    output, sys.stdout = sys.stdout, sys.stderr  # MLflow prints where its pages are
    print(json.dumps(log(request)), file=output, flush=True)


def log(request: dict[str, Any]) -> dict[str, Any]:
    """Log `runs`, or one that is begun for it, as `new` has it; the first of them also gets `whole` and `report`."""
    problems: list[str] = []
    first: tuple[Any, str, dict[str, Any]] | None = None
    for run in request["runs"] or [request["new"]]:
        with _collecting(problems):
            client, run_id = _open_run(run)
            try:
                with _collecting(problems):
                    _log(client, run_id, run)
                    if first is None:
                        first = client, _outermost(client, run_id), run
                        _log(
                            client, first[1], {**request["whole"], "tags": {**run["tags"], **request["whole"]["tags"]}}
                        )
            finally:
                if run.get("status"):
                    client.set_terminated(run_id, run["status"], run["ended"])
    # The last of all: the store of artifacts may be another server, with credentials and a patience of its own.
    if first is not None and request["report"] is not None:
        client, run_id, run = first
        with _collecting(problems):
            _change_folder(run["folder"])
            client.log_artifact(run_id, request["report"], ARTIFACTS)
    return {"run_id": first and first[1], "problems": problems}


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Add to `problems`, once, what MLflow raises, whatever it is, and go on."""
    try:
        yield
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        if problem not in problems:
            problems.append(problem)


def _change_folder(folder: str | None) -> None:
    """Make a run's folder the current one: the addresses of its stores may be relative to it."""
    if folder is not None:
        os.chdir(folder)


def _open_run(run: dict[str, Any]) -> tuple[Any, str]:
    """Return a client of the run's server and the run's id; create the run if it has none."""
    import mlflow
    from mlflow import MlflowClient

    _change_folder(run["folder"])
    client = MlflowClient(run["tracking_uri"])
    if run["run_id"] is not None:
        return client, run["run_id"]
    if run["tracking_uri"] is not None:
        mlflow.set_tracking_uri(run["tracking_uri"])
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        experiment = mlflow.set_experiment(name).experiment_id
    else:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    return client, client.create_run(experiment, start_time=run["started"], run_name=run["name"]).info.run_id


def _log(client: Any, run_id: str, entries: dict[str, Any]) -> None:
    from mlflow.entities import Metric, RunTag

    now = entries["ended"]
    metrics = [Metric(name, value, now, step) for name, value, step in entries["metrics"]]
    tags = [RunTag(name, value) for name, value in entries["tags"].items()]
    client.log_batch(run_id, metrics=metrics[:MAX_METRICS], tags=tags)
    for start in range(MAX_METRICS, len(metrics), MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS], tags=[])


def _outermost(client: Any, run_id: str) -> str:
    """Return the MLflow run that a run is nested in, or its own id."""
    parent = client.get_run(run_id).data.tags.get("mlflow.parentRunId")
    return run_id if parent is None else _outermost(client, parent)


if __name__ == "__main__":
    main()
