"""Decide how many workers a cluster should have, and which to release. Pure: numbers in, a decision out.

Scale up at once to what the work can use: a worker is requested if it will still find work when it joins, enough to be
worth its start. Scale down by name, once that many workers have been idle for about as long as it would take to start
them again. Without knowing when the next work comes, this costs at most twice the optimum (the break-even rule of ski
rental: Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica 3, 1988). Never release a busy
worker, none while others are starting (which to release is decided once all have joined), and none while workers run
tasks together, as in a training of XGBoost. A request that is late and no longer needed is cancelled.

The scheduler sees only a window of the work: the engine submits some tasks for every worker that may come, and the next
as those finish. A window that stays full means that more will come: assume a few times what has been done so far, so
that if the work ends there, only a few times of what was needed is wasted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from skjob.config.settings import WorkerRange

MIN_IDLE_SECONDS = 5.0
"""Seconds for which any idle worker is kept: a search's next iteration or a forest's next fit comes within seconds."""

MAX_IDLE_SECONDS = 120.0
"""Seconds after which an idle worker is released, however long it took to start."""

MIN_BUSY_SHARE = 0.1
"""Share of its startup time that a worker must be busy afterwards to be worth requesting."""

EXPECTED_GROWTH = 4
"""How many times the finished tasks are expected still to come while the window stays full."""

FULL_WINDOW = 3
"""Tasks per thread of all possible workers that make the window full. The engine keeps four."""

LATE_FACTOR = 2.0
"""How many times the usual startup time a worker takes before it counts as late."""

MIN_LATE_SECONDS = 30.0
"""Seconds before which no worker counts as late."""


@dataclass(frozen=True)
class Worker:
    """A connected worker: its name, and how many seconds it has been idle (0 if it is busy)."""

    name: str
    idle_seconds: float


@dataclass(frozen=True)
class Demand:
    """What the scheduler knows.

    `waiting` tasks have no thread yet; `length` is how many seconds one of them takes, None if nothing was measured.
    `remaining` has the seconds that each running task is expected to run on. `finished` tasks were done since there was
    last nothing to do. `peak` is how many workers the tasks could have used at most during the time for which an idle
    worker is kept. `together` means that some running tasks work as one, on the workers they have. `all_wanted` means
    that a program waits for every worker that it can have.
    """

    waiting: int
    length: float | None
    remaining: tuple[float, ...]
    finished: int
    peak: int
    workers: tuple[Worker, ...]
    together: bool = False
    all_wanted: bool = False


@dataclass(frozen=True)
class Supply:
    """Workers `requested`, the age of each pending request, and how many seconds a worker takes to start."""

    requested: int
    pending: tuple[float, ...]
    seconds: float

    def late(self) -> int:
        """Return how many requests are so late that their workers may never come."""
        return sum(age > late_after(self.seconds) for age in self.pending)


@dataclass(frozen=True)
class Decision:
    """Grow to `total` workers, release those named, or cancel that many pending ones; or none of these."""

    total: int | None = None
    release: tuple[str, ...] = ()
    cancel: int = 0


def idle_seconds_allowed(seconds: float, waiting: int, remaining: Sequence[float]) -> float:
    """Return how long an idle worker is kept if starting one takes `seconds`.

    If nothing waits, a program submits more work when the last of its tasks is done. If that takes longer than any
    worker would be kept, idle ones may as well go now.
    """
    allowed = max(MIN_IDLE_SECONDS, min(MAX_IDLE_SECONDS, seconds))
    return MIN_IDLE_SECONDS if not waiting and allowed < max(remaining, default=0.0) < math.inf else allowed


def late_after(seconds: float) -> float:
    """Return the age at which a pending worker may never come, if starting one takes `seconds`."""
    return max(LATE_FACTOR * seconds, MIN_LATE_SECONDS)


def decide(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> Decision:
    """Return what to do now. `threads` is how many tasks a worker runs concurrently."""
    if demand.all_wanted:
        return Decision(total=limits.maximum) if supply.requested < limits.maximum else Decision()
    useful = max(limits.minimum, min(limits.maximum, useful_workers(demand.waiting + len(demand.remaining), threads)))
    target = min(useful, max(limits.minimum, supply.requested + _missing(demand, supply, limits, threads)))
    if target > supply.requested:
        return Decision(total=target)
    if demand.together:
        return Decision()
    if supply.pending:
        return Decision(cancel=min(supply.late(), supply.requested - useful) if useful < supply.requested else 0)
    kept = max(useful, min(demand.peak, limits.maximum))
    idle = sorted(
        (worker for worker in demand.workers if worker.idle_seconds > 0), key=lambda worker: -worker.idle_seconds
    )
    return Decision(release=tuple(worker.name for worker in idle[: max(0, supply.requested - kept)]))


def useful_workers(tasks: int, threads: int) -> int:
    """Return how many workers `tasks` could keep busy."""
    return math.ceil(tasks / threads)


class Peak:
    """The highest of the latest values; it was `value` until `now`."""

    def __init__(self, now: float, value: int) -> None:
        self._values: deque[tuple[float, int]] = deque([(now, value)])

    def see(self, now: float, value: int, seconds: float) -> int:
        """Add a value and return the highest of the last `seconds`."""
        # A value that a later one has reached can never be the highest again.
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now, value))
        while self._values[0][0] <= now - MAX_IDLE_SECONDS and len(self._values) > 1:
            self._values.popleft()
        return next(value for at, value in self._values if at > now - seconds or at == now)


def _missing(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> int:
    """Return how many more workers are worth requesting.

    By the time that a new worker has started and been busy for long enough, the existing and pending workers will have
    begun some of the waiting tasks. Only the rest is for new workers.
    """
    if not demand.waiting or supply.requested >= limits.maximum:
        return 0
    if demand.length is None:
        return limits.maximum  # nothing was measured: each waiting task may be a long one
    waiting = demand.waiting
    if waiting + len(demand.remaining) >= FULL_WINDOW * limits.maximum * threads:
        waiting += EXPECTED_GROWTH * demand.finished
    min_busy_seconds = MIN_BUSY_SHARE * supply.seconds
    horizon = supply.seconds + min_busy_seconds
    length = max(demand.length, 1e-3)
    running = len(demand.remaining)
    free = max(0, len(demand.workers) * threads - running)
    ready = [*demand.remaining, *[0.0] * free]
    for age in supply.pending:
        if age <= late_after(supply.seconds):
            ready += [max(0.0, supply.seconds - age)] * threads
    begun = sum(1 + math.floor((horizon - at) / length) for at in ready if at <= horizon)
    unclaimed = waiting - begun
    if unclaimed <= 0:
        return 0
    if length >= min_busy_seconds:
        return math.ceil(unclaimed / threads)
    # Short tasks: each thread gets as many as make its start worthwhile. However few there are, they need one worker.
    return max(math.floor(unclaimed * length / min_busy_seconds / threads), 1 if not ready else 0)


def expected_remaining(length: float | None, elapsed: float) -> float:
    """Return how many seconds a task of this length will run on. One that has taken longer counts as half done."""
    if length is None:
        return math.inf
    return length - elapsed if elapsed < length else elapsed
