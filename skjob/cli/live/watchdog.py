"""Restore the terminal if skjob is killed and cannot do so itself.

A shell waits for the end of a pipe that only skjob holds open. If skjob ends without a message, the shell writes the
control sequences that reset the scroll region. It runs in its own session, where key presses do not reach it.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress

from skjob.cli.live.screen import leave

ENDING_TIMEOUT = 5.0
_SCRIPT = 'trap "" INT HUP TERM QUIT TSTP TTOU; read -r done || printf "%s" "$1"'


class Watchdog:
    """The shell that watches over the terminal open as `descriptor`. `close` ends it."""

    def __init__(self, descriptor: int) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "skjob-terminal", leave()],
            stdin=subprocess.PIPE, stdout=descriptor, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Report that the terminal has been restored."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(b"done\n", ENDING_TIMEOUT)
