"""Signals that end a run: the first raises `Stopped`, a second one skips waiting, and neither cuts clean-up short.

A probe detects whether the program has received a signal already: one signal to a run is one signal to its program.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

ENDING_TIMEOUT = 5.0


class Stopped(BaseException):
    """A signal asked the run to end. A BaseException, so that no handler for errors takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """SIGINT, SIGTERM and SIGHUP end the run; a second one skips waiting, never the request to delete.

    The first raises `Stopped` in the main thread. From `note_only` on they are counted and nothing is raised, so that
    clean-up cannot be cut short. Python drops an exception that is raised in a finalizer or by a callback of
    the garbage collector: `check` raises it again, wherever a run waits for long.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._received = 0
        self._raising = True
        self._noting_only = False
        self._first = 0
        self._previous: dict[int, Any] = {}

    @property
    def hurried(self) -> bool:
        """Whether a second signal has come."""
        return self._received > 1

    def note_only(self) -> None:
        """Count signals from now on, and raise nothing."""
        self._raising = False
        self._noting_only = True

    def check(self) -> None:
        """Raise `Stopped` if a signal has come and nothing has acted on it."""
        if self._first and not self._noting_only:
            raise Stopped(self._first)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in self.NUMBERS:
                # What is ignored stays so: `nohup` ignores SIGHUP for those it starts.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received += 1
        if self._raising:
            self._raising = False
            self._first = number
            raise Stopped(number)


class GroupSignalProbe:
    """A process of this process group that does nothing: the signal that has ended it went to the whole group.

    Ctrl-C in a terminal, a terminal that goes away, and `kill` with the group's number reach every process in the
    group, `kill` with the number of a process that one alone; and a process does not learn which of them it was.
    """

    _WAIT = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); sys.stdin.read()"

    def __init__(self) -> None:
        # It ends when its stdin does: with us, however we end.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", self._WAIT],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def was_hit(self, number: int) -> bool:
        """Return whether this signal went to the whole group. It ends the probe: ask once, after the first signal."""
        self.close()
        return self._process.returncode == -number

    def close(self) -> None:
        """End it. Of two fatal signals the first one counts, even if the process has not acted on it yet."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_TIMEOUT)
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.close()
