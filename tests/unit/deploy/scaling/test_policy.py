"""Test how many workers to have, and which to release: a table of decisions, and simulated clusters under random
loads."""

import math
import random
from itertools import pairwise
from statistics import fmean

import pytest
from simulation import Call, Load, Policy, SimulatedCluster, best

from skjob.config.settings import WorkerRange
from skjob.deploy.scaling.policy import (
    MAX_IDLE_SECONDS,
    MIN_IDLE_SECONDS,
    MIN_LATE_SECONDS,
    Decision,
    Demand,
    Peak,
    Supply,
    Worker,
    decide,
    expected_remaining,
    idle_seconds_allowed,
)
from skjob.deploy.scaling.task_durations import DurationTracker, mean_length
from skjob.deploy.scaling.worker_startup import StartupEstimate

START = 10.0
"""Seconds that a worker takes to start, in the tables."""


def _workers(*idle_seconds: float) -> tuple[Worker, ...]:
    return tuple(Worker(f"w{number}", seconds) for number, seconds in enumerate(idle_seconds))


def _decide(
    waiting: int,
    length: float | None,
    remaining: tuple[float, ...],
    workers: tuple[float, ...],
    limits: tuple[int, int],
    *,
    threads: int = 1,
    pending: tuple[float, ...] = (),
    peak: int = 0,
    finished: int = 0,
) -> Decision:
    demand = Demand(waiting, length, remaining, finished, peak, _workers(*workers))
    return decide(demand, Supply(len(workers) + len(pending), pending, START), WorkerRange(*limits), threads)


@pytest.mark.parametrize(
    ("waiting", "running", "workers", "limits", "threads", "total"),
    [
        (10, 0, 0, (0, 4), 1, 4),
        (2, 1, 1, (1, 4), 1, 3),
        (2, 1, 1, (1, 4), 2, 2),
        (79, 1, 1, (1, 20), 8, 10),
        (80, 1, 1, (1, 20), 8, 11),
        (0, 0, 0, (2, 4), 1, 2),
        (0, 2, 2, (1, 4), 1, None),
        (100, 4, 4, (1, 4), 1, None),
        (0, 0, 0, (0, 4), 1, None),
    ],
)
def test_up_to_what_tasks_of_unknown_length_can_use(
    waiting: int, running: int, workers: int, limits: tuple[int, int], threads: int, total: int | None
) -> None:
    rest = (math.inf,) * running
    assert _decide(waiting, None, rest, (0,) * workers, limits, threads=threads) == Decision(total=total)


@pytest.mark.parametrize(
    ("waiting", "length", "remaining", "pending", "total"),
    [
        # There is one worker. Another takes 10 s to start; it is worth it if it finds 1 s of work that would not be
        # begun.
        (5, 100.0, (100.0,), (), 6),
        (1, 100.0, (100.0,), (), 2),
        (1, 100.0, (11.0,), (), None),
        (1, 100.0, (12.0,), (), 2),
        (5, 0.5, (0.5,), (), None),
        (23, 0.5, (0.5,), (), None),
        (24, 0.5, (0.5,), (), 2),
        (26, 0.5, (0.5,), (), 3),
        (1000, 0.5, (0.5,), (), 50),
        # The same with one that will join in 2 s: it does 19 of the tasks.
        (42, 0.5, (0.5,), (8.0,), None),
        (43, 0.5, (0.5,), (8.0,), 3),
        # A late one is not counted on.
        (24, 0.5, (0.5,), (MIN_LATE_SECONDS + 1,), 3),
    ],
)
def test_up_only_where_a_new_worker_will_find_work(
    waiting: int, length: float, remaining: tuple[float, ...], pending: tuple[float, ...], total: int | None
) -> None:
    assert _decide(waiting, length, remaining, (0.0,), (1, 50), pending=pending) == Decision(total=total)


def test_the_least_work_brings_one_worker_where_there_is_none() -> None:
    assert _decide(1, 0.01, (), (), (0, 50)) == Decision(total=1)
    assert _decide(1, 0.01, (), (), (0, 50), pending=(3.0,)) == Decision()


