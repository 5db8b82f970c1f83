"""Restart the trainings of declared jobs after they lose a worker.

A training ends with one of its workers. It restarts, from the latest checkpoint if there is one, when the workers are
free and as many are connected as before, or after no new one has come for a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skjob.boosters.checkpoint import History
from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import WorkerRef, connected_workers
from skjob.boosters.patches import find_lost_worker
from skjob.boosters.worker_barrier import ARRIVAL_TIMEOUT
from skjob.utils.dask_client import wait_result

FREE_TIMEOUT = 20.0
"""Seconds after which a worker that is still busy is used all the same."""

BUSY_TIMEOUT = 5.0

_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class TrainingResult:
    """A fitted model of the library's own class for one machine, and how it was trained.

    `history` has the scores after each round, by evaluation set and metric. `resumed_from` is the round of the earlier
    run's checkpoint that the training continued from, 0 for none; `restarts` counts the restarts after a lost worker.
    """

    model: Any
    history: History
    rounds: int
    resumed_from: int
    restarts: int


def lost_worker(workers: Sequence[WorkerRef], client: Any) -> str | None:
    """Return the name of the lost worker that may be why a training failed; None if all are connected.

    The libraries' own errors do not say for sure.
    """
    return find_lost_worker({worker.address: worker.name for worker in workers}, client)


def wait_for_workers(
    client: Any, number: int, timeout: float, *, arrival_timeout: float = ARRIVAL_TIMEOUT, free: bool = True
) -> tuple[WorkerRef, ...]:
    """Wait for `number` workers, or until no new one has come for `arrival_timeout` seconds, and return them.

    With `free`, first wait until no connected worker is busy: a failed training keeps workers for some seconds, or ends
    them.

    Raises:
        TrainingLost: there is no worker within `timeout` seconds.
    """
    deadline = time.monotonic() + FREE_TIMEOUT
    while free and time.monotonic() < deadline and _any_busy(client):
        time.sleep(_POLL_INTERVAL)
    began = latest = time.monotonic()
    connected = connected_workers(client)
    while len(connected) < number:
        now = time.monotonic()
        if connected and now - latest > min(arrival_timeout, timeout):
            break
        if not connected and now - began > timeout:
            raise TrainingLost(f"no worker came within {timeout:.0f} s to continue the training")
        time.sleep(_POLL_INTERVAL)
        before, connected = connected, connected_workers(client)
        if len(connected) > len(before):
            latest = time.monotonic()
    return connected


def _any_busy(client: Any) -> bool:
    asking = client.run(_is_busy, on_error="ignore", asynchronous=True)
    with suppress(TimeoutError, OSError):  # do not wait for a worker that is just dying
        return any(wait_result(client, asking, BUSY_TIMEOUT).values())
    return True


def _is_busy(dask_worker: Any = None) -> bool:
    """Return whether the worker runs a task. Runs on a worker."""
    return bool(dask_worker.active_threads)
