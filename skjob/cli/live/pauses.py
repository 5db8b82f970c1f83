"""Find moments in which the program writes nothing, so that a redraw does not split its output.

The kernel does not mix two writes to a terminal. But a program with much output may write half of an escape sequence,
or of a character, and the other half microseconds later.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from skjob.utils.operating_system import children, is_waiting, written_bytes

PAUSE_SECONDS = 0.001
"""Seconds without output after which a process that waits is not in the middle of an escape sequence or a character."""
BUSY_CHECKS = 25
"""Number of such periods in a row for a process that would run: a busy machine may have stopped it in the middle."""
MAX_CHECKS = 50
CHILDREN_TTL = 5.0
"""Seconds after which the list of child processes is refreshed."""


class ChildrenOutput:
    """Counts the bytes written by the children of this process; the program is one of them."""

    def __init__(self) -> None:
        self._children: list[int] = []
        self._found = -CHILDREN_TTL

    def __call__(self) -> int:
        """Return the number of bytes so far. Only Linux counts them; elsewhere the result is always 0."""
        if time.monotonic() - self._found > CHILDREN_TTL:
            self._children, self._found = children(), time.monotonic()
        return sum(map(written_bytes, self._children))

    def are_waiting(self) -> bool:
        """Return whether none of the children runs, or would run if it had a core."""
        return all(map(is_waiting, self._children))


class OutputPauses:
    """Waits for pauses in a count of bytes. If nothing counts them, every moment is a pause."""

    def __init__(
        self,
        written: Callable[[], int],
        are_waiting: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._written = written
        self._are_waiting = are_waiting
        self._sleep = sleep

    def wait(self) -> bool:
        """Wait for a pause, and return whether there was one."""
        before, silent = self._written(), 0
        for _ in range(MAX_CHECKS):
            self._sleep(PAUSE_SECONDS)
            now = self._written()
            silent = silent + 1 if now == before else 0
            if silent >= BUSY_CHECKS or (silent and self._are_waiting()):
                return True
            before = now
        return False
