"""Simulate a cluster: tasks, a scheduler that never fails, workers that take their time to come, or never do.

It shows what no available machine can: a thousand workers, in a second. The tests put random loads on it and check what
must always hold (tests/unit/deploy/scaling/test_policy.py); benchmarks/scaling.py compares scalers on it. Time is
simulated and random numbers are seeded, so that a run is the same each time.

Every scaler has the same simplifications: tasks start on free threads at once and in order, a worker that is removed
while busy gives back its tasks, which restart, and the scheduler holds a window of the work, as skjob's engine keeps
it: four tasks for each thread that may come.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from skjob.config.settings import WorkerRange
from skjob.deploy.scaling.policy import (
    Decision,
    Demand,
    Peak,
    Supply,
    Worker,
    decide,
    expected_remaining,
    idle_seconds_allowed,
    useful_workers,
)
from skjob.deploy.scaling.task_durations import DurationTracker
from skjob.deploy.scaling.worker_startup import StartupEstimate

LOOK_AHEAD = 4


@dataclass(frozen=True)
class Call:
    """One Parallel call: the seconds of each of its tasks, and the `pause` in seconds after the call before."""

    lengths: tuple[float, ...]
    pause: float = 0.0


@dataclass(frozen=True)
class Load:
    """The calls of a program, one after the other."""

    name: str
    calls: tuple[Call, ...]

    @property
    def work(self) -> float:
        """Seconds of work on one thread."""
        return sum(sum(call.lengths) for call in self.calls)


@dataclass(eq=False)
class SimulatedWorker:
    """A requested worker. It joins at `joins`, which may be never; `runs` has the start of each of its tasks."""

    name: str
    asked_at: float
    joins: float
    joined: bool = False
    gone: bool = False
    idle_since: float = 0.0
    runs: dict[int, float] = field(default_factory=dict)


class Scaler(Protocol):
    """Decides on the number of workers every `interval` seconds."""

    interval: float

    def tick(self, cluster: SimulatedCluster) -> None:
        """Look at the cluster, and act."""


class SimulatedCluster:
    """Runs one load under one scaler.

    `start_seconds` gives how long the next worker takes to come, and infinity for never. `die` is the chance that a
    worker dies within any one second; its Deployment starts it again at once.
    """

    def __init__(
        self,
        load: Load,
        scaler: Scaler,
        limits: WorkerRange,
        threads: int,
        start_seconds: Callable[[], float],
        chance: random.Random,
        die: float = 0.0,
    ) -> None:
        self.limits = limits
        self.threads = threads
        self.now = 0.0
        self.finished = 0
        """Tasks done since the cluster was last idle."""
        self.measured = (0, 0.0)
        """The number of all tasks done, and their seconds."""
        self.begun_anew = 0
        self.done: Callable[[float], None] = lambda _: None
        """Callback for the seconds of each task that is done."""
        self.waiting: deque[int] = deque()
        self.workers: dict[str, SimulatedWorker] = {}
        self.coming: list[SimulatedWorker] = []
        self.cost = 0.0
        """Worker-seconds, from the request of a worker until it is gone."""
        self._scaler = scaler
        self._start_seconds = start_seconds
        self._chance = chance
        self.die = die
        self._calls = deque(load.calls)
        self._lengths: tuple[float, ...] = ()
        self._next_task = self._outstanding = 0
        self._window = LOOK_AHEAD * limits.maximum * threads
        self._free: deque[SimulatedWorker] = deque()
        self._events: list[tuple[float, int, str, Any]] = []
        self._numbers = 0
        self._over = False
        for _ in range(limits.first):
            self._join(self._new_worker(0.0))
        self._at(self._calls[0].pause, "call", None)
        self._at(scaler.interval, "tick", None)
        if die:
            self._at(1.0, "die", None)

    # ----------------------------------------------------------------------------------------- what a scaler may see

    @property
    def requested(self) -> int:
        """The number of requested workers, connected or on their way."""
        return len(self.workers) + len(self.coming)

    @property
    def tasks(self) -> int:
        """The number of the scheduler's tasks, waiting or running."""
        return len(self.waiting) + self.running

    @property
    def running(self) -> int:
        """The number of running tasks."""
        return sum(len(worker.runs) for worker in self.workers.values())

    # ------------------------------------------------------------------------------------------ what a scaler may do

    def add(self, total: int) -> None:
        """Request workers until there are `total`."""
        while self.requested < total:
            self.coming.append(self._new_worker(self._start_seconds()))

    def remove(self, names: Iterable[str]) -> int:
        """End connected workers. Return how many tasks must restart."""
        lost = 0
        for name in names:
            worker = self.workers.pop(name)
            worker.gone = True
            self.waiting.extendleft(worker.runs)
            lost += len(worker.runs)
            self.cost += self.now - worker.asked_at
        self.begun_anew += lost
        if lost:
            self._assign()
        return lost

    def cancel_pending(self, workers: Iterable[SimulatedWorker]) -> None:
        """Cancel requested workers that have not connected."""
        for worker in workers:
            worker.gone = True
            self.cost += self.now - worker.asked_at
        self.coming = [worker for worker in self.coming if not worker.gone]

    # --------------------------------------------------------------------------------------------------- what happens

    def run(self, until: float = math.inf) -> bool:
        """Run until the last task is done, or for so long. Return whether it is done."""
        while self._events and not self._over:
            if self._events[0][0] > until:
                self.now = until
                return False
            at, _, what, about = heapq.heappop(self._events)
            self.now = at
            if what == "done":
                self._done(*about)
            elif what == "join":
                if not about.gone:
                    self.coming.remove(about)
                    self._join(about)
            elif what == "tick":
                self._at(self.now + self._scaler.interval, "tick", None)
                self._scaler.tick(self)
            elif what == "call":
                self._lengths = self._calls.popleft().lengths
                self._next_task, self.finished = 0, 0
                self._outstanding = len(self._lengths)
                self._fill()
            else:
                self._at(self.now + 1.0, "die", None)
                self._some_die()
        return self._over

    def idle_until(self, latest: float, enough: Callable[[SimulatedCluster], bool]) -> None:
        """Let time pass after the last task."""
        self._over = False
        while self.now < latest and not enough(self):
            self.run(self.now + self._scaler.interval)

    def total_cost(self) -> float:
        """Return the worker-seconds until now."""
        here = [*self.workers.values(), *self.coming]
        return self.cost + sum(self.now - worker.asked_at for worker in here)

    def _at(self, when: float, what: str, about: Any) -> None:
        if when < math.inf:
            self._numbers += 1
            heapq.heappush(self._events, (when, self._numbers, what, about))

    def _new_worker(self, takes: float) -> SimulatedWorker:
        self._numbers += 1
        worker = SimulatedWorker(f"w{self._numbers}", self.now, self.now + takes)
        if takes:
            self._at(worker.joins, "join", worker)
        return worker

    def _join(self, worker: SimulatedWorker) -> None:
        worker.joined, worker.idle_since = True, self.now
        self.workers[worker.name] = worker
        self._free.extend([worker] * self.threads)
        self._assign()

    def _fill(self) -> None:
        room = self._window - self.tasks
        last = min(len(self._lengths), self._next_task + room)
        self.waiting.extend(range(self._next_task, last))
        self._next_task = max(self._next_task, last)
        self._assign()

    def _assign(self) -> None:
        while self.waiting and self._free:
            worker = self._free.popleft()  # spread, as Dask does it
            if worker.gone:
                continue
            task = self.waiting.popleft()
            worker.runs[task] = self.now
            self._at(self.now + self._lengths[task], "done", (worker, task, self.now))

    def _done(self, worker: SimulatedWorker, task: int, begun: float) -> None:
        if worker.gone or worker.runs.get(task) != begun:
            return
        del worker.runs[task]
        if not worker.runs:
            worker.idle_since = self.now
        length = self._lengths[task]
        self.measured = (self.measured[0] + 1, self.measured[1] + length)
        self.done(length)
        self.finished += 1
        self._outstanding -= 1
        self._free.append(worker)
        if self._next_task < len(self._lengths):
            self.waiting.append(self._next_task)
            self._next_task += 1
        self._assign()
        if not self._outstanding:
            if self._calls:
                self._at(self.now + self._calls[0].pause, "call", None)
            else:
                self._over = True

    def _some_die(self) -> None:
        for name in list(self.workers):
            if self._chance.random() < self.die:
                self.remove([name])
                self.coming.append(self._new_worker(self._chance.uniform(1.0, 10.0)))


