"""How many workers a cluster should have, and which may go. Pure: numbers in, a decision out.

The plain policy of this release. Up: at once, to what the tasks that are known can use. Down: only workers that have
been idle for a while, by name, never a busy one, and never while others are still on their way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from skjob.config import WorkerRange

IDLE_SECONDS = 30.0
"""An idle worker is kept this long: a search's next iteration or a forest's next fit comes within seconds."""


@dataclass(frozen=True)
class Worker:
    """A connected worker: its name, and for how many seconds it has had nothing to do (0 where it is busy)."""

    name: str
    idle_seconds: float


@dataclass(frozen=True)
class Demand:
    """What the scheduler knows: tasks waiting and running, and the workers there are for them."""

    tasks: int
    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Decision:
    """Grow to `total` workers, or release those named; neither where both are empty."""

    total: int | None = None
    release: tuple[str, ...] = ()


def decide(demand: Demand, asked: int, limits: WorkerRange, threads: int) -> Decision:
    """What to do now.

    Parameters: `asked` is the number of workers asked for, `threads` how many tasks one of them runs at once.
    """
    wanted = max(limits.minimum, min(limits.maximum, math.ceil(demand.tasks / threads)))
    if wanted > asked:
        return Decision(total=wanted)
    if len(demand.workers) < asked:
        return Decision()  # some are still on their way; who goes is decided when all are there
    idle = sorted(
        (worker for worker in demand.workers if worker.idle_seconds >= IDLE_SECONDS),
        key=lambda worker: -worker.idle_seconds,
    )
    return Decision(release=tuple(worker.name for worker in idle[: asked - wanted]))
