"""A search in which something is killed: which fits were begun, which are done, and when.

A script of a user's, whose fits sleep, print a line each, and tell Dask's event log when they begin. A line is printed
when the client has the fit's outcome: each once, or a fit was lost or had twice. It searches on until the test has
done its deed, and once more: however long the deed takes, fits run when it is done, and fits begin after it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client

from support.runs import DEADLINE, Runs

WORKERS = 3
FITS = 18
"""Fits of one search of the script."""

ENOUGH = 6
"""Fits that are done when something is killed: the search is in full swing."""

AGAIN = 8
"""Fits that a worker takes with it at most: the one it runs, and those whose results nobody has fetched yet."""

SCRIPT = f"""
    import itertools, json, time
    from pathlib import Path
    import numpy
    from dask.distributed import Client, get_worker
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import GridSearchCV

    class Sleeper(ClassifierMixin, BaseEstimator):
        def __init__(self, number=0, seconds=1.0):
            self.number = number
            self.seconds = seconds

        def fit(self, X, y):
            worker = get_worker()
            worker.log_event("begun", (self.number, int(X[0, 0]), worker.name))
            time.sleep(self.seconds)
            print("fit", self.number, int(X[0, 0]), worker.name)
            self.classes_ = numpy.unique(y)
            return self

        def predict(self, X):
            return numpy.zeros(len(X), int)

        def score(self, X, y):
            return float(self.number)

    X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
    print("searching", flush=True)
    scores = []
    for first in itertools.count(0, {FITS // 2}):
        last = Path("done").exists()
        numbers = list(range(first, first + {FITS // 2}))
        search = GridSearchCV(Sleeper(), {{"number": numbers}}, cv=2, refit=False).fit(X, y)
        scores += search.cv_results_["mean_test_score"].tolist()
        if last:
            break
    begun = [event for _, event in Client.current().get_events("begun")]
    print("result", json.dumps([scores, begun]))
"""


class Search:
    """The search as it goes on: the fits whose lines have come, and when."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.fits: list[tuple[float, str, str]] = []
        self.result: Any = None

    def read(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read lines until that is so, or the script has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split(maxsplit=1)
            if words[0] == "fit":
                number, fold, worker = words[1].split()
                self.fits.append((time.monotonic(), f"{number}/{fold}", worker))
            elif words[0] == "result":
                self.result = json.loads(words[1])
            if until():
                return

    def read_enough(self) -> None:
        """Read until `ENOUGH` fits are done."""
        self.read(lambda: len(self.fits) >= ENOUGH)

    def to_the_end(self) -> str:
        """Tell the script that the deed is done, and read all; what was on stderr."""
        (self.folder / "done").touch()
        self.read()
        _, told = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, told
        return told

    def check(self) -> int:
        """No fit is lost and none had twice; how many were begun again."""
        scores, begun = self.result
        assert scores == [float(number) for number in range(len(scores))]
        assert Counter(fit for _, fit, _ in self.fits) == Counter({fit: 1 for _, fit, _ in self.fits})
        assert len(self.fits) == 2 * len(scores) >= 2 * FITS
        return sum(times - 1 for times in Counter((number, fold) for number, fold, _ in begun).values() if times > 1)

    def carried_on(self, at: float) -> float:
        """Seconds from `at` until a fit was done that began later (a fit takes 1 s)."""
        return min(done for done, _, _ in self.fits if done > at + 1) - at


@contextmanager
def searching(runs: Runs, *options: str) -> Iterator[Search]:
    """One that has begun."""
    with runs.searching("--workers", str(WORKERS), *options, script=SCRIPT) as process:
        yield Search(process, runs.folder)


def pods_of(kind_api: client.ApiClient, namespace: str, component: str) -> list[Any]:
    """The pods of one component, without those that are told to go."""
    pods = client.CoreV1Api(kind_api).list_namespaced_pod(namespace, label_selector=f"dask.org/component={component}")
    return [pod for pod in pods.items if pod.metadata.deletion_timestamp is None]