def test_a_window_that_stays_full_means_more_to_come() -> None:
    """40 tasks of 0.1 s are done before a worker starts; if 100 were done already, many more may follow."""
    assert _decide(39, 0.1, (0.1,), (0.0,), (1, 10)) == Decision()
    assert _decide(39, 0.1, (0.1,), (0.0,), (1, 10), finished=100) == Decision(total=10)
    assert _decide(20, 0.1, (0.1,), (0.0,), (1, 10), finished=100) == Decision()


@pytest.mark.parametrize(
    ("waiting", "busy", "idle", "limits", "threads", "peak", "release"),
    [
        # those not needed lately, the longest idle first
        (0, 0, (30, 20, 40), (0, 4), 1, 0, ("w2", "w0", "w1")),
        (0, 0, (30, 20, 40), (0, 4), 1, 1, ("w2", "w0")),
        (0, 0, (30, 20, 40), (1, 4), 1, 0, ("w2", "w0")),
        (0, 0, (30, 20, 40), (3, 4), 1, 0, ()),
        (0, 0, (30, 20, 40), (0, 4), 1, 3, ()),
        # never a busy one
        (0, 1, (40, 50), (0, 4), 1, 1, ("w2", "w1")),
        (0, 2, (50,), (1, 4), 2, 1, ("w2",)),
        (0, 3, (), (0, 4), 1, 0, ()),
        # nor one that has just become idle, as it may have its next task already
        (0, 0, (0, 30), (0, 4), 1, 0, ("w1",)),
        # more than there may be now, although they were needed lately
        (0, 0, (30, 20, 40), (1, 1), 1, 3, ("w2", "w0")),
        # waiting tasks will soon be theirs
        (2, 1, (50, 50), (1, 4), 1, 0, ()),
    ],
)
def test_down(
    waiting: int,
    busy: int,
    idle: tuple[float, ...],
    limits: tuple[int, int],
    threads: int,
    peak: int,
    release: tuple[str, ...],
) -> None:
    workers = (0.0,) * busy + idle
    assert _decide(waiting, 1.0, (1.0,) * busy, workers, limits, threads=threads, peak=peak) == Decision(
        release=release
    )


def test_nobody_goes_while_others_are_on_their_way() -> None:
    assert _decide(0, 1.0, (), (99, 99), (0, 4), pending=(1.0,)) == Decision()


def test_who_does_not_come_and_is_not_needed_is_taken_back() -> None:
    late = MIN_LATE_SECONDS + 1
    assert _decide(0, 1.0, (), (99, 99), (0, 4), pending=(late, late, 5.0)) == Decision(cancel=2)
    assert _decide(0, 1.0, (), (99, 99), (4, 5), pending=(late, late, 5.0)) == Decision(cancel=1)
    assert _decide(6, 99.0, (99.0,) * 2, (0, 0), (0, 5), pending=(late, late, 5.0)) == Decision()


def test_an_idle_worker_is_kept_as_long_as_one_takes_to_come() -> None:
    assert [idle_seconds_allowed(seconds, 0, ()) for seconds in (0.5, 10, 1000)] == [
        MIN_IDLE_SECONDS,
        10,
        MAX_IDLE_SECONDS,
    ]


@pytest.mark.parametrize(
    ("waiting", "remaining", "kept"),
    [
        (0, (3.0, 11.0), MIN_IDLE_SECONDS),
        (0, (3.0, 10.0), 10),
        (1, (3.0, 11.0), 10),
        (0, (3.0, math.inf), 10),
    ],
)
def test_nobody_is_kept_for_work_that_is_far_off(waiting: int, remaining: tuple[float, ...], kept: float) -> None:
    """More work comes when the last task is done, and that is more than 10 s away."""
    assert idle_seconds_allowed(10, waiting, remaining) == kept


def test_what_a_task_still_takes() -> None:
    assert (expected_remaining(10, 4), expected_remaining(10, 14), expected_remaining(None, 4)) == (6, 14, math.inf)


