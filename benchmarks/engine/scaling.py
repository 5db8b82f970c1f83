"""b: measure a cluster that grows with the work: 48 and 80 tasks of 2 s, from 0 and 1 to 8 workers, pods start in 10 s.

skjob is scaled by its own loop, stock joblib and Dask by `cluster.adapt(minimum, maximum)` on the same cluster, whose
workers join 10 s after they were requested. The best possible schedule requests all 7 or 8 at once, at the beginning,
and starts each task on the first free worker. The other peers have no workers that come and go.
"""

from __future__ import annotations

import heapq
from functools import partial
from time import sleep

from joblib import Parallel, delayed

from engine.measure import Case, Numbers, Row, timed
from engine.peers import engine

MAXIMUM, DELAY, SECONDS = 8, 10.0, 2.0
RUNS = tuple((tasks, workers) for tasks in (48, 80) for workers in (0, 1))


def best_possible(tasks: int, workers: int, maximum: int, delay: float, seconds: float) -> float:
    """Return the seconds of the best schedule: `workers` free at once, the rest after `delay`."""
    free = [0.0] * workers + [delay] * (maximum - workers)
    heapq.heapify(free)
    ends = 0.0
    for _ in range(tasks):
        ends = heapq.heappop(free) + seconds
        heapq.heappush(free, ends)
    return max(free)


def grow(tasks: int, workers: int, peer: str, quick: bool) -> Numbers:
    """Measure one run: its seconds, and their ratio to the best possible."""
    maximum, delay, seconds = (2, 1.0, 0.2) if quick else (MAXIMUM, DELAY, SECONDS)
    tasks = 8 if quick else tasks
    numbers: Numbers = {}
    with engine(peer, workers, maximum, delay=delay, scaled=True), timed(numbers, "seconds"):
        Parallel()(delayed(sleep)(seconds) for _ in range(tasks))
    return {**numbers, "ratio": numbers["seconds"] / best_possible(tasks, workers, maximum, delay, seconds)}


def _name(tasks: int, workers: int) -> str:
    return f"b-{tasks}-from-{workers}"


CASES = tuple(
    Case(_name(tasks, workers), partial(grow, tasks, workers), ("skjob", "dask"), rounds=1) for tasks, workers in RUNS
)

ROWS = tuple(
    row
    for tasks, workers in RUNS
    for task in [f"{tasks} calls of 2 s, {workers} to {MAXIMUM} workers, pods 10 s"]
    for row in (
        Row("b", f"{task}: seconds", _name(tasks, workers), "seconds", "{:.1f}"),
        Row("b", f"{task}: times the best possible", _name(tasks, workers), "ratio", "{:.2f}", 1.1, "≤ 1.1"),
    )
)
