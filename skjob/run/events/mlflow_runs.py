"""Find the MLflow runs that belong to a program's Parallel calls. In the program's process; it never imports MLflow.

A call belongs to the MLflow run that is active while it goes on; without one, to the next that the program starts: many
programs search first, and log afterwards.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from skjob.engine.events import CallFinished, CallStarted, Event, Report

Send = Callable[[dict[str, Any]], None]


class MlflowRuns:
    """Passes on events, and sends the MLflow run of each call. Thread-safe; nothing here raises.

    What is sent has the `run_id`, the `tracking_uri`, the `folder` that a relative address begins at, and the `calls`.
    """

    def __init__(self, report: Report, send: Send) -> None:
        self._report = report
        self._send = send
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._open: set[int] = set()
        """Calls that go on, and have no MLflow run yet."""
        self._waiting: list[int] = []
        """Calls that are over, and belong to the next MLflow run."""
        self._known: set[str] = set()
        self._last: str | None = None

    def report(self, event: Event) -> None:
        """Report an event, and find the MLflow run of the call that begins or ends with it."""
        self._report(event)
        with suppress(Exception):  # what MLflow raises must not end the program
            if isinstance(event, CallStarted) and event.parent is None:
                self._began(event.call)
            elif isinstance(event, CallFinished):
                self._ended(event.call)

    def close(self) -> None:
        """The program has ended: find the run of calls that have none, and send its last one in any case."""
        if os.getpid() != self._owner:  # a forked child that ends as the program does
            return
        with suppress(Exception), self._lock:
            self._check_last()
            active = _active_run()  # one that the program leaves open, unless MLflow has closed it before
            self._claim_waiting(active)
            found = active or _last_run()
            if found is not None and not self._known:
                self._assign(found, [])

    def _began(self, call: int) -> None:
        # It may be reported by a thread of the engine's, which has no active run: then its end is looked at.
        active = _active_run()
        with self._lock:
            if active is None:
                self._open.add(call)
            else:
                self._claim_waiting(active)
                self._assign(active, [call])

    def _ended(self, call: int) -> None:
        with self._lock:
            if call not in self._open:
                return
            self._open.discard(call)
            self._check_last()
            active = _active_run()
            self._claim_waiting(active)
            if active is None:
                self._waiting.append(call)
            else:
                self._assign(active, [call])

    def _check_last(self) -> None:
        """Look for an MLflow run that has begun and ended since the last look."""
        last = _last_run()
        if last != self._last:
            self._claim_waiting(last)
            self._last = last

    def _claim_waiting(self, run_id: str | None) -> None:
        """Let calls that are over belong to a run, if it is one that has begun since."""
        if run_id is not None and run_id not in self._known and self._waiting:
            self._assign(run_id, self._waiting)
            self._waiting = []

    def _assign(self, run_id: str, calls: Sequence[int]) -> None:
        self._known.add(run_id)
        uri = str(sys.modules["mlflow"].get_tracking_uri())
        self._send({"run_id": run_id, "tracking_uri": uri, "folder": str(Path.cwd()), "calls": [*calls]})


def _active_run() -> str | None:
    """Return the id of the MLflow run that is active in this thread."""
    mlflow: Any = sys.modules.get("mlflow")
    active = getattr(mlflow, "active_run", lambda: None)()
    return None if active is None else str(active.info.run_id)


def _last_run() -> str | None:
    """Return the id of the MLflow run that was the last to end in this thread.

    GONE WHEN MLflow says which without a request: `mlflow.last_active_run()` asks the server for all of that run.
    """
    fluent: Any = sys.modules.get("mlflow.tracking.fluent")
    last = getattr(fluent, "_last_active_run_id", None)
    found = last.get() if last is not None else None
    return None if found is None else str(found)
