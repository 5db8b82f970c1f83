"""Wait for workers before a distributed training, which uses only those that are connected when it begins.

A search that starts on one worker of eight spreads as the others connect. A training does not: its data stays where it
was loaded. So it requests all workers that the run may have, and waits while they connect. Workers that do not connect
within a while are left out, and not waited for again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skjob.boosters.scheduler_plugin import request_all_workers
from skjob.utils.notify import Notify

ARRIVAL_TIMEOUT = 60.0
"""Seconds without a new worker after which the others are left out."""

_POLL_INTERVAL = 0.2


class WorkerBarrier:
    """Waits until a client's workers have `threads` threads, as many as the run may come to have.

    `arrival_timeout` is how many seconds a worker may take to connect after the one before.
    """

    def __init__(self, client: Any, threads: int, notify: Notify, arrival_timeout: float = ARRIVAL_TIMEOUT) -> None:
        self._client = client
        self._expected = threads
        self._notify = notify
        self._arrival_timeout = arrival_timeout
        self._lock = threading.Lock()
        self._inside = 0

    def expect(self, threads: int) -> None:
        """Wait for so many threads from the next training on."""
        self._expected = threads

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for the workers, and keep all of them until the block ends."""
        with self._lock:
            self._inside += 1
            first = self._inside == 1
        try:
            if first:
                self._request(True)
                self._wait_for_workers()
            yield
        finally:
            with self._lock:
                self._inside -= 1
                last = not self._inside
            if last:
                self._request(False)

    def _request(self, requested: bool) -> None:
        if not self._is_closed():
            self._client.run_on_scheduler(request_all_workers, self._client.id, requested)

    def _is_closed(self) -> bool:
        """Return whether the program has left this cluster: what it trains on another one is its own business."""
        return self._client.status in ("closing", "closed")

    def _wait_for_workers(self) -> None:
        if self._is_closed():
            return
        connected = self._threads()
        deadline = time.monotonic() + self._arrival_timeout
        while connected < self._expected:
            if time.monotonic() > deadline:
                self._notify(
                    f"starting a training with {connected} of {self._expected} threads: no more workers connected"
                )
                self._expected = connected
                return
            time.sleep(_POLL_INTERVAL)
            now = self._threads()
            if now > connected:
                deadline = time.monotonic() + self._arrival_timeout
            connected = now

    def _threads(self) -> int:
        return int(sum(self._client.nthreads().values()))
