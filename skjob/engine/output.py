"""Capture what a task prints, for the client: on a worker it would go to a log that nobody reads.

The worker's `sys.stdout` and `sys.stderr` are replaced once a process. What a thread writes while it runs a task
belongs to that task; anything else goes where it always went.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MAX_CHARACTERS = 100_000
"""Limit for one task and stream: a task that prints without end must not fill the client's memory."""


@dataclass
class Output:
    """The text of one task on one stream."""

    parts: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str) -> None:
        """Add text, up to the limit."""
        self.parts.append(text[: max(0, MAX_CHARACTERS - self.size)])
        self.size += len(text)

    @property
    def text(self) -> str:
        """The text, and how much more was printed."""
        more = self.size - MAX_CHARACTERS
        return "".join(self.parts) + (f"\n… {more} more characters were printed\n" if more > 0 else "")


class ThreadStream:
    """Replaces `sys.stdout` or `sys.stderr`: each thread may have an output of its own."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.of_thread = threading.local()

    def write(self, text: str) -> int:
        """Write to the task of this thread, or to the original stream if it runs none."""
        output: Output | None = getattr(self.of_thread, "output", None)
        if output is None:
            return int(self._original.write(text) or 0)
        output.add(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


_installing = threading.Lock()


@contextmanager
def captured() -> Iterator[tuple[Output, Output]]:
    """Capture what this thread writes to stdout and to stderr in the block."""
    with _installing:
        if not isinstance(sys.stdout, ThreadStream):
            sys.stdout = ThreadStream(sys.stdout)
        if not isinstance(sys.stderr, ThreadStream):
            sys.stderr = ThreadStream(sys.stderr)
        streams = (sys.stdout, sys.stderr)
    outputs = (Output(), Output())
    for stream, output in zip(streams, outputs, strict=True):
        stream.of_thread.output = output
    try:
        yield outputs
    finally:
        for stream in streams:
            stream.of_thread.output = None
