"""The terminal that stderr is connected to: its size, what its mode says about the program, and writing to it."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from skjob.cli.live.screen import REQUIRED, Size


class Terminal:
    """A terminal, opened for writing apart from the streams that the program shares.

    The program may make those non-blocking; then half of a write could be missing.
    """

    def __init__(self, name: str) -> None:
        self._file = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)

    @property
    def descriptor(self) -> int:
        """The open file."""
        return self._file

    @property
    def size(self) -> Size:
        """Its size now; of 0 rows if it is gone."""
        try:
            size = os.get_terminal_size(self._file)
        except OSError:
            return Size(0, 0)
        return Size(size.lines, size.columns)

    @property
    def is_ours(self) -> bool:
        """Whether the run is in the foreground, and the terminal shows lines as they are typed.

        A full-screen program, a debugger that edits its line and a question for a password turn off one or the other,
        or are processes of a group of their own.
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
        """Write all of a text by one system call, which no other process's write can interrupt.

        Return whether that succeeded.
        """
        content = text.encode(sys.stderr.encoding or "utf-8", "replace")
        try:
            return os.write(self._file, content) == len(content)
        except OSError:  # it is gone
            return False

    def ask_to_redraw(self) -> None:
        """Tell the processes in the foreground that the size has changed: a full-screen program then draws all anew."""
        import signal

        with suppress(OSError):
            os.killpg(os.tcgetpgrp(self._file), signal.SIGWINCH)

    def close(self) -> None:
        """Close it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def find_terminal(stream: TextIO, environment: Mapping[str, str]) -> str | None:
    """Return the name of the terminal that a stream goes to.

    None if it goes elsewhere, if the terminal is too small or cannot do what it takes, or if this is CI, where nobody
    looks.
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
    except ImportError:  # a Python without it: most terminals can
        return True
    try:
        curses.setupterm(fd=descriptor)
    except curses.error:
        return False
    return all(curses.tigetstr(name) for name in REQUIRED)
