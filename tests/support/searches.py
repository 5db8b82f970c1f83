"""A search during which a fault is injected; records which fits were started and done, and when.

It is a user's script whose fits sleep, print a line each, and record their start in Dask's event log. A line is printed
when the client has a fit's outcome: exactly once each, unless a fit was lost or ran twice. The script repeats the
search until the test has injected its fault, and once more, so that fits are running at that time, and more start after
it.
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
"""Number of fits in one search of the script."""

FITS_BEFORE_FAULT = 6
"""Number of fits that are done before the fault is injected."""

MAX_REPEATED = 8
"""Maximum number of fits lost with a worker: the running one, and those whose results were not fetched yet."""

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
            worker.log_event("started", (self.number, int(X[0, 0]), worker.name))
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
    started = [event for _, event in Client.current().get_events("started")]
    print("result", json.dumps([scores, started]))
"""


class Search:
    """The running search: the fits whose lines have arrived, and when."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.fits: list[tuple[float, str, str]] = []
        self.result: Any = None

    def read(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read lines until a condition holds, or the script has ended."""
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

    def wait_for_first_fits(self) -> None:
        """Read until `FITS_BEFORE_FAULT` fits are done."""
        self.read(lambda: len(self.fits) >= FITS_BEFORE_FAULT)

    def finish(self) -> str:
        """Signal the script that the fault has happened, and read to the end; return its stderr."""
        (self.folder / "done").touch()
        self.read()
        _, stderr = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, stderr
        return stderr

    def check(self) -> int:
        """Check that no fit was lost or reported twice; return the number of repeated starts."""
        scores, started = self.result
        assert scores == [float(number) for number in range(len(scores))]
        assert Counter(fit for _, fit, _ in self.fits) == Counter({fit: 1 for _, fit, _ in self.fits})
        assert len(self.fits) == 2 * len(scores) >= 2 * FITS
        return sum(times - 1 for times in Counter((number, fold) for number, fold, _ in started).values() if times > 1)

    def seconds_until_next_fit(self, at: float) -> float:
        """Return the seconds from `at` until a fit was done that started later (a fit takes 1 s)."""
        return min(done for done, _, _ in self.fits if done > at + 1) - at


@contextmanager
def searching(runs: Runs, *options: str) -> Iterator[Search]:
    """Start the search, and wait until it is running."""
    with runs.searching("--workers", str(WORKERS), *options, script=SCRIPT) as process:
        yield Search(process, runs.folder)


def pods_of(kind_api: client.ApiClient, namespace: str, component: str) -> list[Any]:
    """Return the pods of one component that are not terminating."""
    pods = client.CoreV1Api(kind_api).list_namespaced_pod(namespace, label_selector=f"dask.org/component={component}")
    return [pod for pod in pods.items if pod.metadata.deletion_timestamp is None]