def test_the_peak_is_the_highest_of_the_latest() -> None:
    peak = Peak(0, 1)
    seen = [peak.see(now, value, 5) for now, value in enumerate([1, 4, 2, 3, 0, 0, 0, 0, 0, 0])]
    assert seen == [1, 4, 4, 4, 4, 4, 3, 3, 0, 0]


def test_how_long_workers_take() -> None:
    arrivals = StartupEstimate(10.0)
    assert arrivals.see(0, 1, ["a"]) == ()
    assert arrivals.see(0, 3, ["a"]) == (0, 0)
    assert arrivals.see(4, 3, ["a", "b"]) == (4,)
    assert arrivals.seconds == 4
    assert arrivals.see(8, 3, ["a", "b", "c"]) == ()
    assert arrivals.seconds == 6
    assert arrivals.see(20, 3, ["a", "c"]) == (0,), "one is lost"
    assert arrivals.see(50, 3, ["a", "b", "c"]) == (), "and comes back"
    assert arrivals.seconds == 6, "that was no start"


def test_how_long_tasks_take() -> None:
    lengths = DurationTracker()
    assert lengths.see({}, {"fit": [9.0]}) == {}
    assert lengths.see({"fit": (4, 8.0), "score": (2, 1.0)}, {"fit": [1.0]}) == {"fit": 2.0, "score": 0.5}
    assert lengths.see({"fit": (4, 8.0)}, {"fit": [1.0, 7.0]})["fit"] == 3.0, "one that takes longer counts"
    assert lengths.see({"fit": (104, 408.0)}, {})["fit"] == 4.0, "the latest count, not all"
    assert lengths.see({"fit": (109, 448.0)}, {})["fit"] == (5 * 8 + 5 * 4) / 10
    assert lengths.see({"fit": (1, 3.0)}, {})["fit"] == 6.0, "a scheduler that begins anew has nothing new to say"
    assert lengths.see({"fit": (11, 13.0)}, {})["fit"] == 1.0


@pytest.mark.parametrize(
    ("waiting", "mean"),
    [({}, None), ({"new": 3}, None), ({"fit": 3, "new": 4}, None), ({"fit": 3, "score": 1, "new": 4}, 1.75)],
)
def test_the_length_of_what_waits(waiting: dict[str, int], mean: float | None) -> None:
    assert mean_length(waiting, {"fit": 2.0, "score": 1.0, "other": 9.0}) == mean


# ----------------------------------------------------------------------------------------------- a simulated cluster


