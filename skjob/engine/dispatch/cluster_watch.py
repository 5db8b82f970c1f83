"""Wait for workers and for the connection to the scheduler, and notice when there is none left to wait for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client

from skjob.engine.dispatch.batch import WorkersLost
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.utils.dask_client import CONNECTION_LOST

MAX_TRIES = 3
"""How often something is sent again when the connection breaks, or the workers that held its data are lost."""

_POLL_INTERVAL = 0.1
"""Seconds between two checks while waiting for a worker or for the connection."""

RECONNECT_TIMEOUT = 30.0
"""Seconds that a broken connection to the scheduler may take to come back."""

STUCK_INTERVAL = 10.0
"""Seconds between two checks whether any worker still takes tasks, while none has finished one."""

WORKER_SEEN_TTL = 5.0
"""Seconds for which a worker that was seen is assumed to be there."""

Sent = TypeVar("Sent")


class ClusterWatch:
    """The workers and the connection of one client, as one Parallel call sees them.

    Parameters
    ----------
    client : distributed.Client
    outstanding : OutstandingTasks
        The tasks of the call.
    wait_for_workers : float
        Seconds without any worker after which the call fails.
    """

    def __init__(self, client: Client, outstanding: OutstandingTasks, wait_for_workers: float) -> None:
        self._client = client
        self._outstanding = outstanding
        self._wait_for_workers = wait_for_workers
        self._worker_seen = -math.inf
        self._alone_since: float | None = None
        self._checked_at = time.monotonic()
        self._any_takes_tasks = True

    def note_outcome(self) -> None:
        """Note that a worker has just finished a task."""
        self._worker_seen, self._alone_since = time.monotonic(), None

    def wait_for_connection(self) -> None:
        """Wait a while if the client is reconnecting. Raises WorkersLost if it is not connected then."""
        deadline = time.monotonic() + RECONNECT_TIMEOUT
        while self._client.status == "connecting" and time.monotonic() < deadline and not self._outstanding.closed:
            time.sleep(_POLL_INTERVAL)
        if self._client.status != "running":
            raise WorkersLost(CONNECTION_LOST)

    def wait_for_worker(self) -> None:
        """Wait until there is a worker to send data to; a probe task makes the cluster start one if there is none.

        Raises
        ------
        WorkersLost
            None came in time, or the connection is lost.
        """
        if time.monotonic() - self._worker_seen < WORKER_SEEN_TTL or self._has_worker():
            return
        deadline = time.monotonic() + self._wait_for_workers
        probe = self._client.submit(int, key=f"skjob-probe-{uuid4().hex}", pure=False)
        while not self._has_worker():
            self.wait_for_connection()
            if self._outstanding.closed or time.monotonic() > deadline:
                raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")
            time.sleep(_POLL_INTERVAL)
        probe.release()

    def retry(self, send: Callable[[], Sent]) -> Sent:
        """Return what `send` returns, which sends data; call it again if the connection breaks meanwhile.

        Raises
        ------
        WorkersLost
            Sending timed out: there is no worker to send to.
        """
        for left in reversed(range(MAX_TRIES)):
            try:
                return send()
            except TimeoutError:
                break
            except OSError:
                if not left:
                    raise
                self.wait_for_connection()
        raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")

    def find_loss(self) -> WorkersLost | None:
        """Return why no task of the call can be finished any more; None if workers may still come or finish.

        Call it every second or so while no task finishes. A check that fails is left to the next one.
        """
        with suppress(OSError, TimeoutError):
            return self._find_loss()
        return None

    def _find_loss(self) -> WorkersLost | None:
        if self._client.status not in ("running", "connecting"):
            return WorkersLost(CONNECTION_LOST)
        if not self._outstanding or (self._has_worker() and self._takes_tasks()):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._wait_for_workers:
            return WorkersLost(f"there has been no worker for {self._wait_for_workers:.0f} s{self._describe_paused()}")
        return None

    def _has_worker(self) -> bool:
        found = bool(self._client.scheduler_info(n_workers=0).get("n_workers"))
        if found:
            self._worker_seen = time.monotonic()
        return found

    def _takes_tasks(self) -> bool:
        """Return whether any worker takes tasks. One whose memory is full takes none: if all are, nothing finishes."""
        now = time.monotonic()
        if self._alone_since is None and now - self._checked_at < STUCK_INTERVAL:
            return True
        self._checked_at = now
        self._any_takes_tasks = bool(self._client.run_on_scheduler(any_takes_tasks, callback_timeout=STUCK_INTERVAL))
        return self._any_takes_tasks

    def _describe_paused(self) -> str:
        if self._any_takes_tasks:
            return ""
        return " that takes tasks: their memory is full; give them more with `--worker-memory`"


def any_takes_tasks(dask_scheduler: Any = None) -> bool:
    """Return whether any worker takes tasks, or still runs one. Runs on the scheduler."""
    return any(worker.executing or worker.status.name == "running" for worker in dask_scheduler.workers.values())
