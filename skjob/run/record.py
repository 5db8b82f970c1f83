"""What happened in a run, as data: `.skjob/runs/<run id>/run.json`.

Written at each step, atomically, so that it tells how far a run came also when the machine goes down. Times are UTC in
ISO 8601, durations in seconds. No password of an address is in it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from skjob.errors import ConfigError, data_without_credentials, without_credentials

FOLDER = Path(".skjob") / "runs"
FITS_FOLDER = Path(".skjob") / "fits"
DISTRIBUTIONS = (
    "skjob", "dask", "distributed", "dask-kubernetes", "joblib", "scikit-learn", "numpy", "scipy", "pandas",
    "kubernetes",
)  # fmt: skip


@dataclass
class Step:
    """One thing that the run waited for. `seconds` is None while it goes on."""

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


class Counts(Protocol):
    """Workers asked for, running and connected."""

    @property
    def asked(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def connected(self) -> int: ...


class Tasks(Protocol):
    """Tasks done, and to go as far as they are known."""

    @property
    def done(self) -> int: ...
    @property
    def to_go(self) -> int: ...


@dataclass
class Outcome:
    """How it ended. `exit_code` is what skjob exits with; `cause` is the error's message, if there was one."""

    status: str = "running"
    exit_code: int | None = None
    cause: str | None = None
    cleanup: str | None = None


@dataclass
class Record:
    """Everything that is known of a run. Grows while the run goes on; see the module's docstring.

    `peak_memory` is of each worker's process, in bytes, by its name. `data` is where a declared job's data was placed.
    `cost` is what was paid for its pods, where prices are known, and the most that might have been.
    """

    run_id: str
    program: str
    arguments: list[str]
    started: str
    versions: dict[str, str]
    place: str | None = None
    why: str | None = None
    cluster: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    workers: list[WorkersAt] = field(default_factory=list)
    peak_memory: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    fits: dict[str, int] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)
    seconds: float | None = None


def run_file(run_id: str) -> Path:
    """Where a run's record is, below the folder that the run was started in."""
    return FOLDER / run_id / "run.json"


def installed_versions() -> dict[str, str]:
    """The versions on this machine that matter to a run."""
    import platform

    versions = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


class Recorder:
    """Keeps a record and its file up to date, and tells each step to `tell` as it begins and ends."""

    def __init__(
        self, run_id: str, program: str, arguments: tuple[str, ...], folder: Path, tell: Callable[[Event], None]
    ) -> None:
        self.path = folder / run_file(run_id)
        self._lock = threading.Lock()
        self._tell = tell
        self._began = time.monotonic()
        self.done_here = 0
        """How many tasks the program has done in its own process."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.record = Record(run_id, program, list(arguments), now, installed_versions())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step. A step that raises is recorded with the time it took until then."""
        step = Step(name, datetime.now(UTC).isoformat(timespec="milliseconds"))
        began = time.monotonic()
        self.record.steps.append(step)
        self._tell(Event("step", name))
        try:
            yield
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self.save()
        self._tell(Event("done", name, step.seconds))

    def note(self, message: str) -> None:
        """Something that the user should know, once."""
        message = without_credentials(message)
        if message not in self.record.notes:
            self.record.notes.append(message)
            self._tell(Event("note", message))

    def workers(self, counts: Counts) -> None:
        """Record the number of workers, where it has changed."""
        last = self.record.workers[-1] if self.record.workers else None
        now = (counts.asked, counts.running, counts.connected)
        if last is None or (last.asked, last.running, last.connected) != now:
            self.record.workers.append(WorkersAt(round(time.monotonic() - self._began, 1), *now))
            if last is None or (last.asked, last.connected) != (counts.asked, counts.connected):
                self._tell(Event("workers", f"{counts.connected} of {counts.asked} workers"))
            self.save()

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Record the most memory that each worker has had, in bytes. Written with the next thing that happens."""
        with self._lock:  # told by the thread that scales, while another may be writing the file
            known = self.record.peak_memory
            known.update({name: peak for name, peak in peaks.items() if peak > known.get(name, 0)})

    def progress(self, progress: Tasks) -> None:
        """Tell how far the program is. Not kept: the workers' record and the steps are what stays of it."""
        self._tell(Event("progress", f"tasks done: {progress.done}, under way: {progress.to_go}"))

    def end(self, status: str, exit_code: int, cause: str | None) -> None:
        """The outcome of the run; clean-up may still add to it. A cause that the program told itself stays."""
        outcome = self.record.outcome
        outcome.status, outcome.exit_code, outcome.cause = status, exit_code, cause or outcome.cause
        self.record.seconds = round(time.monotonic() - self._began, 3)
        self.save()

    def begin(self) -> None:
        """Write the file for the first time.

        Raises:
            ConfigError: there is no writing to this folder.
        """
        try:
            self._write()
        except OSError as error:
            raise ConfigError(
                f"the run's record `{self.path}` can't be written: {error.strerror}",
                "run it in a folder that you may write to",
            ) from error

    def save(self) -> None:
        """Write the file anew, atomically. A disk that has filled up meanwhile does not end the run."""
        try:
            self._write()
        except OSError as error:
            self.note(f"the run's record can't be written any more: {error.strerror}")

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
        """The record as plain data."""
        return asdict(self.record)


@dataclass(frozen=True)
class Event:
    """Something that goes on, for whoever shows it: `step`, `done`, `note`, `workers` or `progress`."""

    kind: str
    text: str
    seconds: float | None = None
