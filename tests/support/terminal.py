"""A terminal for a test: a process on a pseudo-terminal, whose screen pyte draws and a test reads as text."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte

DEADLINE = 150.0
LOOK_AGAIN = 0.02


class Terminal:
    """A process with a terminal of its own, in a session of its own. End it with `close`.

    `written` is all that it wrote. `screens` has the screen at the end of each chunk that was read.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        rows: int = 24,
        columns: int = 80,
        folder: Path,
        environment: Mapping[str, str],
        **streams: Any,
    ) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        self._leader, follower = os.openpty()
        self._set_size(rows, columns)
        ends = {name: streams.get(name, follower) for name in ("stdin", "stdout", "stderr")}
        name = os.ttyname(follower)
        # The first terminal that the leader of a session opens controls it. In a shell, as a process with threads must
        # not run Python between fork and exec.
        opening = ["/bin/sh", "-c", ': <"$0"; exec "$@"', name, *command]
        self.process = subprocess.Popen(opening, cwd=folder, env=environment, start_new_session=True, **ends)
        os.close(follower)

    @property
    def text(self) -> str:
        """The screen, without what has scrolled out of it."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def history(self) -> list[str]:
        """The lines that have scrolled out of the screen, and those that are on it."""
        return ["".join(sign for sign, _ in line).rstrip() for line in self.coloured_history]

    @property
    def coloured_history(self) -> list[list[tuple[str, str]]]:
        """The same, each character with its colour."""
        rows = [*self._screen.history.top, *(self._screen.buffer[row] for row in range(self._screen.lines))]
        return [[(row[x].data, row[x].fg) for x in range(self._screen.columns)] for row in rows]

    def type(self, keys: str) -> None:
        """Type keys; `\\x03` is Ctrl-C, `\\x1a` Ctrl-Z."""
        os.write(self._leader, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a user does who drags the window's corner."""
        self.read()
        self._screen.resize(rows, columns)
        self._set_size(rows, columns)

    def read(self) -> bool:
        """Read what there is to read now. Return False once no process has the terminal any more."""
        while select.select([self._leader], [], [], 0)[0]:
            try:
                chunk = os.read(self._leader, 65536)
            except OSError:  # EIO: the last of them has closed it
                return False
            self.written += chunk
            self._stream.feed(chunk)
        return True

    def wait_until(self, condition: Callable[[str], bool]) -> str:
        """Read until the screen's text fulfils a condition, and return it."""
        deadline = time.monotonic() + DEADLINE
        while True:
            there = self.read()
            if condition(self.text):
                return self.text
            assert there, f"no process has the terminal any more:\n{self.text}"
            assert time.monotonic() < deadline, f"still waiting:\n{self.text}"
            time.sleep(LOOK_AGAIN)

    def wait(self) -> int:
        """Read until the process has ended, and return its exit status."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, f"still running:\n{self.text}"
            time.sleep(LOOK_AGAIN)
        self.read()
        return self.process.returncode

    def close(self) -> None:
        """End all processes of the session that still have the terminal: it goes away."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._leader)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
