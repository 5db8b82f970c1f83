"""d: measure what is sent if five Parallel calls of 20 tasks need the same data, on 4 workers.

The data are a 200 MB array, a 50 MB list of dicts that all differ, and a forest fitted five times on 40 MB, which makes
a new float32 array of them in each fit. Bytes are those on the wire, counted in the client, on the scheduler and on
every worker, in multiples of the data's size: of the array's bytes, the pickled list, the array that the forest makes.
loky and Ray send nothing over Dask's connections, so only their seconds are shown. The tasks' sums of the array are
compared with the client's own, bit for bit: numpy rounds differently if an array is at an odd address.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter, process_time
from typing import Any
from unittest import mock

import numpy
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier

from engine import wire
from engine.measure import MB, SKJOB, Case, Numbers, Row, forget_peak, memory, peak_memory, timed
from engine.peers import engine, warm_up
from engine.tasks import column_sum, text_length

CALLS, TASKS, WORKERS = 5, 20, 4
QUICK_CALLS, QUICK_WORKERS, QUICK_MB = 2, 2, 8

Made = tuple[float, Callable[[], float]]
"""The size in bytes, and a Parallel call that returns how many of its results differ from those computed here."""


def array(quick: bool) -> Made:
    """Make an array, and a call that sums its columns."""
    X = numpy.random.default_rng(0).normal(size=((QUICK_MB if quick else 200) * 2500, 50))

    here = [float(X[:20_000, column].sum()) for column in range(TASKS)]

    def call() -> float:
        there = Parallel()(delayed(column_sum)(X, column) for column in range(TASKS))
        assert numpy.allclose(there, here, rtol=1e-9)
        return sum(one != other for one, other in zip(there, here, strict=True))

    return X.nbytes, call


def records(quick: bool) -> Made:
    """Make a list of dicts, and a call that reads them."""
    draw = numpy.random.default_rng(0)
    count = (QUICK_MB if quick else 50) * 1000
    rows = [{"id": number, "text": draw.bytes(480).hex()} for number in range(count)]

    def call() -> float:
        return sum(
            length != 960 for length in Parallel()(delayed(text_length)(rows, number) for number in range(TASKS))
        )

    return len(pickle.dumps(rows, protocol=5)), call


def forest(quick: bool) -> Made:
    """Make the data of a forest, and a call that fits it. Its array is float32, its classes float64."""
    X = numpy.random.default_rng(0).normal(size=((QUICK_MB if quick else 40) * 3125, 40))
    y = (X[:, 0] > 0).astype(int)

    here = _thresholds(RandomForestClassifier(TASKS, max_depth=2, max_features=2, random_state=0, n_jobs=1).fit(X, y))

    def call() -> float:
        there = _thresholds(RandomForestClassifier(TASKS, max_depth=2, max_features=2, random_state=0).fit(X, y))
        return float((there != here).sum())

    return X.nbytes / 2 + y.nbytes, call


def _thresholds(forest: RandomForestClassifier) -> numpy.ndarray:
    """Return the trees' thresholds. Probabilities would differ anyway: threads add them up in the order they end."""
    return numpy.concatenate([tree.tree_.threshold for tree in forest.estimators_])


def ship(make: Callable[[bool], Made], peer: str, quick: bool) -> Numbers:
    """Measure five calls, and what they send."""
    size, call = make(quick)
    calls, workers = (QUICK_CALLS, QUICK_WORKERS) if quick else (CALLS, WORKERS)
    numbers: Numbers = {}
    with engine(peer, workers) as client, _timed_hashing(peer) as hashing:
        warm_up(workers)
        before = _begin(client) if client is not None else 0
        used = process_time()
        with timed(numbers, "seconds"):
            numbers["differ"] = sum(call() for _ in range(calls))
        numbers["cpu"] = (process_time() - used) / calls
        if hashing["seconds"]:
            numbers["hashing"] = hashing["seconds"] / calls
        if client is not None:
            numbers.update(_travelled(client, size))
            numbers["scheduler MB"] = (client.run_on_scheduler(peak_memory) - before) / MB
    return numbers


@contextmanager
def _timed_hashing(peer: str) -> Iterator[Counter[str]]:
    """Count the seconds that skjob takes in the block to hash arrays. Lists have their pickle, which is made anyway."""
    spent: Counter[str] = Counter()
    if peer != SKJOB:
        yield spent
        return
    from skjob.engine.transfer import shared_data

    content_key = shared_data.content_key

    def timed_key(value: Any) -> str:
        began = perf_counter()
        key = content_key(value)
        spent["seconds"] += perf_counter() - began
        return key

    with mock.patch.object(shared_data, "content_key", timed_key):
        yield spent


def _begin(client: Any) -> int:
    """Start to count. Return the scheduler's memory now."""
    wire.install()
    for run in (client.run, client.run_on_scheduler):
        run(wire.install)
        run(wire.reset)
    wire.reset()
    client.run_on_scheduler(forget_peak)
    return int(client.run_on_scheduler(memory))


def _travelled(client: Any, size: float) -> Numbers:
    by_client, by_scheduler = wire.counted(), client.run_on_scheduler(wire.counted)
    by_worker = list(client.run(wire.counted).values())
    everything = [by_client, by_scheduler, *by_worker]
    return {
        "client": by_client["sent"] / size,
        "worker": max(each["received"] for each in by_worker) / size,
        "all MB": sum(each["sent"] for each in everything) / MB,
    }


ON_WIRE, ALL = ("skjob", "dask"), ("skjob", "dask", "loky", "ray")
MADE = {
    "array": (array, "200 MB array", ALL),
    "records": (records, "50 MB list of dicts", ALL),
    "forest": (forest, "forest on 40 MB", ALL),
}

CASES = tuple(Case(f"d-{name}", partial(ship, make), peers) for name, (make, _, peers) in MADE.items())

ROWS = tuple(
    row
    for name, (_, what, _) in MADE.items()
    for row in (
        Row("d", f"{what}, 5 × 20 tasks: client sends, × size", f"d-{name}", "client", "{:.2f}", 1.05, "≤ 1.05"),
        Row("d", f"{what}: a worker receives at most, × size", f"d-{name}", "worker", "{:.2f}", 1.05, "≤ 1.05"),
        Row("d", f"{what}: results that are not bit for bit the local ones", f"d-{name}", "differ", "{:.0f}", 0, "0"),
        Row("d", f"{what}: all on the wire, MB", f"d-{name}", "all MB", "{:.0f}"),
        Row("d", f"{what}: scheduler's memory grows by, MB", f"d-{name}", "scheduler MB", "{:.0f}"),
        Row("d", f"{what}: client's CPU seconds a call", f"d-{name}", "cpu", "{:.2f}"),
        Row("d", f"{what}: of these to hash it", f"d-{name}", "hashing", "{:.2f}"),
        Row("d", f"{what}: seconds", f"d-{name}", "seconds", "{:.1f}"),
    )
)
