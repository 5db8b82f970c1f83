"""What is killed on a real Kubernetes while a search runs: each test is a row of the table of faults.

`test_outages.py` has the faults of a whole cluster's parts.
"""

from __future__ import annotations

import time

import pytest
from kubernetes import client
from support.searches import MAX_REPEATED, WORKERS, pods_of, searching
from support.side_by_side import Stage, side_by_side


@pytest.mark.parametrize("component", ["worker", "scheduler"])
@side_by_side
def test_a_pod_deleted_in_mid_search(stage: Stage, component: str) -> None:
    with searching(stage.runs) as search:
        search.read_enough()
        pod = pods_of(stage.kind_api, stage.namespace, component)[0].metadata.name
        at = time.monotonic()
        client.CoreV1Api(stage.kind_api).delete_namespaced_pod(pod, stage.namespace, grace_period_seconds=0)
        search.finish()
    again = search.check()
    # A result that has not been fetched yet dies with its worker too. Of a scheduler that is gone, nobody knows
    # what had begun.
    assert again <= MAX_REPEATED if component == "worker" else again <= WORKERS
    told = again if component == "worker" else WORKERS
    seconds = search.seconds_until_next_fit(at)
    stage.row("fault_row", f"{component} pod", "deleted in mid-search", "its results", 0, told, seconds)


@pytest.mark.parametrize(("retries", "deaths"), [(1, 2), (2, 3)])
@side_by_side
def test_a_fit_that_ends_every_worker_is_a_failed_fit(stage: Stage, retries: int, deaths: int) -> None:
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
    # As many workers as it ends: none of them has to wait until Kubernetes has started it for the second time.
    ended = stage.runs.run(script, "--workers", str(deaths), "--retries", str(retries))
    assert ended.returncode == 0, ended.stderr
    scores, told = ended.stdout.splitlines()
    assert scores == "['0.0', '1.0', 'nan', '3.0', '4.0', '5.0']"
    assert "1 fits failed out of a total of 12" in told
    assert f"the fit of `Culprit` with number=2 on fold 1 of 2 ended {deaths} workers" in told
    stage.row(
        "fault_row",
        "every worker of a fit (exit)",
        f"in each try, --retries {retries}",
        "FitFailedWarning, nan for that fit",
        0,
        0,
        None,
    )


@side_by_side
def test_a_search_scales_up_and_down_again(stage: Stage) -> None:
    """100 fits, one to four workers; some of the last are long, so that idle workers go while they run.

    The first take their time until all four workers are there, and the long ones last until fewer are.
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
                    Event("all").wait(4)
                    time.sleep(0.6)
                self.classes_ = numpy.unique(y)
                return self

            def predict(self, X):
                return numpy.zeros(len(X), int)

            def score(self, X, y):
                return float(self.number)

        def tell():
            client = Client.current()
            for event, there in ("all", lambda number: number == 4), ("fewer", lambda number: number < 4):
                while not there(len(client.ncores())):
                    time.sleep(0.2)
                Event(event, client=client).set()

        threading.Thread(target=tell, daemon=True).start()
        X, y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2
        grid = [{"number": list(range(49))}, {"number": [49], "long": [True]}]
        search = GridSearchCV(Sleeper(), grid, cv=2, refit=False).fit(X, y)
        assert search.cv_results_["mean_test_score"].tolist() == [float(number) for number in range(50)]
        print("all")
    """
    ended = stage.runs.run(script, "--workers", "1:4")
    assert (ended.returncode, ended.stdout) == (0, "all\n"), ended.stderr
    record = stage.runs.record()
    assert record["fits"]["kept"] == 100
    connected = [at["connected"] for at in record["workers"]]
    assert connected[0] == 1
    assert max(connected) == 4
    assert connected[-1] < 4, record["workers"]
    assert all(at["asked"] <= 4 for at in record["workers"])
