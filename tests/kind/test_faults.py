"""Pods and processes killed on a real Kubernetes during a search: each test adds a row to the table of faults.

`test_outages.py` has the faults of a whole cluster's parts.
"""

from __future__ import annotations

import time

import pytest
from kubernetes import client
from support.searches import MAX_REPEATED, WORKERS, pods_of, searching
from support.side_by_side import Sandbox, side_by_side


@pytest.mark.parametrize("component", ["worker", "scheduler"])
@side_by_side
def test_search_continues_after_a_pod_is_deleted(sandbox: Sandbox, component: str) -> None:
    with searching(sandbox.runs) as search:
        search.wait_for_first_fits()
        pod = pods_of(sandbox.kind_api, sandbox.namespace, component)[0].metadata.name
        deleted_at = time.monotonic()
        client.CoreV1Api(sandbox.kind_api).delete_namespaced_pod(pod, sandbox.namespace, grace_period_seconds=0)
        search.finish()
    repeated = search.check()
    # Results that were not fetched are lost with their worker. Once the scheduler is gone, it is not known which fits
    # were running.
    assert repeated <= MAX_REPEATED if component == "worker" else repeated <= WORKERS
    lost = repeated if component == "worker" else WORKERS
    seconds = search.seconds_until_next_fit(deleted_at)
    sandbox.row("fault_row", f"{component} pod", "deleted during the search", "its results", 0, lost, seconds)


@pytest.mark.parametrize(("retries", "deaths"), [(1, 2), (2, 3)])
@side_by_side
def test_fit_that_kills_its_workers_fails(sandbox: Sandbox, retries: int, deaths: int) -> None:
    """Kubernetes restarts the container of each worker, with an increasing back-off."""
    script = """
        import os, warnings
        import numpy
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import FitFailedWarning
        from sklearn.model_selection import GridSearchCV

        class Exiting(ClassifierMixin, BaseEstimator):
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
            search = GridSearchCV(Exiting(), {"number": list(range(6))}, cv=2, refit=False).fit(X, y)
        print([str(score) for score in search.cv_results_["mean_test_score"]])
        print([str(each.message) for each in caught if each.category is FitFailedWarning])
    """
    # As many workers as the fit ends, so that none has to wait for its second restart.
    ended = sandbox.runs.run(script, "--workers", str(deaths), "--retries", str(retries))
    assert ended.returncode == 0, ended.stderr
    scores, messages = ended.stdout.splitlines()
    assert scores == "['0.0', '1.0', 'nan', '3.0', '4.0', '5.0']"
    assert "1 fits failed out of a total of 12" in messages
    assert f"the fit of `Exiting` with number=2 on fold 1 of 2 ended {deaths} workers" in messages
    sandbox.row(
        "fault_row",
        "every worker of a fit (exit)",
        f"in each try, --retries {retries}",
        "FitFailedWarning, nan for that fit",
        0,
        0,
        None,
    )


@side_by_side
def test_search_scales_up_and_down(sandbox: Sandbox) -> None:
    """100 fits run on one to four workers; the last ones are long, so that idle workers are removed while they run.

    The first fits are slow until all four workers are connected, and the long ones last until fewer are.
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
                    Event("scaled-down").wait(150)
                    time.sleep(10)  # until the lower number is recorded
                else:
                    Event("scaled-up").wait(4)
                    time.sleep(0.6)
                self.classes_ = numpy.unique(y)
                return self

            def predict(self, X):
                return numpy.zeros(len(X), int)

            def score(self, X, y):
                return float(self.number)

        def set_events():
            client = Client.current()
            for event, condition in ("scaled-up", lambda n: n == 4), ("scaled-down", lambda n: n < 4):
                while not condition(len(client.ncores())):
                    time.sleep(0.2)
                Event(event, client=client).set()

        threading.Thread(target=set_events, daemon=True).start()
        X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
        grid = [{"number": list(range(49))}, {"number": [49], "long": [True]}]
        search = GridSearchCV(Sleeper(), grid, cv=2, refit=False).fit(X, y)
        assert search.cv_results_["mean_test_score"].tolist() == [float(number) for number in range(50)]
        print("all")
    """
    ended = sandbox.runs.run(script, "--workers", "1:4")
    assert (ended.returncode, ended.stdout) == (0, "all\n"), ended.stderr
    record = sandbox.runs.record()
    assert record["fits"]["kept"] == 100
    connected = [at["connected"] for at in record["workers"]]
    assert connected[0] == 1
    assert max(connected) == 4
    assert connected[-1] < 4, record["workers"]
    assert all(at["asked"] <= 4 for at in record["workers"])
