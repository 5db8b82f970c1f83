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
        self._colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def tell(self, event: Event) -> None:
        """Show one event."""
        if self._json:
            self._write(json_format.dumps({name: value for name, value in asdict(event).items() if value is not None}))
        elif event.kind == "step" and self._verbose:
            self._line(f"{event.text} …")
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
        cause = f", {outcome.cause}" if outcome.cause and outcome.status == "failed" else ""
        how = outcome.cause if outcome.status == "stopped" else f"{outcome.status}{cause}"
        self._line(f"{how}: {run_file(record.run_id)}")

    def _line(self, text: str) -> None:
        self._write(f"\x1b[2mskjob:\x1b[0m {text}" if self._colour else f"skjob: {text}")

    def _write(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
