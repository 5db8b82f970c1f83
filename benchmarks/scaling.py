"""Compare scaling on a simulated cluster of 100 and 1,000 workers: skjob's policy, Adaptive, the Dask operator.

    python benchmarks/scaling.py

Prints a table: seconds until a load is done, and worker-seconds from requesting a worker until it is gone, each divided
by those of the best known schedule (`simulation.best`, which knows every task's length and every call beforehand).
Random numbers are seeded; it takes half a minute on one core.

Adaptive is distributed's own class, called once a second as by default, on a simulated cluster object; its requests to
the scheduler are answered by the scheduler's own `adaptive_target` and `workers_to_close`, which are given the
simulated workers and tasks. The operator's autoscaler follows its source (dask-kubernetes 2026.3.0,
`daskautoscaler_adapt`, `daskworkergroup_replica_update` and `retire_workers` in `controller.py`): it requests
`adaptive_target` every 5 s, rests for 15 s after a change, scales down by a quarter at most, and retires connected
workers for a number that includes those still on their way. All three see the same window of the work, skjob's; with
joblib's own Dask backend the other two would see less, and start fewer workers.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from distributed import Scheduler
from distributed.deploy.adaptive import Adaptive
from distributed.scheduler import SchedulerState, TaskPrefix
from simulation import Best, Call, Load, Policy, SimulatedCluster, SimulatedWorker, best

from skjob.config.settings import WorkerRange

JITTER = 0.3
"""A worker takes up to this share more or less than its usual time to come."""


class _SchedulerView:
    """A simulated cluster as distributed's scheduler would know it, for those of its methods that are called here."""

    plugins: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._states: dict[str, Any] = {}
        self._prefix = TaskPrefix("fit")
        self._task = SimpleNamespace(prefix=self._prefix)
        cluster.done = lambda seconds: self._prefix.add_duration("compute", 0.0, seconds)

    @property
    def workers(self) -> dict[str, Any]:
        there = self._cluster.workers
        self._states = {name: self._states.get(name) or _state(worker) for name, worker in there.items()}
        return self._states

    @property
    def queued(self) -> list[Any]:
        return [self._task] * len(self._cluster.waiting)

    unrunnable: dict[str, Any] = {}  # noqa: RUF012

    @property
    def total_occupancy(self) -> float:
        return self._get_prefix_duration(self._prefix) * self._cluster.running

    def _get_prefix_duration(self, prefix: TaskPrefix) -> float:
        return float(SchedulerState._get_prefix_duration(self, prefix))

    UNKNOWN_TASK_DURATION = 0.5

    def adaptive_target(self, target_duration: Any = None) -> int:
        """Report how long tasks have been running, as a worker's heartbeat would, then ask the scheduler's method."""
        for worker in self._cluster.workers.values():
            for begun in worker.runs.values():
                self._prefix.add_exec_time(self._cluster.now - begun)
        return int(Scheduler.adaptive_target(self, target_duration))

    def workers_to_close(self, **how: Any) -> list[str]:
        return list(Scheduler.workers_to_close(self, **how))


def _state(worker: SimulatedWorker) -> Any:
    return SimpleNamespace(
        name=worker.name,
        address=worker.name,
        processing=worker.runs,
        long_running=set(),
        nthreads=1,
        memory_limit=1,
        nbytes=0,
    )


class DistributedAdaptive:
    """distributed's Adaptive, as `cluster.adapt(minimum=…, maximum=…)` would make it."""

    interval = 1.0

    def __init__(self) -> None:
        self._adaptive: Any = None

    def tick(self, cluster: SimulatedCluster) -> None:
        if self._adaptive is None:
            self._adaptive = Adaptive(
                _AdaptedCluster(cluster),
                interval="0 s",  # it is ticked here
                minimum=cluster.limits.minimum,
                maximum=cluster.limits.maximum,
            )
        _finish(self._adaptive.adapt())


