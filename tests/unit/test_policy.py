"""How many workers, and who goes: a table of decisions, and a simulated cluster under random loads."""

import random
from dataclasses import dataclass, field
from math import ceil

import pytest

from skjob.config import WorkerRange
from skjob.scaling.policy import IDLE_SECONDS, Decision, Demand, Worker, decide


def _workers(*idle_seconds: float) -> tuple[Worker, ...]:
    return tuple(Worker(f"w{number}", seconds) for number, seconds in enumerate(idle_seconds))


@pytest.mark.parametrize(
    ("tasks", "workers", "asked", "limits", "threads", "decision"),
    [
        # up, at once, to what the tasks can use and no further
        (10, (), 0, (0, 4), 1, Decision(total=4)),
        (3, (0, 0), 2, (1, 4), 1, Decision(total=3)),
        (3, (0,), 1, (1, 4), 2, Decision(total=2)),
        (80, (0,), 1, (1, 20), 8, Decision(total=10)),
        (81, (0,), 1, (1, 20), 8, Decision(total=11)),
        (0, (), 0, (2, 4), 1, Decision(total=2)),
        # up again while some are on their way
        (9, (0,), 2, (1, 4), 1, Decision(total=4)),
        # as it is
        (2, (0, 0), 2, (1, 4), 1, Decision()),
        (100, (0, 0, 0, 0), 4, (1, 4), 1, Decision()),
        (0, (99,), 1, (1, 4), 1, Decision()),
        (0, (), 0, (0, 4), 1, Decision()),
        # down only when all are there
        (0, (99, 99), 3, (1, 4), 1, Decision()),
        # down only those idle long enough, the longest first, to what is wanted
        (0, (29.9, 29.9), 2, (1, 4), 1, Decision()),
        (0, (30, 29.9, 31), 3, (0, 4), 1, Decision(release=("w2", "w0"))),
        (0, (30, 40, 50), 3, (1, 4), 1, Decision(release=("w2", "w1"))),
        (1, (0, 40, 50), 3, (0, 4), 1, Decision(release=("w2", "w1"))),
        (2, (0, 40, 50), 3, (0, 4), 1, Decision(release=("w2",))),
        (2, (0, 0, 50), 3, (1, 4), 2, Decision(release=("w2",))),
        # many tasks for few threads keep the others
        (3, (0, 50, 50), 3, (1, 4), 1, Decision()),
    ],
)
def test_decisions(
    tasks: int, workers: tuple[float, ...], asked: int, limits: tuple[int, int], threads: int, decision: Decision
) -> None:
    assert decide(Demand(tasks, _workers(*workers)), asked, WorkerRange(*limits), threads) == decision


LATEST = 9
"""Seconds that the slowest worker of the simulation takes to join."""


@dataclass
class Simulation:
    """A cluster in which tasks and workers come as a random number says; the policy decides at each second."""

    chance: random.Random
    limits: WorkerRange
    threads: int
    asked: int
    waiting: int = 0
    now: float = 0.0
    on_their_way: list[float] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    idle_since: dict[str, float] = field(default_factory=dict)
    named: int = 0

    def second(self) -> None:
        """Workers join, tasks end and begin; then a decision, checked and applied."""
        self.now += 1
        joined = [at for at in self.on_their_way if at <= self.now]
        self.on_their_way = [at for at in self.on_their_way if at > self.now]
        for _ in joined:
            self.named += 1
            self.running[f"w{self.named}"] = 0
        for name, tasks in self.running.items():
            ended = sum(self.chance.random() < 0.3 for _ in range(tasks))
            begun = min(self.waiting, self.threads - tasks + ended)
            self.waiting -= begun
            self.running[name] = tasks - ended + begun
        self.idle_since = {
            name: self.idle_since.get(name, self.now) for name, tasks in self.running.items() if tasks == 0
        }
        self._decide()

    @property
    def tasks(self) -> int:
        return self.waiting + sum(self.running.values())

    @property
    def useful(self) -> int:
        """Workers that the tasks can use, within the limits."""
        return max(self.limits.minimum, min(self.limits.maximum, ceil(self.tasks / self.threads)))

    def _decide(self) -> None:
        workers = tuple(Worker(name, self.now - self.idle_since.get(name, self.now)) for name in self.running)
        decision = decide(Demand(self.tasks, workers), self.asked, self.limits, self.threads)
        assert not (decision.total is not None and decision.release)
        if self.useful > self.asked:
            assert decision.total == self.useful, "did not grow at once to what the tasks can use"
        if decision.total is not None:
            assert self.asked < decision.total <= self.limits.maximum
            self.on_their_way += [self.now + self.chance.randint(1, LATEST) for _ in range(decision.total - self.asked)]
            self.asked = decision.total
        if decision.release:
            assert not self.on_their_way, "released a worker while others were on their way"
        for name in decision.release:
            assert self.running.pop(name) == 0, "released a busy worker"
            assert self.now - self.idle_since.pop(name) >= IDLE_SECONDS
            self.asked -= 1
        assert len(set(decision.release)) == len(decision.release)
        assert self.limits.minimum <= self.asked <= self.limits.maximum
        assert self.asked == len(self.running) + len(self.on_their_way)


def _simulation(seed: int) -> Simulation:
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    minimum = chance.randint(0, 5)
    limits = WorkerRange(minimum, chance.randint(max(1, minimum), 12))
    first = max(minimum, 1)
    return Simulation(chance, limits, chance.randint(1, 4), first, on_their_way=[chance.randint(1, LATEST)] * first)


@pytest.mark.parametrize("seeds", [range(start, start + 250) for start in range(0, 2000, 250)], ids=str)
def test_no_load_gets_the_cluster_out_of_line(seeds: range) -> None:
    for seed in seeds:
        simulation = _simulation(seed)
        for _ in range(40):
            if simulation.chance.random() < 0.1:
                simulation.waiting += simulation.chance.randint(1, 40)
            simulation.second()
        simulation.waiting = 0
        simulation.running = dict.fromkeys(simulation.running, 0)
        for _ in range(LATEST + int(IDLE_SECONDS) + 2):  # the slowest worker joins, then nobody has anything to do
            simulation.second()
        assert simulation.asked == simulation.limits.minimum, f"seed {seed}: idle and not at its minimum"


def test_the_simulation_is_not_idle_itself() -> None:
    """It would prove nothing if no worker were ever busy, late, added or released in it."""
    seen = set()
    for seed in range(50):
        simulation = _simulation(seed)
        for _ in range(200):
            if simulation.chance.random() < 0.02:
                simulation.waiting += simulation.chance.randint(1, 40)
            before = simulation.asked
            simulation.second()
            seen.add((simulation.asked > before) - (simulation.asked < before))
            seen.add("busy" if any(simulation.running.values()) else "idle")
            seen.add("late" if simulation.on_their_way else "complete")
    assert seen == {1, 0, -1, "busy", "idle", "late", "complete"}