@dataclass(frozen=True)
class Best:
    """The seconds of the fastest schedule that knows the future, and its worker-seconds."""

    seconds: float
    cost: float


def best(load: Load, limits: WorkerRange, threads: int, start: float) -> Best:
    """Return the best known schedule, which knows every length and every call beforehand.

    Longest tasks first, on as few workers as are within 1 % of the fastest; each is asked for so that it comes when it
    is needed, ends with its last task of a call, and is kept for the next call where that is cheaper than a new start.
    """
    cost, end = 0.0, 0.0
    last: dict[int, float] = {}
    for call in load.calls:
        begin = end + call.pause
        lengths = sorted(call.lengths, reverse=True)
        later = max(begin, start)

        def ends(
            workers: int, begin: float = begin, later: float = later, lengths: list[float] = lengths
        ) -> list[float]:
            free = [(begin if number < limits.first else later, number) for number in range(workers)] * threads
            heapq.heapify(free)
            over = [0.0] * workers
            for length in lengths:
                at, number = free[0]
                heapq.heapreplace(free, (at + length, number))
                over[number] = max(over[number], at + length)
            return over

        fastest = max(ends(limits.maximum))
        few, many = limits.first, limits.maximum
        while few < many:
            middle = (few + many) // 2
            if max(ends(middle)) <= begin + 1.01 * (fastest - begin):
                many = middle
            else:
                few = middle + 1
        over = ends(many)
        end = max(over)
        for number, at in enumerate(over):
            if not at:
                continue
            ready = begin if number < limits.first else later
            if number < limits.minimum:
                cost += at - last.get(number, 0.0)
            elif number in last:
                cost += at - ready + min(start, ready - last[number])
            else:
                cost += at - ready + (ready if number < limits.first else start)
            last[number] = at
    cost += sum(end - last.get(number, 0.0) for number in range(limits.minimum))
    return Best(end, cost)


