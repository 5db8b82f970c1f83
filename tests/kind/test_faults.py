"""What is killed on a real Kubernetes while a search runs: each test is a row of the table of faults.

A script of a user's, whose fits sleep, print a line each, and tell Dask's event log when they begin. A line is printed
when the client has the fit's outcome: each once, or a fit was lost or had twice.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client
from nodes import paused, wait_ready
from operators import no_operator
from runs import DEADLINE, Runs

CARRIES_ON = 90.0
"""Seconds within which another fit is done after something was killed, on a machine that has other things to do."""

WORKERS = 3
FITS = 60

AGAIN = 8
"""Fits that a worker takes with it at most: the one it runs, and those whose results nobody has fetched yet."""

SCRIPT = f"""
    import json, sys, time
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
    search = GridSearchCV(Sleeper(), {{"number": list(range({FITS // 2}))}}, cv=2, refit=False).fit(X, y)
    begun = [event for _, event in Client.current().get_events("begun")]
    print("result", json.dumps([search.cv_results_["mean_test_score"].tolist(), begun]))
"""


class Search:
    """The search as it goes on: the fits whose lines have come, and when."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
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

    def to_the_end(self) -> str:
        """Read all; what was on stderr."""
        self.read()
        _, told = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, told
        return told

    def check(self) -> int:
        """No fit is lost and none had twice; how many were begun again."""
        scores, begun = self.result
        assert scores == [float(number) for number in range(FITS // 2)]
        assert Counter(fit for _, fit, _ in self.fits) == Counter({fit: 1 for _, fit, _ in self.fits})
        assert len(self.fits) == FITS
        return sum(times - 1 for times in Counter((number, fold) for number, fold, _ in begun).values() if times > 1)

    def carried_on(self, at: float) -> float:
        """Seconds from `at` until a fit was done that began later (a fit takes 1 s)."""
        return min(done for done, _, _ in self.fits if done > at + 1) - at


@contextmanager
def searching(runs: Runs, *options: str) -> Iterator[Search]:
    with runs.searching("--workers", str(WORKERS), *options, script=SCRIPT) as process:
        yield Search(process)


def _pods(kind_api: client.ApiClient, namespace: str, component: str) -> list[Any]:
    pods = client.CoreV1Api(kind_api).list_namespaced_pod(namespace, label_selector=f"dask.org/component={component}")
    return [pod for pod in pods.items if pod.metadata.deletion_timestamp is None]


@pytest.mark.parametrize("component", ["worker", "scheduler"])
def test_a_pod_deleted_in_mid_search(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str, component: str, fault_row: Callable[..., None]
) -> None:
    with searching(kind_runs) as search:
        search.read(lambda: len(search.fits) >= 12)
        pod = _pods(kind_api, namespace, component)[0].metadata.name
        at = time.monotonic()
        client.CoreV1Api(kind_api).delete_namespaced_pod(pod, namespace, grace_period_seconds=0)
        search.to_the_end()
    again = search.check()
    # A result that has not been fetched yet dies with its worker too. Of a scheduler that is gone, nobody knows
    # what had begun.
    assert again <= AGAIN if component == "worker" else again <= WORKERS
    seconds = search.carried_on(at)
    assert seconds < CARRIES_ON
    told = again if component == "worker" else WORKERS
    fault_row(f"{component} pod", "deleted in mid-search", "its results", 0, told, seconds)


@pytest.mark.whole_cluster
def test_the_operator_stopped_in_mid_search(
    kind_runs: Runs, kind_api: client.ApiClient, fault_row: Callable[..., None]
) -> None:
    with searching(kind_runs) as search:
        search.read(lambda: len(search.fits) >= 12)
        at = time.monotonic()
        with no_operator(kind_api, wait=False):
            search.to_the_end()
    assert search.check() == 0
    seconds = search.carried_on(at)
    assert seconds < CARRIES_ON
    fault_row("the Dask operator", "scaled to 0 in mid-search", "its results", 0, 0, seconds)


@pytest.mark.whole_cluster
def test_a_worker_node_stopped_in_mid_search(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str, fault_row: Callable[..., None]
) -> None:
    """Everything on a node that has workers and not the scheduler stands still for the rest of the search.

    Its connections stay open. Kubernetes says after 40 to 50 s that the node is gone; until then others carry on.
    """
    with searching(kind_runs) as search:
        search.read(lambda: len(search.fits) >= 12)
        home = {pod.spec.node_name for pod in _pods(kind_api, namespace, "scheduler")}
        away = [pod for pod in _pods(kind_api, namespace, "worker") if pod.spec.node_name not in home]
        if not away:
            pytest.fail("all pods are on one node; the cluster of the tests has two for them")
        node = away[0].spec.node_name
        lost = [pod.metadata.name for pod in away if pod.spec.node_name == node]
        at = time.monotonic()
        with paused(node):
            search.read(lambda: search.result is not None)
        search.to_the_end()
    again = search.check()
    assert again <= AGAIN * len(lost)
    seconds = search.carried_on(at)
    assert seconds < CARRIES_ON
    wait_ready(kind_api, node)
    fault_row("a worker node", "stopped in mid-search", "its results", 0, again, seconds)


@pytest.mark.parametrize(("retries", "deaths"), [(1, 2), (2, 3)])
def test_a_fit_that_ends_every_worker_is_a_failed_fit(
    kind_runs: Runs, fault_row: Callable[..., None], retries: int, deaths: int
) -> None:
    """Kubernetes starts each of its workers' containers again, after a longer while each time."""
    script = """
        import os, warnings
        import numpy
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import FitFailedWarning
        from sklearn.model_selection import GridSearchCV

        class Culprit(ClassifierMixin, BaseEstimator):
            def __init__(self, number=0):
                self.number = number

            def fit(self, X, y):
                if self.number == 2 and X[0, 0] > 0:
                    os._exit(3)
                self.classes_ = numpy.unique(y)
                return self

            def predict(self, X):
                return numpy.zeros(len(X), int)

            def score(self, X, y):
                return float(self.number)

        X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search = GridSearchCV(Culprit(), {"number": list(range(6))}, cv=2, refit=False).fit(X, y)
        print([str(score) for score in search.cv_results_["mean_test_score"]])
        print([str(each.message) for each in caught if each.category is FitFailedWarning])
    """
    ended = kind_runs.run(script, "--retries", str(retries))
    assert ended.returncode == 0, ended.stderr
    scores, told = ended.stdout.splitlines()
    assert scores == "['0.0', '1.0', 'nan', '3.0', '4.0', '5.0']"
    assert "1 fits failed out of a total of 12" in told
    assert f"the fit of `Culprit` with number=2 on fold 1 of 2 ended {deaths} workers" in told
    fault_row(
        "every worker of a fit (exit)",
        f"in each try, --retries {retries}",
        "FitFailedWarning, nan for that fit",
        0,
        0,
        None,
    )


def test_a_search_scales_up_and_down_again(kind_runs: Runs) -> None:
    """200 fits, one to six workers; some of the last are long, so that idle workers go while they run.

    The first take their time until all six workers are there, and the long ones last until fewer are.
    """
    script = """
        import threading, time
        import numpy
        from dask.distributed import Client, Event
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.model_selection import GridSearchCV

        class Sleeper(ClassifierMixin, BaseEstimator):
            def __init__(self, long=False, number=0):
                self.long = long
                self.number = number

            def fit(self, X, y):
                if self.long:
                    Event("fewer").wait(150)
                    time.sleep(10)  # in which the fewer are seen
                else:
                    Event("six").wait(4)
                    time.sleep(0.6)
                self.classes_ = numpy.unique(y)
                return self

            def predict(self, X):
                return numpy.zeros(len(X), int)

            def score(self, X, y):
                return float(self.number)

        def tell():
            client = Client.current()
            for event, there in ("six", lambda number: number == 6), ("fewer", lambda number: number < 6):
                while not there(len(client.ncores())):
                    time.sleep(0.2)
                Event(event, client=client).set()

        threading.Thread(target=tell, daemon=True).start()
        X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
        grid = [{"number": list(range(99))}, {"number": [99], "long": [True]}]
        search = GridSearchCV(Sleeper(), grid, cv=2, refit=False).fit(X, y)
        assert search.cv_results_["mean_test_score"].tolist() == [float(number) for number in range(100)]
        print("all")
    """
    ended = kind_runs.run(script, "--workers", "1:6")
    assert (ended.returncode, ended.stdout) == (0, "all\n"), ended.stderr
    record = kind_runs.record()
    assert record["fits"]["kept"] == 200
    connected = [at["connected"] for at in record["workers"]]
    assert connected[0] == 1
    assert max(connected) == 6
    assert connected[-1] < 6, record["workers"]
    assert all(at["asked"] <= 6 for at in record["workers"])
