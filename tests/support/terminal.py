"""A terminal for tests: a process on a pseudo-terminal, whose screen is drawn by pyte and read as text."""

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
POLL_INTERVAL = 0.02


class Terminal:
    """A process with its own terminal, in its own session. Stop it with `close`.

    `written` is all of its output so far.
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
        # The first terminal that a session's leader opens becomes its controlling terminal. Done in a shell, because a
        # process with threads must not run Python between fork and exec.
        opening = ["/bin/sh", "-c", ': <"$0"; exec "$@"', name, *command]
        self.process = subprocess.Popen(opening, cwd=folder, env=environment, start_new_session=True, **ends)
        os.close(follower)

    @property
    def text(self) -> str:
        """The current screen, without lines that have scrolled out of it."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def history(self) -> list[str]:
        """All lines, including those that have scrolled out of the screen."""
        return ["".join(sign for sign, _ in line).rstrip() for line in self.coloured_history]

    @property
    def coloured_history(self) -> list[list[tuple[str, str]]]:
        """All lines as characters with their colours."""
        rows = [*self._screen.history.top, *(self._screen.buffer[row] for row in range(self._screen.lines))]
        return [[(row[x].data, row[x].fg) for x in range(self._screen.columns)] for row in rows]

    def type(self, keys: str) -> None:
        """Type keys; `\\x03` is Ctrl-C, `\\x1a` Ctrl-Z."""
        os.write(self._leader, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as when a user drags the window's corner."""
        self.read()
        self._screen.resize(rows, columns)
        self._set_size(rows, columns)

    def read(self) -> bool:
        """Read the available output. Return False once no process has the terminal open."""
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
            is_open = self.read()
            if condition(self.text):
                return self.text
            assert is_open, f"no process has the terminal open any more:\n{self.text}"
            assert time.monotonic() < deadline, f"still waiting:\n{self.text}"
            time.sleep(POLL_INTERVAL)

    def wait(self) -> int:
        """Read until the process has ended, and return its exit status."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, f"still running:\n{self.text}"
            time.sleep(POLL_INTERVAL)
        self.read()
        return self.process.returncode

    def close(self) -> None:
        """Kill the session's leader if it is still running, and close the terminal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._leader)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
