"""How many workers a cluster should have, and which may go. Pure: numbers in, a decision out.

Up, at once, to what the work can use: a worker is asked for where it will still find work when it comes, enough to be
worth its start. Down, by name, when so many were not needed for about as long as it would take to start them again:
who does not know when the next work comes pays at most twice what clairvoyance would (the break-even rule of ski
rental: Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", Algorithmica 3, 1988). Never a busy worker,
none while others are on their way (who is not needed is decided when all are there), and none while workers do
something together, as in a training of XGBoost. One that does not come and is not needed any more is taken back.

The scheduler knows a window of the work only: the engine hands over some tasks for every worker that may come, and the
next as those finish. A window that stays full means more to come: a few times what has been done so far, so that what
is paid for in vain, should it end there, is a few times what was needed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from skjob.config.settings import WorkerRange

SHORTEST_KEPT = 5.0
"""Seconds that any idle worker is kept: a search's next iteration or a forest's next fit comes within seconds."""

LONGEST_KEPT = 120.0
"""Seconds after which an idle worker goes, however long it took to come."""

WORTH = 0.1
"""A worker is asked for where it will be busy for this share of the time it takes to come."""

MORE = 4
"""How many times the tasks that were done are thought to be still to come where the window stays full."""

FULL = 3
"""Tasks for each thread that may come, from which the window counts as full. The engine keeps four."""

LATE = 2.0
"""How many times the usual a worker may take to come before it counts as one that does not."""

LATE_SECONDS = 30.0
"""No worker is late before this many seconds."""


@dataclass(frozen=True)
class Worker:
    """A connected worker: its name, and for how many seconds it has had nothing to do (0 where it is busy)."""

    name: str
    idle_seconds: float


@dataclass(frozen=True)
class Demand:
    """What the scheduler knows.

    `waiting` tasks have no thread yet; `length` is how many seconds one of them takes, None where nothing was measured.
    `remaining` has, for each task that runs, the seconds it is expected to run on. `finished` tasks were done since
    there was last nothing to do. `peak` is how many workers the tasks could use at most, lately: in the time for which
    an idle worker is kept. `together`: some of what runs works as one, on the workers it has. `all_wanted`: a program
    waits for every worker that it can have.
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
        """How many are so late that they may not come at all."""
        return sum(age > late_after(self.seconds) for age in self.coming)


@dataclass(frozen=True)
class Decision:
    """Grow to `total` workers, release those named, or take back as many that have not come; or nothing of all this."""

    total: int | None = None
    release: tuple[str, ...] = ()
    cancel: int = 0


def kept_seconds(seconds: float, waiting: int, remaining: Sequence[float]) -> float:
    """How long an idle worker is kept where one takes `seconds` to come.

    Where nothing waits, a program has more work when the last of its tasks is done. If that takes longer than anybody
    would be kept, they may as well go now.
    """
    kept = max(SHORTEST_KEPT, min(LONGEST_KEPT, seconds))
    return SHORTEST_KEPT if not waiting and kept < max(remaining, default=0.0) < math.inf else kept


def late_after(seconds: float) -> float:
    """When a worker may not come at all, where one takes `seconds` to come."""
    return max(LATE * seconds, LATE_SECONDS)


def decide(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> Decision:
    """What to do now. `threads` is how many tasks one worker runs at once."""
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
    """How many workers so many tasks could keep busy."""
    return math.ceil(tasks / threads)


class Peak:
    """The highest of the latest values, where before `now` it was `value`."""

    def __init__(self, now: float, value: int) -> None:
        self._values: deque[tuple[float, int]] = deque([(now, value)])

    def see(self, now: float, value: int, seconds: float) -> int:
        """Take one more value; the highest of those of the last `seconds`."""
        # Only a value that no later one has reached can ever be the highest again.
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now, value))
        while self._values[0][0] <= now - LONGEST_KEPT and len(self._values) > 1:
            self._values.popleft()
        return next(value for at, value in self._values if at > now - seconds or at == now)


def _missing(demand: Demand, supply: Supply, limits: WorkerRange, threads: int) -> int:
    """How many more workers are worth asking for.

    Those who are here, and those on their way, will have begun some of the waiting tasks by the time that a new worker
    has come and was busy for long enough. The rest is for new workers.
    """
    if not demand.waiting or supply.requested >= limits.maximum:
        return 0
    if demand.length is None:
        return limits.maximum  # nothing was measured: each waiting task may be a long one
    waiting = demand.waiting
    if waiting + len(demand.remaining) >= FULL * limits.maximum * threads:
        waiting += MORE * demand.finished
    worth = WORTH * supply.seconds
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
    # Short tasks: each thread gets as many as make it worth its start. Somebody has to do them, however few.
    return max(math.floor(left * length / worth / threads), 1 if not ready else 0)


def expected_rest(length: float | None, elapsed: float) -> float:
    """Seconds that a task of an expected length will run on. One that has taken longer is thought half done."""
    if length is None:
        return math.inf
    return length - elapsed if elapsed < length else elapsed
