"""Measure what it costs that a task behaves as in plain Python, and compare very short calls with plain Python.

    make bench-fidelity
    python benchmarks/fidelity.py --tasks 2000 --rows 1000
    python benchmarks/fidelity.py --on kubernetes        # the second table in pods, on the cluster of `make kind`

The first table runs tasks in this process as a worker does, with each precaution alone, minus the time without any. A
task is a fit of a search with a scorer of the program's own, whose state is compared twice: that is most of the cost.
The second table runs one-row predictions by plain Python and on a cluster, in turns.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from time import perf_counter
from typing import Any
from unittest import mock

import numpy
import pandas
from joblib._parallel_backends import SequentialBackend
from sklearn.compose import ColumnTransformer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skjob
from skjob.config.settings import Place
from skjob.engine import task
from skjob.engine.fidelity.effects.guard import WatchedTask
from skjob.engine.fidelity.settings.packing import CallSettings
from skjob.engine.transfer.pickling import MarkingPickler, dumps

FIT_SECONDS = 0.010
"""Seconds of a short fit, to express the cost as a share of it."""

WEIGHTS = {"a": 1.0, "b": 2.0}
TABLE = numpy.arange(100.0)


def work(number: int) -> float:
    """Read what a scorer of a program reads: some small values of its module."""
    return number * WEIGHTS["a"] + float(TABLE[number % 100])


@contextmanager
def _unwatched(*, in_order: bool = False) -> Iterator[WatchedTask]:
    yield WatchedTask()


class _NoLog:
    result = ()


def _no_log(*_: Any) -> Any:
    return nullcontext(_NoLog())


NOTHING: dict[str, Callable[..., Any]] = {
    "guarded": _unwatched,
    "captured_log": _no_log,
    "applied": lambda *_: nullcontext(),
    "state_of": lambda *_: {},
    "differing_variables": lambda *_: (),
}
"""What replaces each precaution of `skjob.engine.task` to leave it out."""


def seconds_a_task(precautions: set[str], tasks: int) -> float:
    """Return the seconds that a task takes with these precautions, the median of five rounds."""
    work.__module__ = "__main__"  # by value, as the code of a program
    settings = CallSettings(None).packed([(work, (), {})])
    payload = dumps(([(work, (3,), {})], SequentialBackend(nesting_level=1), {}), MarkingPickler)
    with ExitStack() as stack:
        for name, nothing in NOTHING.items():
            if name not in precautions:
                stack.enter_context(mock.patch.object(task, name, nothing))
        rounds = []
        for _ in range(5):
            began = perf_counter()
            for _ in range(tasks):
                [outcome] = task.run_batch("task", payload, [], live_arguments=[()], settings=settings)
                assert outcome.ok, outcome
            rounds.append((perf_counter() - began) / tasks)
    return statistics.median(rounds)


def predictions(rows: int) -> dict[str, Callable[[], None]]:
    """Return functions that predict one row after the other."""
    frame = pandas.DataFrame({"size": range(300), "kind": ["a", "b", "c"] * 100})
    columns = ColumnTransformer([("num", StandardScaler(), ["size"]), ("cat", OneHotEncoder(), ["kind"])]).fit(frame)
    near = KNeighborsClassifier(algorithm="kd_tree").fit(frame[["size"]].to_numpy(), [n % 2 for n in range(300)])

    def transform() -> None:
        for row in range(rows):
            columns.transform(frame.iloc[[row % 300]])

    def predict() -> None:
        for row in range(rows):
            near.predict([[row % 300]])

    return {"ColumnTransformer.transform": transform, "KNeighborsClassifier.predict": predict}


def timed(action: Callable[[], None]) -> float:
    """Return the seconds that the action takes."""
    began = perf_counter()
    action()
    return perf_counter() - began


def main() -> None:
    """Measure both, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of a round (default: 2000)")
    parser.add_argument("--rows", type=int, default=1000, help="rows to predict, each by itself (default: 1000)")
    where = [place.value for place in Place if place is not Place.AUTO]
    parser.add_argument("--on", choices=where, default=Place.LOCAL.value, help="where the second table's cluster is")
    arguments = parser.parse_args()

    without = seconds_a_task(set(), arguments.tasks)
    print("| precaution | µs a task | % of a fit of 10 ms |\n| --- | --- | --- |")
    for precautions in [*({name} for name in NOTHING), set(NOTHING)]:
        seconds = seconds_a_task(precautions, arguments.tasks) - without
        name = "all" if len(precautions) > 1 else next(iter(precautions))
        print(f"| {name} | {1e6 * seconds:.0f} | {100 * seconds / FIT_SECONDS:.1f} |")

    print(f"\n| {arguments.rows} rows, one by one | plain Python, s | skjob, s | ratio |\n| --- | --- | --- | --- |")
    with skjob.cluster(workers=2, on=arguments.on):
        for name, action in predictions(arguments.rows).items():
            plain, ours = [], []
            action()  # the first call from a line of code is measured on workers
            for _ in range(3):
                with _plain_joblib():
                    plain.append(timed(action))
                ours.append(timed(action))
            one, other = statistics.median(plain), statistics.median(ours)
            print(f"| {name} | {one:.2f} | {other:.2f} | {other / one:.2f} |")


@contextmanager
def _plain_joblib() -> Iterator[None]:
    import joblib

    with joblib.parallel_config(backend="loky"):
        yield


if __name__ == "__main__":
    main()
