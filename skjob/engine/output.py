"""What a task prints and warns of, brought to the client: on a worker it would go to a log that nobody reads.

The worker's `sys.stdout` and `sys.stderr` are stood in for, once a process; what a thread writes while it runs a batch
belongs to that batch, and anything else goes where it always went. Warnings are text on stderr, as they are in a
program's own process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MOST_CHARACTERS = 100_000
"""Of one batch and stream; a task that prints without end must not fill the client's memory."""


@dataclass
class Output:
    """The text of one batch on one stream."""

    parts: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str) -> None:
        """Keep it, as long as there is room."""
        kept = text[: max(0, MOST_CHARACTERS - self.size)]
        self.parts.append(kept)
        self.size += len(text)

    @property
    def text(self) -> str:
        """All of it, and how much there was besides."""
        more = self.size - MOST_CHARACTERS
        return "".join(self.parts) + (f"\n… {more} more characters were printed\n" if more > 0 else "")


class StandIn:
    """In the place of `sys.stdout` or `sys.stderr`."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.of_thread = threading.local()

    def write(self, text: str) -> int:
        """To the batch of this thread, if it runs one."""
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
    """What this thread writes to stdout and to stderr in the block."""
    with _installing:
        if not isinstance(sys.stdout, StandIn):
            sys.stdout = StandIn(sys.stdout)
        if not isinstance(sys.stderr, StandIn):
            sys.stderr = StandIn(sys.stderr)
        streams = (sys.stdout, sys.stderr)
    outputs = (Output(), Output())
    for stream, output in zip(streams, outputs, strict=True):
        stream.of_thread.output = output
    try:
        yield outputs
    finally:
        for stream in streams:
            stream.of_thread.output = None
