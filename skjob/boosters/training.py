"""What the trainings of declared jobs have in common: they survive their workers.

A training ends with one of its workers. It is begun again, from the latest checkpoint where there is one, when the
workers are free and as many of them are there as before, or all that come within a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skjob.boosters.checkpoint import History
from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import Place, places
from skjob.boosters.patches import gone_of
from skjob.boosters.worker_barrier import ARRIVAL
from skjob.utils.dask_client import wait_result

FREE_TIMEOUT = 20.0
"""Seconds after which a worker that still does something is taken all the same."""

ASK_TIMEOUT = 5.0

LOOK_AGAIN = 0.2


@dataclass(frozen=True)
class Trained:
    """A model of the library's own class for one machine, fitted, and how it came about.

    `history` has the scores after each round, by evaluation set and metric. `resumed_from` is the round from which an
    earlier run's checkpoint was taken up, 0 for none; `restarts` is how often a worker's death was survived.
    """

    model: Any
    history: History
    rounds: int
    resumed_from: int
    restarts: int


def lost_worker(workers: Sequence[Place], client: Any) -> str | None:
    """The worker whose going may be why a training failed; None where all are still there.

    What the libraries raise tells nothing for sure.
    """
    return gone_of({place.address: place.name for place in workers}, client)


def wait_for_workers(
    client: Any, number: int, timeout: float, *, arrival: float = ARRIVAL, free: bool = True
) -> tuple[Place, ...]:
    """Wait for so many workers; after `arrival` seconds without a new one, those that are there are enough.

    With `free`, first until none of those that are there does anything: what is left of a training keeps a worker for
    some seconds, or takes it along.

    Raises:
        TrainingLost: there is none within `timeout` seconds.
    """
    deadline = time.monotonic() + FREE_TIMEOUT
    while free and time.monotonic() < deadline and _anybody_works(client):
        time.sleep(LOOK_AGAIN)
    began = latest = time.monotonic()
    there = places(client)
    while len(there) < number:
        now = time.monotonic()
        if there and now - latest > min(arrival, timeout):
            break
        if not there and now - began > timeout:
            raise TrainingLost(f"no worker came within {timeout:.0f} s to go on with the training")
        time.sleep(LOOK_AGAIN)
        before, there = there, places(client)
        if len(there) > len(before):
            latest = time.monotonic()
    return there


def _anybody_works(client: Any) -> bool:
    asking = client.run(_works, on_error="ignore", asynchronous=True)
    with suppress(TimeoutError, OSError):  # one that dies just now is not waited for
        return any(wait_result(client, asking, ASK_TIMEOUT).values())
    return True


def _works(dask_worker: Any = None) -> bool:
    """Runs on a worker."""
    return bool(dask_worker.active_threads)


Tell = Callable[[str], None]
