"""What a person sees of a run, on stderr: stdout belongs to the program."""

from __future__ import annotations

import json as json_format
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from skjob.cli.github import append_summary
from skjob.cli.terminal import shown, shown_json
from skjob.deploy.base import WorkerCounts
from skjob.engine.events import Event, as_fields
from skjob.errors import SkjobError, data_without_credentials
from skjob.run.live.progress_text import LineInterval, describe_progress, progress_numbers
from skjob.run.live.state import CostSoFar, RunState
from skjob.run.record import Record, run_file
from skjob.utils.text import shortened

if TYPE_CHECKING:
    from skjob.cli.live.view import LiveView
    from skjob.deploy.kubernetes.costs.prices import Cost
    from skjob.deploy.scaling.loop import Progress
    from skjob.report.mlflow.log import MlflowLog

PROGRAM_STEP = "run the program"
"""The step in which the program has the terminal."""

LONGEST_CAUSE = 100
"""Characters of the closing line's cause, which stands above it in full."""


class Reporter:
    """Shows a run as it goes on (`RunReporter`): lines for people, or one JSON object a line.

    Attributes
    ----------
    mlflow : MlflowLog or None
        What logs the run to MLflow when it is over.
    """

    def __init__(self, *, json: bool, verbose: bool, quiet: bool = False) -> None:
        self.mlflow: MlflowLog | None = None
        self._json = json
        self._verbose = verbose
        self._quiet = quiet
        self._state = RunState()
        self._view: LiveView | None = None
        self._terminal = sys.stderr.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._begun = False
        self._interval = LineInterval()
        self._progress: Progress | None = None
        self._shown = ""

    def notify(self, message: str) -> None:
        """Show a note."""
        self._show("note", message)

    def step_started(self, name: str) -> None:
        """Show a step as it begins, if nothing hides it; below what the program writes, the live view."""
        if self._quiet:
            return
        if self._json:
            self._object({"kind": "step", "text": name})
        elif self._verbose:
            self._line(f"{name} …")
        elif self._terminal:
            self._begin_line(name)
        if name == PROGRAM_STEP and not self._json:
            self._start_view()

    def step_done(self, name: str, seconds: float) -> None:
        """Show how long a step took."""
        self._close_view()
        if self._quiet:
            return
        if self._json:
            self._object({"kind": "done", "text": name, "seconds": seconds})
        else:
            self._line(f"{name}: {seconds:.1f} s")

    def step_failed(self, name: str) -> None:
        """Show nothing any more of what the program did."""
        self._close_view()

    def workers(self, counts: WorkerCounts) -> None:
        """Show how many workers are connected."""
        self._state.set_workers(counts)
        if self._view is None:
            self._show("workers", f"{counts.connected} of {counts.asked} workers", asdict(counts))

    def cost(self, cost: Cost, limit: float | None) -> None:
        """Show what the run has cost so far; lines leave it to the end."""
        self._state.set_cost(CostSoFar(cost.amount, cost.currency, limit))

    def progress(self, progress: Progress) -> None:
        """Show how far the program is, if it is time for that."""
        with self._state.lock:
            self._progress = progress
            self._show_progress()

    def event(self, event: Event) -> None:
        """Show an event as an object of JSON. People see how far the program is, if it is time for that."""
        with self._state.lock:
            self._state.add(event)
            if self._json and not self._quiet:
                self._object(as_fields(event))
            self._show_progress()

    def _show_progress(self) -> None:
        if self._view is not None or not self._interval.is_due(time.monotonic()):
            return
        searches, now = self._state.searches, time.time()
        text = describe_progress(searches, self._progress, now)
        if text and text != self._shown:
            self._shown = text
            self._show("progress", text, progress_numbers(searches, self._progress, now) if self._json else None)

    def memory(self, peaks: Mapping[str, int]) -> None:
        """Show nothing: the record has it."""

    def failed(self, error: SkjobError) -> None:
        """Show an error as a line of JSON; people see it at the command's end."""
        told = {"kind": "error", "text": error.message, "hint": error.hint, "log": error.log}
        self._object({name: value for name, value in told.items() if value or name != "log"})

    def ended(self, record: Record) -> None:
        """Show how the run ended, where its record is, and how to see it; to GitHub Actions, its summary."""
        append_summary(record, Path.cwd(), self.notify)
        if self._json:
            self._log_to_mlflow(record)
            self._object({"kind": "record", "record": asdict(record)})
            return
        from skjob.cli.live.summary import summary

        outcome = record.outcome
        if self._verbose:
            for source, text in record.logs.items():
                self._write(shown(f"--- {source}\n{text}"))
        # The cause of an error is shown at the command's end, with what to do.
        if outcome.status == "failed":
            # All of it stands above, where the program has ended, and in the record.
            lines = (outcome.cause or _status(outcome.exit_code)).splitlines()
            self._line(f"the program failed, {shortened(lines[0], LONGEST_CAUSE)}")
        elif outcome.status != "error":
            self._line(outcome.cause or outcome.status)
        for line in summary(self._state, record):
            self._line(line)
        self._line(f"the record of the run: {run_file(record.run_id)}")
        self._line(f"`skjob report {record.run_id}` makes its report")
        self._log_to_mlflow(record)

    def _log_to_mlflow(self, record: Record) -> None:
        if self.mlflow is not None:
            self.mlflow.log(record, Path.cwd(), self.notify)

    def _start_view(self) -> None:
        """Show the live view at the bottom of the terminal, if there is one that it fits on."""
        from skjob.cli.live.terminal import find_terminal

        name = find_terminal(sys.stderr, os.environ)
        if name is None:
            return
        from skjob.cli.live.view import LiveView

        with suppress(OSError):  # no more files or processes: lines do
            self._view = LiveView(name, self._state, colour=self._colour)
            self._view.start()

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _begin_line(self, step: str) -> None:
        """Show on a terminal what the run waits for; the next line replaces it. Not below a program's own output."""
        if step != PROGRAM_STEP:
            print(f"{self._prefix()}{shown(step)} …", end="", file=sys.stderr, flush=True)
            self._begun = True

    def _show(self, kind: str, text: str, numbers: Mapping[str, object] | None = None) -> None:
        if self._quiet:
            return
        if self._json:
            self._object({"kind": kind, "text": text, **(numbers or {})})
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self._write(f"{self._prefix()}{shown(text)}")

    def _prefix(self) -> str:
        return "\x1b[2mskjob:\x1b[0m " if self._colour else "skjob: "

    def _object(self, data: Mapping[str, object]) -> None:
        print(shown_json(json_format.dumps(data_without_credentials(data))), file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        """Write text that `shown` has made fit."""
        start = "\r\x1b[K" if self._begun else ""
        self._begun = False
        print(start + text, file=sys.stderr, flush=True)


def _status(code: int | None) -> str:
    """`with status 3`; with its name where a shell means a signal: `with status 137 (SIGKILL)`."""
    signals = {128 + each: f" ({each.name})" for each in signal.Signals}
    return f"with status {code}{signals.get(code or 0, '')}"
