"""What happened in a run, as data: `.skjob/runs/<run id>/run.json`.

The file is written at each step, atomically, so that it shows how far a run came even if the machine goes down. Times
are UTC in ISO 8601, durations in seconds. Passwords in addresses are left out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import Event
from skjob.errors import ConfigError, data_without_credentials, without_credentials
from skjob.run.events.searches import Searches
from skjob.run.observer import RunReporter

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.costs.prices import Cost
    from skjob.deploy.scaling.loop import Progress

FOLDER = Path(".skjob") / "runs"
FITS_FOLDER = Path(".skjob") / "fits"
DISTRIBUTIONS = (
    "skjob", "dask", "distributed", "dask-kubernetes", "joblib", "scikit-learn", "numpy", "scipy", "pandas",
    "kubernetes",
)  # fmt: skip


@dataclass
class RunStep:
    """One thing that the run waited for. `seconds` is None until it ends."""

    name: str
    started: str
    seconds: float | None = None


@dataclass
class WorkersAt:
    """How many workers there were, `seconds` after the run began."""

    seconds: float
    asked: int
    running: int
    connected: int


@dataclass
class RunOutcome:
    """How a run ended. `exit_code` is that of skjob; `cause` is the error's message, if there was an error."""

    status: str = "running"
    exit_code: int | None = None
    cause: str | None = None
    cleanup: str | None = None


@dataclass
class Record:
    """Everything that is known of a run. It grows while the run goes on; see the module's docstring.

    `peak_memory` is that of each worker's process, in bytes, by its name. `data` says where a declared job's data was
    placed. `searches` has what each search of the program has done, and its best candidate; the fits themselves are in
    `fits.jsonl` beside the record. `mlflow` has the MLflow runs of the program, each with the calls that belong to it.
    `cost` is what its pods have cost, if prices are known, and the most that they were allowed to.
    """

    run_id: str
    program: str
    arguments: list[str]
    started: str
    versions: dict[str, str]
    place: str | None = None
    why: str | None = None
    cluster: dict[str, Any] = field(default_factory=dict)
    steps: list[RunStep] = field(default_factory=list)
    workers: list[WorkersAt] = field(default_factory=list)
    peak_memory: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    fits: dict[str, int] = field(default_factory=dict)
    searches: list[dict[str, Any]] = field(default_factory=list)
    mlflow: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outcome: RunOutcome = field(default_factory=RunOutcome)
    seconds: float | None = None


def run_file(run_id: str) -> Path:
    """Return the path of a run's record below the folder that the run was started in."""
    return FOLDER / run_id / "run.json"


def read_moment(text: str) -> datetime | None:
    """Return a moment of a record, in UTC unless it says otherwise; None if it cannot be read."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def installed_versions() -> dict[str, str]:
    """Return the versions on this machine that matter to a run."""
    import platform

    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


class Recorder:
    """A `RunObserver` that keeps a record and its file up to date, and passes everything on to a reporter."""

    def __init__(self, run_id: str, program: str, arguments: tuple[str, ...], folder: Path, shown: RunReporter) -> None:
        self.path = folder / run_file(run_id)
        self._lock = threading.Lock()
        self._shown = shown
        self._began = time.monotonic()
        self._searches = Searches()
        self.done_here = 0
        """How many tasks the program has done in its own process."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.record = Record(run_id, program, list(arguments), now, installed_versions())

    def notify(self, message: str) -> None:
        """Record a note, and show it, once."""
        message = without_credentials(message)
        if message not in self.record.notes:
            self.record.notes.append(message)
            self._shown.notify(message)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step. One that raises is recorded with the time it took until then."""
        step = RunStep(name, datetime.now(UTC).isoformat(timespec="milliseconds"))
        began = time.monotonic()
        self.record.steps.append(step)
        try:
            self._shown.step_started(name)
            yield
        except BaseException:
            self._shown.step_failed(name)
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self.save()
        self._shown.step_done(name, step.seconds)

    def workers(self, counts: WorkerCounts) -> None:
        """Record the number of workers if it has changed."""
        last = self.record.workers[-1] if self.record.workers else None
        now = (counts.asked, counts.running, counts.connected)
        if last is None or (last.asked, last.running, last.connected) != now:
            self.record.workers.append(WorkersAt(round(time.monotonic() - self._began, 1), *now))
            if last is None or (last.asked, last.connected) != (counts.asked, counts.connected):
                self._shown.workers(counts)
            self.save()

    def progress(self, progress: Progress) -> None:
        """Show how far the program is. It is not recorded: the workers and the steps are what stays of it."""
        self._shown.progress(progress)

    def cost(self, cost: Cost, limit: float | None) -> None:
        """Show what the run has cost so far. The record gets the total, at the end."""
        self._shown.cost(cost, limit)

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Record the most memory that each worker has used, in bytes. Written with whatever happens next."""
        with self._lock:  # reported by the thread that scales, while another may be writing the file
            known = self.record.peak_memory
            known.update({name: peak for name, peak in peaks.items() if peak > known.get(name, 0)})
        self._shown.memory(peaks)

    def event(self, event: Event) -> None:
        """Add an event up, for the summary at the end, and show it."""
        self._searches.add(event)
        self._shown.event(event)

    def mlflow_run(self, found: Mapping[str, Any]) -> None:
        """Record an MLflow run of the program, or more calls that belong to it: see `events/mlflow_runs.py`."""
        for known in self.record.mlflow:
            if known["run_id"] == found["run_id"]:
                known["calls"] += found["calls"]
                return
        self.record.mlflow.append(dict(found))

    def end(self, status: str, exit_code: int, cause: str | None = None) -> None:
        """Record the outcome of the run; clean-up may still add to it. A cause that the program reported stays."""
        outcome = self.record.outcome
        outcome.status, outcome.exit_code, outcome.cause = status, exit_code, cause or outcome.cause
        self.record.searches = self._searches.summary()
        self.record.seconds = round(time.monotonic() - self._began, 3)
        self.save()

    def begin(self) -> None:
        """Write the file for the first time.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        try:
            self._write()
        except OSError as error:
            raise ConfigError(
                f"the run's record `{self.path}` cannot be written: {error.strerror}",
                "run it in a folder that you may write to",
            ) from error

    def save(self) -> None:
        """Rewrite the file, atomically. A disk that has filled up does not end the run."""
        try:
            self._write()
        except OSError as error:
            self.notify(f"the run's record cannot be written any more: {error.strerror}")

    def _write(self) -> None:
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            ignore = self.path.parents[2] / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            temporary = self.path.with_suffix(".tmp")
            text = json.dumps(data_without_credentials(self.as_dict()), indent=2)
            temporary.write_text(f"{text}\n", encoding="utf-8")
            temporary.replace(self.path)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self.record)
