"""What the program's process reports to its parent: one line of JSON each, in a file of the run's private folder.

A file is still there after its writer has crashed, and neither side waits for the other. There are six kinds of lines:
`failure`, what the program ended with; `note`, something for the user to read, and `last`, the same at the end of the
run; `fits`, how many fits were reused and how many were stored; `tasks`, how many tasks the program has done itself;
`mlflow`, an MLflow run of the program's and the calls that belong to it.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.run.events.line_tail import LineTail

MESSAGES_FILE = "mailbox.jsonl"


@dataclass(frozen=True)
class Message:
    """One line: its kind, and what it says."""

    kind: str
    content: Any


class MessageWriter:
    """The program's end. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MESSAGES_FILE
        self._lock = threading.Lock()

    def send(self, kind: str, content: Any) -> None:
        """Write one line. If the folder is gone, so is the reader."""
        line = json.dumps({"kind": kind, "content": content}) + "\n"
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:
            return


class MessageReader:
    """The parent's end."""

    def __init__(self, folder: Path) -> None:
        self._lines = LineTail(folder / MESSAGES_FILE)

    def read_new(self) -> list[Message]:
        """Return what has come since the last call. A line that its writer has not finished comes next time."""
        return [Message(**json.loads(line)) for line in self._lines.read_new()]
