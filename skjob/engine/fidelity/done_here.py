"""Count the tasks that are done in the program's own process, so that the run's progress knows of them.

The scheduler does not see them. A program may do thousands a second, so what is counted is passed on once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

INTERVAL = 1.0
"""Seconds between two messages."""


class DoneHere:
    """The number of tasks that were done here. Thread-safe.

    `pass_on` is called with the number so far.
    """

    def __init__(self, pass_on: Callable[[int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._pass_on = pass_on
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._next = 0.0

    def add(self, number: int) -> None:
        """Add tasks that have just been done."""
        with self._lock:
            self._number += number
            now = self._clock()
            if number and now >= self._next:
                self._next = now + INTERVAL
                self._pass_on(self._number)