class _AdaptedCluster:
    """The part of a cluster, and of its connection to the scheduler, that Adaptive uses.

    Workers have numbers here: Adaptive takes from sets, and sets of strings have another order in each process.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._view = _SchedulerView(cluster)
        self.scheduler_comm = self

    @property
    def plan(self) -> set[int]:
        return self.observed | {_number(worker.name) for worker in self._cluster.coming}

    requested = plan

    @property
    def observed(self) -> set[int]:
        return {_number(name) for name in self._cluster.workers}

    async def adaptive_target(self, target_duration: Any) -> int:
        return self._view.adaptive_target(target_duration)

    async def workers_to_close(self, **how: Any) -> list[int]:
        return [_number(name) for name in self._view.workers_to_close(**how)]

    async def retire_workers(self, names: list[int], **_: Any) -> None:
        self._cluster.remove([name for name in self._cluster.workers if _number(name) in names])

    def scale(self, n: int) -> None:
        self._cluster.add(n)

    def scale_down(self, workers: list[int]) -> None:
        self._cluster.cancel_pending([worker for worker in self._cluster.coming if _number(worker.name) in workers])


def _number(name: str) -> int:
    return int(name.removeprefix("w"))


def _finish(coroutine: Any) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("the coroutine waits")


class Operator:
    """The Dask operator's autoscaler."""

    interval = 5.0
    cooldown = 15.0

    def __init__(self) -> None:
        self._rests_until = 0.0
        self._view: _SchedulerView | None = None

    def tick(self, cluster: SimulatedCluster) -> None:
        self._view = self._view or _SchedulerView(cluster)
        if cluster.now < self._rests_until:
            return
        replicas = cluster.requested
        desired = max(cluster.limits.minimum, self._view.adaptive_target())
        desired = min(cluster.limits.maximum, desired)
        if replicas > 0:
            desired = max(replicas - (int(replicas * 0.25) or 1), desired)
        if desired == replicas:
            return
        if desired > replicas:
            cluster.add(desired)
        else:
            cluster.remove(self._view.workers_to_close(n=replicas - desired, attribute="name"))
        self._rests_until = cluster.now + self.cooldown


SCALERS: dict[str, Callable[[], Any]] = {
    "skjob": Policy,
    "Adaptive": DistributedAdaptive,
    "operator": Operator,
}


def loads(workers: int, chance: random.Random) -> Iterator[tuple[Load, int]]:
    """Yield the loads of typical programs for this many workers, each with the minimum number of workers to keep."""
    yield Load("one big search", (Call(tuple(chance.uniform(8, 12) for _ in range(20 * workers))),)), 1
    tail = tuple(min(600.0, chance.lognormvariate(1.2, 1.5)) for _ in range(10 * workers))
    yield Load("a long tail of lengths", (Call(tail),)), 1
    yield Load("short tasks, 0.2 s", (Call((0.2,) * (100 * workers)),)), 1
    rounds = tuple(
        Call(tuple(chance.uniform(3, 7) * 3**step for _ in range(2 * workers // 3**step)), 1.0 * bool(step))
        for step in range(4)
    )
    yield Load("halving search, 4 rounds", rounds), 1
    bursts = tuple(Call(tuple(chance.uniform(4, 6) for _ in range(2 * workers)), pause) for pause in (0, 5, 30, 300))
    yield Load("bursts, gaps of 5, 30 and 300 s", bursts), 0


@dataclass(frozen=True)
class Row:
    """One load on one size of cluster, under every scaler."""

    load: Load
    workers: int
    start: float
    ideal: Best
    measured: dict[str, tuple[float, float, int]]


def measure(load: Load, minimum: int, workers: int, start: float) -> Row:
    """Run a load under each scaler. Measure seconds, worker-seconds, and restarted tasks."""
    limits = WorkerRange(minimum, workers)
    measured = {}
    for name, make in SCALERS.items():
        chance = random.Random(workers + int(start))  # noqa: S311 - to be repeatable, not secret
        usual = _usual(start, chance)
        cluster = SimulatedCluster(load, make(), limits, 1, usual, chance)
        assert cluster.run(1e6), f"{name} does not finish `{load.name}`"
        measured[name] = (cluster.now, cluster.total_cost(), cluster.begun_anew)
    return Row(load, workers, start, best(load, limits, 1, start), measured)


def _usual(start: float, chance: random.Random) -> Callable[[], float]:
    return lambda: start * chance.uniform(1 - JITTER, 1 + JITTER)


def table(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    heads = [f"{name}: {what}" for name in SCALERS for what in ("time", "worker-s")]
    lines = [["load", "workers", "start", "best: time", "best: worker-s", *heads]]
    lines.append(["---"] + ["---:"] * (len(lines[0]) - 1))
    for row in rows:
        ratios = []
        for seconds, cost, anew in row.measured.values():
            ratios += [
                f"{seconds / row.ideal.seconds:.2f}",
                f"{cost / row.ideal.cost:.2f}" + f" ({anew:,})" * bool(anew),
            ]
        best_known = [f"{row.ideal.seconds:,.0f} s", f"{row.ideal.cost:,.0f}"]
        lines.append([row.load.name, f"{row.workers:,}", f"{row.start:.0f} s", *best_known, *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the table."""
    logging.getLogger("distributed.deploy.adaptive").setLevel(logging.WARNING)
    rows = []
    for workers in (100, 1000):
        chance = random.Random(workers)  # noqa: S311
        for load, minimum in loads(workers, chance):
            rows += [measure(load, minimum, workers, start) for start in (10.0, 60.0)]
    print(table(rows))
    print("\nRatios to the best schedule known, 1.00. In brackets: tasks begun anew, because their worker was removed.")


if __name__ == "__main__":
    main()
