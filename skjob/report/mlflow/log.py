"""Log a run to MLflow when it is over: its id, cost, scores and report, to the MLflow runs that the program had.

Whatever goes wrong is one line for the user: it never changes how a run ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from skjob.errors import ConfigError, first_line, without_credentials
from skjob.utils.notify import Notify
from skjob.utils.text import shortened

if TYPE_CHECKING:
    from skjob.report.mlflow.entries import Entries
    from skjob.run.record import Record

TIMEOUT = 60.0
"""Seconds that MLflow may take, to be imported and to log."""

MAX_PROBLEM = 300
"""Characters of MLflow's own message."""

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "AWS_MAX_ATTEMPTS": "2"}
"""What MLflow and boto3 read, unless the user has set it: by default they try for minutes."""

STATUSES = {"succeeded": "FINISHED", "stopped": "KILLED"}


@dataclass(frozen=True)
class MlflowLog:
    """What to log to MLflow: to the program's own runs there, and if it has none and that is `wanted`, to a new one.

    `variables` are those that the user sets for the program: addresses and credentials may be among them.
    """

    wanted: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """Raise ConfigError if MLflow is wanted and not there."""
        if self.wanted and find_spec("mlflow") is None:
            raise ConfigError("`--mlflow` needs MLflow, which is not installed here", "pip install mlflow")

    def log(self, record: Record, folder: Path, notify: Notify) -> None:
        """Log a run that is over, whose record is below `folder`. `notify` gets one line: where, or why not."""
        began = any(step.name == "run the program" for step in record.steps)
        if not record.mlflow and not (self.wanted and began):
            return
        try:
            notify(self._log(record, folder))
        except KeyboardInterrupt:
            notify("not logged to MLflow: interrupted")
        except subprocess.TimeoutExpired:
            notify(_failed(f"it takes longer than {TIMEOUT:.0f} s"))
        except Exception as error:  # the run is over, and has its outcome
            notify(_failed(f"{type(error).__name__}: {first_line(error)}"))

    def _log(self, record: Record, folder: Path) -> str:
        # A run without MLflow need not wait for these imports as it begins.
        from skjob.report.mlflow.entries import entries_of
        from skjob.report.page import page
        from skjob.run.events.file import read_events
        from skjob.run.history.records import read_run

        past = read_run(folder, record.run_id)  # without the credentials that the one in memory may have
        entries = entries_of(past.record, read_events(past.folder))
        with TemporaryDirectory() as directory:
            report = Path(directory) / "report.html"
            report.write_text(page(entries.details), encoding="utf-8")
            runs = [
                {**run, **_fields(own, entries.details.ended)}
                for run, own in zip(record.mlflow, entries.own, strict=False)
            ]
            own = _fields(entries.own[0], entries.details.ended)
            request = {
                "runs": runs,
                "new": {**_new(record), "started": round(entries.details.began * 1000), **own},
                "whole": _fields(entries.whole, entries.details.ended),
                "report": str(report),
            }
            done = self._run_process(request)
        if done["problems"]:
            return _failed("; ".join(done["problems"]))
        return f"logged to MLflow, run {done['run_id']}"

    def _run_process(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let a process log it, and return its answer. A Ctrl-C ends this function, which then ends the process."""
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "skjob.report.mlflow.process"],
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**PATIENCE, **os.environ, **self.variables},
            timeout=TIMEOUT,
            start_new_session=True,
            check=False,
        )
        if ended.returncode:
            lines = ended.stderr.strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"it ended with status {ended.returncode}")
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer


def _new(record: Record) -> dict[str, Any]:
    """Return what a run that is begun for this has."""
    status = STATUSES.get(record.outcome.status, "FAILED")
    return {"run_id": None, "tracking_uri": None, "folder": None, "name": record.run_id, "status": status}


def _fields(entries: Entries, ended: float) -> dict[str, Any]:
    return {"tags": entries.tags, "metrics": entries.metrics, "ended": round(ended * 1000)}


def _failed(cause: str) -> str:
    return f"not all could be logged to MLflow: {shortened(without_credentials(cause), MAX_PROBLEM)}"
