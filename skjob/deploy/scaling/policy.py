"""How many workers a cluster should have, and which may go. Pure: numbers in, a decision out.

Up, at once, to what the work can use: a worker is requested if it will still find work when it comes, enough to be
worth its start. Down, by name, once so many were idle for about as long as it would take to start them again: without
knowing when the next work comes, this costs at most twice the optimum (the break-even rule of ski rental: Karlin,
Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica 3, 1988). Never a busy worker, none while others
are on their way (which to release is decided when all are there), and none while workers do something together, as in a
training of XGBoost. A request that is late and not needed any more is cancelled.

The scheduler sees only a window of the work: the engine hands over some tasks for every worker that may come, and the
next as those finish. A window that stays full means more to come: a few times what has been done so far, so that what
is wasted, should it end there, is a few times what was needed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from skjob.config.settings import WorkerRange

MIN_IDLE_SECONDS = 5.0
"""Seconds that any idle worker is kept: a search's next iteration or a forest's next fit comes within seconds."""

MAX_IDLE_SECONDS = 120.0
"""Seconds after which an idle worker goes, however long it took to come."""

MIN_BUSY_SHARE = 0.1
"""A worker is requested if it will be busy for at least this share of the time it takes to come."""

EXPECTED_GROWTH = 4
"""While the window stays full, so many times the finished tasks are expected still to come."""

FULL_WINDOW = 3
"""So many tasks for each thread that may come make the window full. The engine keeps four."""

LATE_FACTOR = 2.0
"""A worker that takes so many times the usual time to come counts as late."""

MIN_LATE_SECONDS = 30.0
"""No worker is late before this many seconds."""


@dataclass(frozen=True)
class Worker:
    """A connected worker: its name, and for how many seconds it has been idle (0 if it is busy)."""

    name: str
    idle_seconds: float


@dataclass(frozen=True)
class Demand:
    """What the scheduler knows.

    `waiting` tasks have no thread yet; `length` is how many seconds one of them takes, None if nothing was measured.
    `remaining` has, for each running task, the seconds it is expected to run on. `finished` tasks were done since there
    was last nothing to do. `peak` is how many workers the tasks could use at most in the time for which an idle worker
    is kept. `together`: some running tasks work as one, on the workers they have. `all_wanted`: a program waits for
    every worker that it can have.
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
    """Workers `requested`, the age of each request that is still on its way, and how many seconds one takes to come."""

    requested: int
    coming: tuple[float, ...]
    seconds: float

    def late(self) -> int:
        """Return how many are so late that they may not come at all."""
        return sum(age > late_after(self.seconds) for age in self.coming)


@dataclass(frozen=True)
class Decision:
    """Grow to `total` workers, release those named, or cancel as many that have not come; or none of these."""

    total: int | None = None
    release: tuple[str, ...] = ()
    cancel: int = 0


def kept_seconds(seconds: float, waiting: int, remaining: Sequence[float]) -> float:
    """Return how long an idle worker is kept if one takes `seconds` to come.

    If nothing waits, a program has more work when the last of its tasks is done. If that takes longer than any worker
    would be kept, they may as well go now.
    """
    kept = max(MIN_IDLE_SECONDS, min(MAX_IDLE_SECONDS, seconds))
    return MIN_IDLE_SECONDS if not waiting and kept < max(remaining, default=0.0) < math.inf else kept


def late_after(seconds: float) -> float:
    """Return after how many seconds a worker may not come at all, if one takes `seconds` to come."""
    return max(LATE_FACTOR * seconds, MIN_LATE_SECONDS)


def decide(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> Decision:
    """Return what to do now. `threads` is how many tasks one worker runs at once."""
    if demand.all_wanted:
        return Decision(total=limits.maximum) if supply.requested < limits.maximum else Decision()
    useful = max(limits.minimum, min(limits.maximum, useful_workers(demand.waiting + len(demand.remaining), threads)))
    wanted = min(useful, max(limits.minimum, supply.requested + _missing(demand, supply, limits, threads)))
    if wanted > supply.requested:
        return Decision(total=wanted)
    if demand.together:
        return Decision()
    if supply.coming:
        return Decision(cancel=min(supply.late(), supply.requested - useful) if useful < supply.requested else 0)
    idle = sorted(
        (worker for worker in demand.workers if worker.idle_seconds > 0), key=lambda worker: -worker.idle_seconds
    )
    return Decision(
        release=tuple(worker.name for worker in idle[: max(0, supply.requested - max(useful, demand.peak))])
    )


def useful_workers(tasks: int, threads: int) -> int:
    """Return how many workers so many tasks could keep busy."""
    return math.ceil(tasks / threads)


class Peak:
    """The highest of the latest values, where before `now` it was `value`."""

    def __init__(self, now: float, value: int) -> None:
        self._values: deque[tuple[float, int]] = deque([(now, value)])

    def see(self, now: float, value: int, seconds: float) -> int:
        """Take one more value and return the highest of those of the last `seconds`."""
        # Only a value that no later one has reached can become the highest again.
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now, value))
        while self._values[0][0] <= now - MAX_IDLE_SECONDS and len(self._values) > 1:
            self._values.popleft()
        return next(value for at, value in self._values if at > now - seconds or at == now)


def _missing(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> int:
    """Return how many more workers are worth requesting.

    The workers that are here and those on their way will have begun some of the waiting tasks by the time that a new
    worker has come and been busy for long enough. The rest is for new workers.
    """
    if not demand.waiting or supply.requested >= limits.maximum:
        return 0
    if demand.length is None:
        return limits.maximum  # nothing was measured: each waiting task may be a long one
    waiting = demand.waiting
    if waiting + len(demand.remaining) >= FULL_WINDOW * limits.maximum * threads:
        waiting += EXPECTED_GROWTH * demand.finished
    worth = MIN_BUSY_SHARE * supply.seconds
    horizon = supply.seconds + worth
    length = max(demand.length, 1e-3)
    running = len(demand.remaining)
    free = max(0, len(demand.workers) * threads - running)
    ready = [*demand.remaining, *[0.0] * free]
    for age in supply.coming:
        if age <= late_after(supply.seconds):
            ready += [max(0.0, supply.seconds - age)] * threads
    begun = sum(1 + math.floor((horizon - at) / length) for at in ready if at <= horizon)
    left = waiting - begun
    if left <= 0:
        return 0
    if length >= worth:
        return math.ceil(left / threads)
    # Short tasks: each thread gets as many as make it worth its start. One worker has to do them, however few.
    return max(math.floor(left * length / worth / threads), 1 if not ready else 0)


def expected_rest(length: float | None, elapsed: float) -> float:
    """Return the seconds that a task of this length will run on. One that has taken longer counts as half done."""
    if length is None:
        return math.inf
    return length - elapsed if elapsed < length else elapsed
