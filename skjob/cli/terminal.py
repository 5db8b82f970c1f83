"""What a person sees of a run, on stderr: stdout belongs to the program."""

from __future__ import annotations

import json as json_format
import os
import sys
from dataclasses import asdict

from skjob.errors import SkjobError
from skjob.record.record import Event, Record, run_file


class Reporter:
    """Shows events as they come: lines for people, or one JSON object a line."""

    def __init__(self, *, json: bool, verbose: bool) -> None:
        self._json = json
        self._verbose = verbose
        self._terminal = sys.stderr.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._begun = False

    def tell(self, event: Event) -> None:
        """Show one event."""
        if self._json:
            self._write(json_format.dumps({name: value for name, value in asdict(event).items() if value is not None}))
        elif event.kind == "step" and self._verbose:
            self._line(f"{event.text} …")
        elif event.kind == "step" and self._terminal:
            self._begin_line(event.text)
        elif event.kind == "done":
            self._line(f"{event.text}: {event.seconds:.1f} s")
        elif event.kind in ("note", "workers", "progress"):
            self._line(event.text)

    def failed(self, error: SkjobError) -> None:
        """With `--json` an error is a line like any other; people get it from the command's end."""
        self._write(json_format.dumps({"kind": "error", "text": error.message, "hint": error.hint}))

    def ended(self, record: Record) -> None:
        """How it ended, and where the record is."""
        if self._json:
            self._write(json_format.dumps({"kind": "record", "record": asdict(record)}))
            return
        outcome = record.outcome
        if self._verbose:
            for source, text in record.logs.items():
                self._write(f"--- {source}\n{text}")
        # The cause of an error is told at the command's end, with what to do.
        if outcome.status == "failed":
            self._line(f"the program failed, {outcome.cause or f'with status {outcome.exit_code}'}")
        elif outcome.status != "error":
            self._line(outcome.cause or outcome.status)
        self._line(f"the record of the run: {run_file(record.run_id)}")

    def _begin_line(self, step: str) -> None:
        """Show on a terminal what is waited for; the next line takes its place. Not below a program's own output."""
        if step != "run the program":
            print(f"{self._prefix()}{step} …", end="", file=sys.stderr, flush=True)
            self._begun = True

    def _line(self, text: str) -> None:
        self._write(f"{self._prefix()}{text}")

    def _prefix(self) -> str:
        return "\x1b[2mskjob:\x1b[0m " if self._colour else "skjob: "

    def _write(self, text: str) -> None:
        start = "\r\x1b[K" if self._begun else ""
        self._begun = False
        print(start + text, file=sys.stderr, flush=True)
