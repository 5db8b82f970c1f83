"""Before a distributed training, the workers it may have: it takes those that are there when it begins, and no others.

A search that starts on one worker of eight spreads as the others come. A training does not: its data stays where it was
loaded, and so does the training. So it asks for all workers that the run may have, and waits while they come. What does
not come within a while is done without, and is not waited for again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skjob.boosters.scheduler_plugin import want_all

ARRIVAL = 60.0
"""Seconds without a new worker after which the others are done without."""

LOOK_AGAIN = 0.2


class WorkerBarrier:
    """Gets the workers of a client together: `threads` of them in all, as many as the run may come to have.

    `tell` takes a line for the user; `arrival` is how many seconds a worker may take after the last one that came.
    """

    def __init__(self, client: Any, threads: int, tell: Callable[[str], None], arrival: float = ARRIVAL) -> None:
        self._client = client
        self._enough = threads
        self._tell = tell
        self._arrival = arrival
        self._lock = threading.Lock()
        self._inside = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """For the length of the block no worker goes, and it begins when all are there."""
        with self._lock:
            self._inside += 1
            first = self._inside == 1
        try:
            if first:
                self._want(True)
                self._wait()
            yield
        finally:
            with self._lock:
                self._inside -= 1
                last = not self._inside
            if last:
                self._want(False)

    def _want(self, wanted: bool) -> None:
        if not self._is_over():
            self._client.run_on_scheduler(want_all, self._client.id, wanted)

    def _is_over(self) -> bool:
        """The cluster was left, and the program goes on with another one: what it trains there is none of ours."""
        return self._client.status in ("closing", "closed")

    def _wait(self) -> None:
        if self._is_over():
            return
        there = self._threads()
        deadline = time.monotonic() + self._arrival
        while there < self._enough:
            if time.monotonic() > deadline:
                self._tell(f"a training begins with {there} of {self._enough} threads: the other workers do not come")
                self._enough = there
                return
            time.sleep(LOOK_AGAIN)
            now = self._threads()
            if now > there:
                deadline = time.monotonic() + self._arrival
            there = now

    def _threads(self) -> int:
        return int(sum(self._client.nthreads().values()))
