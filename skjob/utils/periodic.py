"""A thread that does the same thing again and again, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable


class PeriodicThread:
    """Calls `action` every so many seconds in a thread of its own, which ends with the process.

    `first` is called once before, without a wait. Either may call `stop`. An error that one of them raises ends the
    thread as it ends any.
    """

    def __init__(self, name: str, action: Callable[[], None], *, first: Callable[[], None] = lambda: None) -> None:
        self._action = action
        self._first = first
        self._interval = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, interval: float) -> None:
        """Begin; between the end of a call and the next one `interval` seconds pass."""
        self._interval = interval
        self._thread.start()

    def stop(self) -> None:
        """Make no further call. A call that is under way goes on."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait until the last call has ended, but no longer than `timeout` seconds. Without a start, do nothing."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def stopped(self) -> bool:
        """Whether no further call is made."""
        return self._stop.is_set()

    def _run(self) -> None:
        if not self._stop.is_set():
            self._first()
        while not self._stop.wait(self._interval):
            self._action()
