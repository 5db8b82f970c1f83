"""Write and read the events of a run: `.skjob/runs/<run id>/fits.jsonl` beside its record, one JSON object per line.

The program's process appends each line with one write, so that a reader never sees lines mixed, and what was written
stays however the program ends. The first line has the version of the format.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from skjob.engine.events import VERSION, Event, from_line, to_line
from skjob.errors import without_secrets
from skjob.run.events.line_tail import LineTail

FILE = "fits.jsonl"


class EventsWriter:
    """Appends events to the file in a run's folder. Thread-safe.

    A file that cannot be created, or a disk that fills up, ends the file but not the run. Forked children of the
    program write nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()  # reentrant: a finalizer or a signal handler may report while it is held
        self._file = -1
        with suppress(OSError):
            self._file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._write(json.dumps({"kind": "begin", "version": VERSION}) + "\n")

    def report(self, event: Event) -> None:
        """Append an event."""
        self._write(to_line(event, without_secrets))  # by value: a mask applied to the line would damage the JSON

    def close(self) -> None:
        """Close the file; later events are not written."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _write(self, line: str) -> None:
        if os.getpid() != self._owner:  # a fork may have been made while another thread held the lock
            return
        with self._lock:
            if self._file < 0:
                return
            content = line.encode()
            try:
                if os.write(self._file, content) == len(content):
                    return
            except OSError:
                pass
            os.close(self._file)
            self._file = -1


class EventsReader:
    """Reads a file of events that may still grow."""

    def __init__(self, folder: Path) -> None:
        self._lines = LineTail(folder / FILE)

    def read_new(self) -> Iterator[Event]:
        """Yield events added since the last call. An incomplete line is left for the next call."""
        return filter(None, map(from_line, self._lines.read_new()))


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the events of a run from its folder; none if the run has no such file."""
    return EventsReader(folder).read_new()