class Watched:
    """Checks each decision against the cluster that it is made for."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.changes: list[tuple[float, int]] = []

    def __call__(self, cluster: SimulatedCluster, decision: Decision) -> None:
        asked, (minimum, maximum) = cluster.requested, (cluster.limits.minimum, cluster.limits.maximum)
        assert sum([decision.total is not None, bool(decision.release), bool(decision.cancel)]) <= 1
        if decision.total is not None:
            assert asked < decision.total <= maximum
            self._changed(cluster, "up")
        if decision.release:
            assert len(set(decision.release)) == len(decision.release) <= asked - minimum
            assert not cluster.coming, "released a worker while others were on their way"
            assert not any(cluster.workers[name].runs for name in decision.release), "released a busy worker"
            self._changed(cluster, "down")
        if decision.cancel:
            assert decision.cancel <= min(len(cluster.coming), asked - minimum)
            self._changed(cluster, "back")
        busy = sum(bool(worker.runs) for worker in cluster.workers.values())
        self.seen |= {"busy" if busy else "idle", "awaited" if cluster.coming else "complete"}

    def _changed(self, cluster: SimulatedCluster, how: str) -> None:
        self.seen.add(how)
        self.changes.append((cluster.now, 1 if how == "up" else -1))

    def turns(self) -> list[float]:
        """Return when it scaled down after scaling up, or the reverse."""
        return [at for (_, before), (at, after) in pairwise(self.changes) if before != after]


def _load(chance: random.Random, slots: int) -> Load:
    calls = []
    for number in range(chance.randint(1, 3)):
        usual = math.exp(chance.uniform(math.log(0.2), math.log(20)))
        draw = chance.choice(
            [
                lambda usual: usual,
                lambda usual: usual * chance.uniform(0.5, 1.5),
                lambda usual: min(100.0, usual * chance.lognormvariate(-0.5, 1.0)),
            ]
        )
        tasks = chance.randint(1, 4 * slots)
        pause = chance.choice([0.0, 3.0, 15.0, 100.0]) if number else 0.0
        calls.append(Call(tuple(draw(usual) for _ in range(tasks)), pause))
    return Load("random", tuple(calls))


def _simulation(seed: int, *, faults: bool) -> tuple[SimulatedCluster, Watched, Load, float]:
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    never = chance.choice([0.0, 0.3, 1.0]) if faults else 0.0
    # A cluster without workers, where none ever starts, finishes nothing.
    minimum = chance.choice([1, 1, 3] if never else [0, 0, 1, 3])
    limits = WorkerRange(minimum, max(minimum, 1) + chance.randint(1, 9))
    threads = chance.randint(1, 4)
    load = _load(chance, limits.maximum * threads)
    start = math.exp(chance.uniform(math.log(1), math.log(30)))
    die = chance.choice([0.0, 0.002]) if faults else 0.0

    def start_seconds() -> float:
        return math.inf if chance.random() < never else start * chance.uniform(0.7, 1.3)

    watched = Watched()
    return (
        SimulatedCluster(
            load, Policy(start * chance.uniform(0.5, 2), watched), limits, threads, start_seconds, chance, die
        ),
        watched,
        load,
        start,
    )


PARTS = [range(start, start + 200) for start in range(0, 1200, 200)]


@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_no_load_and_no_fault_gets_the_cluster_out_of_line(seeds: range) -> None:
    """Workers never start or die: everything is finished nevertheless, and no worker is left over."""
    for seed in seeds:
        cluster, _, load, _ = _simulation(seed, faults=True)
        assert cluster.run(1e5), f"seed {seed}: not finished"
        assert cluster.measured[0] == sum(len(call.lengths) for call in load.calls)
        cluster.die = 0.0
        cluster.idle_until(cluster.now + 300, lambda cluster: cluster.requested == cluster.limits.minimum)
        assert cluster.requested == cluster.limits.minimum, f"seed {seed}: idle and not at its minimum"


@pytest.mark.parametrize("seeds", PARTS, ids=str)
def test_neither_time_nor_workers_are_wasted(seeds: range) -> None:
    """Compare with the best known schedule, which knows every task's length and every call beforehand.

    What ignorance costs at most: the longest task may come last, and each call may have to wait for workers twice, once
    for the first ones and once for more when its tasks turn out to be long. Workers wait as long for the next call.
    """
    ratios = []
    for seed in seeds:
        cluster, watched, load, start = _simulation(seed, faults=False)
        assert cluster.run(1e5), f"seed {seed}: not finished"
        ideal = best(load, cluster.limits, cluster.threads, start)
        longest, calls = max(max(call.lengths) for call in load.calls), len(load.calls)
        seconds, cost = cluster.now, cluster.total_cost()
        assert seconds <= 1.15 * ideal.seconds + longest + 2 * calls * (start + 1), f"seed {seed}"
        idle = longest + calls * (max(MIN_IDLE_SECONDS, start) + 2 * start + 2)
        assert cost <= 1.3 * ideal.cost + cluster.limits.maximum * idle, f"seed {seed}"
        assert len(watched.turns()) <= 2 * calls, f"seed {seed}: up and down {watched.changes}"
        ratios.append((seconds / ideal.seconds, cost / ideal.cost))
    assert fmean(seconds for seconds, _ in ratios) < 1.2
    assert fmean(cost for _, cost in ratios) < 1.3


def test_the_simulation_is_not_idle_itself() -> None:
    """The simulation would prove nothing if no worker were ever busy, late, added, released or cancelled."""
    seen: set[str] = set()
    for seed in range(100):
        cluster, watched, _, _ = _simulation(seed, faults=True)
        cluster.run(1e5)
        cluster.idle_until(cluster.now + 300, lambda cluster: cluster.requested == cluster.limits.minimum)
        seen |= watched.seen
    assert seen == {"up", "down", "back", "busy", "idle", "awaited", "complete"}
