"""Access the terminal that stderr is connected to: its size, whether it is free for the view, and writing to it."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from skjob.cli.live.screen import REQUIRED, Size


class Terminal:
    """A terminal, opened for writing separately from the streams that it shares with the program.

    The program may make those non-blocking; then half of a write could be lost.
    """

    def __init__(self, name: str) -> None:
        self._file = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)

    @property
    def descriptor(self) -> int:
        """The open file descriptor."""
        return self._file

    @property
    def size(self) -> Size:
        """Its current size; 0 rows and columns if it is gone."""
        try:
            size = os.get_terminal_size(self._file)
        except OSError:
            return Size(0, 0)
        return Size(size.lines, size.columns)

    @property
    def is_free(self) -> bool:
        """Whether the run is in the foreground, and the terminal echoes lines as they are typed.

        Full-screen programs, debuggers that edit their prompt and password prompts turn off echo or line mode, or run
        in a process group of their own.
        """
        try:
            mode = termios.tcgetattr(self._file)[3]
        except (termios.error, ValueError):  # it is gone, or closed
            return False
        if not (mode & termios.ICANON and mode & termios.ECHO):
            return False
        try:
            return os.tcgetpgrp(self._file) == os.getpgrp()
        except OSError:  # it does not control this process
            return True

    def write(self, text: str) -> bool:
        """Write a text with one system call, which no other process's write can interrupt.

        Return whether that succeeded.
        """
        content = text.encode(sys.stderr.encoding or "utf-8", "replace")
        try:
            return os.write(self._file, content) == len(content)
        except OSError:  # it is gone
            return False

    def request_redraw(self) -> None:
        """Signal a change of size to the foreground processes, so that a full-screen program redraws everything."""
        import signal

        with suppress(OSError):
            os.killpg(os.tcgetpgrp(self._file), signal.SIGWINCH)

    def close(self) -> None:
        """Close it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def find_terminal(stream: TextIO, environment: Mapping[str, str]) -> str | None:
    """Return the name of the terminal that a stream is connected to.

    None if it is connected elsewhere, if the terminal is too small or lacks a capability, or in CI, where nobody
    watches.
    """
    if not stream.isatty() or environment.get("CI") or environment.get("TERM", "dumb") in ("", "dumb"):
        return None
    try:
        name = os.ttyname(stream.fileno())
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return None
    return name if Size(size.lines, size.columns).fits and _is_capable(stream.fileno()) else None


def _is_capable(descriptor: int) -> bool:
    try:
        import curses
    except ImportError:  # this Python lacks it; most terminals are capable
        return True
    try:
        curses.setupterm(fd=descriptor)
    except curses.error:
        return False
    return all(curses.tigetstr(name) for name in REQUIRED)
