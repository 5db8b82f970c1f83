"""a, c and f: measure what the engine itself costs, by tasks that do nothing or sleep, on workers that are all ready.

a. 400 tasks of 0.5 s on 8 workers, as calls and as the fits of a search: efficiency is the ideal time over the time.
c. 10,000 tasks that do nothing: milliseconds for each task.
f. 1,000, 10,000 and 100,000 such tasks: how time and memory grow with their number.
Workers are warm, and if a peer starts new workers for each Parallel object (Ray), calls reuse one object.
"""

from __future__ import annotations

import sys
from time import sleep

import numpy
from joblib import Parallel, delayed

from engine.measure import MB, Case, Numbers, Row, forget_peak, peak_memory, timed
from engine.peers import engine, warm_up
from engine.tasks import Sleeper, nothing

CALLS = ("skjob", "dask", "loky", "ray")
SEARCHES = (*CALLS[:3], "dask-ml", "ray")


def calls(peer: str, quick: bool) -> Numbers:
    """Measure a as calls."""
    tasks, seconds, workers = (20, 0.1, 2) if quick else (400, 0.5, 8)
    numbers: Numbers = {}
    with engine(peer, workers), Parallel() as parallel:
        warm_up(workers, parallel)
        with timed(numbers, "seconds"):
            parallel(delayed(sleep)(seconds) for _ in range(tasks))
    return {**numbers, "efficiency": tasks * seconds / workers / numbers["seconds"]}


def search(peer: str, quick: bool) -> Numbers:
    """Measure a as a search: 80 candidates, 5 folds, no refit."""
    candidates, seconds, workers = (4, 0.1, 2) if quick else (80, 0.5, 8)
    if peer == "dask-ml":
        from dask_ml.model_selection import GridSearchCV
    else:
        from sklearn.model_selection import GridSearchCV
    X, y = numpy.random.default_rng(0).normal(size=(500, 10)), numpy.arange(500) % 2
    numbers: Numbers = {}
    with engine(peer, workers):
        for count in (workers, candidates):  # the first is the warm-up, five fits for each worker
            grid = {"number": list(range(count))}
            fits = GridSearchCV(Sleeper(seconds), grid, cv=5, refit=False)
            with timed(numbers, "seconds"):
                fits.fit(X, y)
        assert list(numpy.argsort(fits.cv_results_["mean_test_score"])) == list(range(candidates))
    return {**numbers, "efficiency": 5 * candidates * seconds / workers / numbers["seconds"]}


def overhead(peer: str, quick: bool) -> Numbers:
    """Measure c."""
    tasks = 200 if quick else 10_000
    numbers: Numbers = {}
    with engine(peer, 2), Parallel() as parallel:
        warm_up(2, parallel)
        with timed(numbers, "seconds"):
            assert parallel(delayed(nothing)(number) for number in range(tasks)) == list(range(tasks))
    return {**numbers, "ms": 1000 * numbers["seconds"] / tasks}


def growth(peer: str, quick: bool) -> Numbers:
    """Measure f: each time ten times as many tasks; the memory of the list of results is not counted."""
    sizes = (100, 300, 1_000) if quick else (1_000, 10_000, 100_000)
    numbers: Numbers = {}
    client_peaks, scheduler_peaks, costs = [], [], []
    with engine(peer, 2) as client, Parallel() as parallel:
        warm_up(2, parallel)
        for tasks in sizes:
            forget_peak()
            if client is not None:
                client.run_on_scheduler(forget_peak)
            with timed(numbers, "seconds"):
                results = parallel(delayed(nothing)(number) for number in range(tasks))
            client_peaks.append(peak_memory() - sys.getsizeof(results) - sum(map(sys.getsizeof, results)))
            if client is not None:
                scheduler_peaks.append(client.run_on_scheduler(peak_memory))
            costs.append(1000 * numbers["seconds"] / tasks)
            assert results == list(range(tasks))
            del results
    numbers.update({"ms few": costs[1], "ms many": costs[2], "linear": costs[2] / costs[1]})
    numbers.update({"client peak": client_peaks[-1] / MB, "client grows": (client_peaks[-1] - client_peaks[0]) / MB})
    if scheduler_peaks:
        numbers["scheduler grows"] = (scheduler_peaks[-1] - scheduler_peaks[0]) / MB
    return numbers


CASES = (
    Case("a-calls", calls, CALLS),
    Case("a-search", search, SEARCHES),
    Case("c", overhead, CALLS),
    Case("f", growth, CALLS, rounds=1, timeout=1800.0),
)

GROWS = 50.0
"""MB by which memory may differ between 1,000 and 100,000 tasks, for the allocator and the garbage collector."""

FEW, MANY, MORE = "10,000 empty calls", "100,000 empty calls", "100,000 empty calls against"

ROWS = (
    Row("a", "400 calls of 0.5 s, 8 workers: efficiency", "a-calls", "efficiency", "{:.3f}", 0.97, "≥ 0.97", True),
    Row("a", "400 fits of 0.5 s, one search: efficiency", "a-search", "efficiency", "{:.3f}", 0.97, "≥ 0.97", True),
    Row("c", f"{FEW}: ms a call", "c", "ms", "{:.3f}", 0.5, "≤ 0.5"),
    Row("f", f"{FEW}: ms a call", "f", "ms few", "{:.3f}"),
    Row("f", f"{MANY}: ms a call", "f", "ms many", "{:.3f}"),
    Row("f", f"{MORE} 10,000: time a call", "f", "linear", "{:.2f}", 1.2, "≤ 1.2"),
    Row("f", f"{MANY}: client's peak memory, MB", "f", "client peak", "{:.0f}", 2**30 / MB, "< 1 GiB"),
    Row("f", f"{MORE} 1,000: client's peak, MB more", "f", "client grows", "{:.0f}", GROWS, f"≤ {GROWS:.0f}"),
    Row("f", f"{MORE} 1,000: scheduler's peak, MB more", "f", "scheduler grows", "{:.0f}", GROWS, f"≤ {GROWS:.0f}"),
)