class Policy:
    """skjob's own policy, with what its loop measures."""

    interval = 1.0

    def __init__(self, guess: float = 10.0, check: Callable[[SimulatedCluster, Decision], None] | None = None) -> None:
        self._arrivals = StartupEstimate(guess)
        self._lengths = DurationTracker()
        self._peak: Peak | None = None
        self._check = check

    def tick(self, cluster: SimulatedCluster) -> None:
        """One tick of skjob.deploy.scaling.loop."""
        now, done = cluster.now, cluster.measured
        running = [now - begun for worker in cluster.workers.values() for begun in worker.runs.values()]
        length = self._lengths.see({"fit": done} if done[0] else {}, {"fit": running}).get("fit")
        remaining = tuple(expected_remaining(length, elapsed) for elapsed in running)
        workers = tuple(
            Worker(worker.name, 0.0 if worker.runs else now - worker.idle_since) for worker in cluster.workers.values()
        )
        coming = self._arrivals.see(now, cluster.requested, cluster.workers)
        useful = useful_workers(len(cluster.waiting) + len(remaining), cluster.threads)
        self._peak = self._peak or Peak(0.0, cluster.requested)
        peak = self._peak.see(
            now, useful, idle_seconds_allowed(self._arrivals.seconds, len(cluster.waiting), remaining)
        )
        demand = Demand(len(cluster.waiting), length, remaining, cluster.finished, peak, workers)
        decision = decide(
            demand, Supply(cluster.requested, coming, self._arrivals.seconds), cluster.limits, cluster.threads
        )
        if self._check:
            self._check(cluster, decision)
        if decision.total is not None:
            cluster.add(decision.total)
            self._arrivals.see(now, cluster.requested, cluster.workers)
        cluster.remove(decision.release)
        cluster.cancel_pending(cluster.coming[: decision.cancel])
