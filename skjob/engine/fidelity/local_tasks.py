"""Count the tasks that run in the program's own process, which the scheduler does not see, for the run's progress.

A program may run thousands a second, so the count is reported once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

REPORT_INTERVAL = 1.0
"""Seconds between two reports."""

COUNTER = "skjob-local-tasks"
"""The key in a client's extensions of its `LocalTaskCounter`, if the run's progress is shown."""


class LocalTaskCounter:
    """The number of tasks that have run here. Thread-safe.

    `report` is called with the number so far.
    """

    def __init__(self, report: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._next = 0.0

    def add(self, number: int) -> None:
        """Add tasks that have just finished."""
        with self._lock:
            self._number += number
            now = self._clock()
            if number and now >= self._next:
                self._next = now + REPORT_INTERVAL
                self._report(self._number)
