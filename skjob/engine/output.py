"""Capture what a task prints, for the client: on a worker it would go to a log that nobody reads.

The worker's `sys.stdout` and `sys.stderr` are replaced once a process. What a thread writes while it runs a task
belongs to that task; anything else goes where it always went.

Compiled code and commands write to the file descriptor of stdout: while a task runs, it leads to a temporary file. If
several run in one process, what is written there belongs to the first of them that looks.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.fidelity.effects.task_threads import inherit, install

MAX_CHARACTERS = 100_000
"""Limit for one task and stream: a task that prints without end must not fill the client's memory."""

MAX_CUTS = 10_000
"""Limit for one task and stream: the writes after that arrive as one."""

STDOUT = 1
"""The file descriptor."""


@dataclass
class Output:
    """The text of one task on one stream."""

    parts: list[str] = field(default_factory=list)
    size: int = 0
    cuts: list[int] = field(default_factory=list)
    """The size after each write: a stream of the program's own may count them."""
    ended: bool = False
    """Whether the task has ended, though one of its threads may go on."""

    def add(self, text: str) -> None:
        """Add text, up to the limit."""
        self.parts.append(text[: max(0, MAX_CHARACTERS - self.size)])
        self.size += len(text)
        if len(self.cuts) < MAX_CUTS:
            self.cuts.append(self.size)

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
        inherit(self.of_thread, "output")

    def write(self, text: str) -> int:
        """Write to the task of this thread, or to the original stream if it runs none."""
        output: Output | None = getattr(self.of_thread, "output", None)
        if output is None or output.ended:
            return int(self._original.write(text) or 0)
        if self is sys.stdout:
            _raw.give_to(output)
        output.add(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of these texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class RawOutput:
    """What is written to a file descriptor while tasks run."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.RLock()  # a handler of signals may print meanwhile
        self._running = 0
        self._original = -1
        self._file = -1

    def begin(self) -> bool:
        """Let what is written go to the file: a task begins. Return whether it does."""
        with self._lock, suppress(OSError):  # the descriptor may be closed
            if not self._running:
                if self._file < 0:
                    with tempfile.TemporaryFile() as file:
                        self._original = os.dup(self._descriptor)
                        self._file = os.dup(file.fileno())
                os.dup2(self._file, self._descriptor)
            self._running += 1
            return True
        return False

    def end(self, output: Output) -> None:
        """Give a task what was written; if it was the last, what is written goes where it always went."""
        self.give_to(output)
        with self._lock, suppress(OSError):
            self._running -= 1
            if not self._running:
                os.dup2(self._original, self._descriptor)

    def give_to(self, output: Output) -> None:
        """Give a task what was written since somebody looked last."""
        if self._file < 0 or not os.fstat(self._file).st_size:
            return
        with self._lock:
            size = os.fstat(self._file).st_size
            content = os.pread(self._file, min(size, 4 * MAX_CHARACTERS), 0)
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
        output.add(content.decode(errors="replace"))


_raw = RawOutput(STDOUT)
_installing = threading.Lock()


@contextmanager
def captured(*, raw: bool = False) -> Iterator[tuple[Output, Output]]:
    """Capture what this thread writes to stdout and to stderr in the block.

    `raw`: also what goes to the file descriptor of stdout, in a process that runs nothing but tasks.
    """
    install()
    with _installing:
        if not isinstance(sys.stdout, ThreadStream):
            sys.stdout = ThreadStream(sys.stdout)
        if not isinstance(sys.stderr, ThreadStream):
            sys.stderr = ThreadStream(sys.stderr)
        streams = (sys.stdout, sys.stderr)
    outputs = (Output(), Output())
    for stream, output in zip(streams, outputs, strict=True):
        stream.of_thread.output = output
    if raw:
        with suppress(Exception):  # whatever stands for the original stream
            streams[0].flush()
        raw = _raw.begin()
    try:
        yield outputs
    finally:
        for stream, output in zip(streams, outputs, strict=True):
            stream.of_thread.output = None
            output.ended = True
        if raw:
            with suppress(Exception):
                streams[0].flush()
            _raw.end(outputs[0])
