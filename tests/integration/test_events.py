"""Events of Parallel calls: on a local cluster, in the program's process, and in a run."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import joblib
import pytest
from distributed import Client, LocalCluster
from forked_workers import forked_workers
from joblib import Parallel, delayed
from local_runs import FinishedRun, LocalRuns
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - lets the halving searches be imported
from sklearn.feature_selection import RFECV
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.tree import DecisionTreeClassifier
from waiting import DEADLINE

from skjob.engine.backend import SkjobBackend, WorkersLost
from skjob.engine.events import (
    CallFinished,
    CallStarted,
    Event,
    FitFinished,
    FitStatus,
    ResultsDropped,
    TasksFinished,
    from_line,
)
from skjob.run.events.file import read_events
from skjob.run.events.searches import Searches

X, Y = load_iris(return_X_y=True)
TREE = DecisionTreeClassifier(random_state=0)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        dask.config.set(
            {"distributed.scheduler.allowed-failures": 1}
        ),  # each worker that a task ends takes seconds to restart
        forked_workers(),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=DEADLINE)
        yield client


@pytest.fixture
def events(client: Client) -> Iterator[list[Event]]:
    """The events of a test's calls."""
    events: list[Event] = []
    with joblib.parallel_config(backend=SkjobBackend(client, report=events.append)):
        yield events


def of_kind(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]


def tasks(events: list[Event]) -> int:
    return sum(event.tasks for event in of_kind(events, TasksFinished))


# ------------------------------------------------------------------------------------------------- calls on workers


@pytest.mark.usefixtures("send_small_calls_to_workers")
class TestOnWorkers:
    def test_search(self, events: list[Event]) -> None:
        search = GridSearchCV(TREE, {"max_depth": [1, 3]}, cv=3, return_train_score=True, n_jobs=-1).fit(X, Y)
        [started] = of_kind(events, CallStarted)
        assert started == CallStarted(
            1, started.at, "GridSearchCV", "DecisionTreeClassifier", 1, None, 2, 3, 6, "score"
        )
        fits = of_kind(events, FitFinished)
        assert sorted((fit.task, fit.candidate, fit.split) for fit in fits) == [
            (3 * candidate + split, candidate, split) for candidate in range(2) for split in range(3)
        ]
        for fit in fits:
            results = search.cv_results_
            assert fit.scores == {"score": results[f"split{fit.split}_test_score"][fit.candidate]}
            assert fit.train_scores == {"score": results[f"split{fit.split}_train_score"][fit.candidate]}
            assert fit.worker in ("0", "1")
            assert started.at <= fit.started <= fit.started + fit.seconds <= events[-1].at + 0.001  # type: ignore[union-attr]
            assert 0 < fit.fit_seconds <= fit.seconds
            assert fit.status is FitStatus.DONE
        described = [(fit.candidate, fit.parameters) for fit in fits if fit.parameters is not None]
        assert sorted(described) == [(0, {"max_depth": "1"}), (1, {"max_depth": "3"})]
        assert events[-1] == CallFinished(1, events[-1].at)  # type: ignore[union-attr]
        searches = Searches(events)
        best = searches.best(searches.searches[0])
        assert best is not None
        assert (best.number, best.mean) == (search.best_index_, pytest.approx(search.best_score_))

    def test_first_metric_is_shown_without_refit(self, events: list[Event]) -> None:
        GridSearchCV(TREE, {"max_depth": [1]}, cv=2, scoring=["f1_macro", "accuracy"], refit=False).fit(X, Y)
        [started] = of_kind(events, CallStarted)
        assert (started.metric, started.metric_is_first) == ("f1_macro", True)
        assert [set(fit.scores) for fit in of_kind(events, FitFinished)] == [{"f1_macro", "accuracy"}] * 2

    @pytest.mark.parametrize(
        ("scoring", "refit", "metric"),
        [
            (["f1_macro", "accuracy"], "accuracy", "accuracy"),
            ("accuracy", True, "score"),
            (["accuracy"], lambda _: 0, ""),
            (lambda *_: {"one": 1.0, "other": 0.0}, "other", "other"),
        ],
        ids=["named", "one", "a callable chooses", "a callable scores"],
    )
    def test_metric_that_chooses_the_best(self, events: list[Event], scoring: Any, refit: Any, metric: str) -> None:
        GridSearchCV(TREE, {"max_depth": [1]}, cv=2, scoring=scoring, refit=refit).fit(X, Y)
        [started] = of_kind(events, CallStarted)
        assert (started.metric, started.metric_is_first) == (metric, False)

    def test_iterations_of_a_halving_search(self, events: list[Event]) -> None:
        for _ in range(2):
            HalvingGridSearchCV(TREE, {"max_depth": [1, 2, 3, 4]}, cv=2, min_resources=30).fit(X, Y)
        calls = [(call.search, call.iteration, call.candidates) for call in of_kind(events, CallStarted)]
        assert calls == [(1, 0, 4), (1, 1, 2), (2, 0, 4), (2, 1, 2)]
        assert [len(search) for search in Searches(events).searches] == [2, 2]

    def test_cross_validation(self, events: list[Event]) -> None:
        scores = cross_validate(TREE, X, Y, cv=4, scoring=["accuracy"])["test_accuracy"]
        [started] = of_kind(events, CallStarted)
        assert (started.name, started.estimator) == ("cross_validate", "DecisionTreeClassifier")
        assert (started.search, started.candidates, started.splits, started.tasks) == (None, None, 4, 4)
        fits = sorted(of_kind(events, FitFinished), key=lambda fit: fit.split)
        assert [fit.scores["accuracy"] for fit in fits] == list(scores)

    @pytest.mark.parametrize(
        ("work", "name", "total"),
        [
            (lambda: RandomForestClassifier(7, random_state=0).fit(X, Y), "RandomForestClassifier", 7),
            (lambda: BaggingClassifier(TREE, 8, n_jobs=2).fit(X, Y), "BaggingClassifier", 2),
            (lambda: RFECV(TREE, cv=3, n_jobs=2).fit(X, Y), "RFECV", 3),
            (lambda: cross_val_predict(TREE, X, Y, cv=3), "cross_val_predict", 3),
            (lambda: Parallel(2)(delayed(abs)(number) for number in range(5)), "abs", None),
            (lambda: Parallel(2)([delayed(abs)(number) for number in range(5)]), "abs", 5),
        ],
        ids=["forest", "bagging", "RFECV", "cross_val_predict", "a generator", "a list"],
    )
    def test_tasks(self, events: list[Event], work: Any, name: str, total: int | None) -> None:
        work()
        [started] = of_kind(events, CallStarted)
        assert (started.name, started.tasks) == (name, total)
        assert tasks(events) == (total or 5)
        assert {event.worker for event in of_kind(events, TasksFinished)} <= {"0", "1"}
        assert of_kind(events, FitFinished) == []
        assert of_kind(events, CallFinished) == [CallFinished(1, events[-1].at)]  # type: ignore[union-attr]

    def test_curves(self, events: list[Event]) -> None:
        learning_curve(TREE, X, Y, train_sizes=[0.5, 1.0], cv=3)
        validation_curve(TREE, X, Y, param_name="max_depth", param_range=[1, 2, 3, 4], cv=3)
        assert [(call.name, call.tasks) for call in of_kind(events, CallStarted)] == [
            ("learning_curve", 6), ("validation_curve", 12),
        ]  # fmt: skip
        fits = of_kind(events, FitFinished)
        assert [sum(fit.call == call for fit in fits) for call in (1, 2)] == [6, 12]
        assert {fit.parameters["max_depth"] for fit in fits if fit.call == 2} == {"1", "2", "3", "4"}

    def test_failed_fit(self, events: list[Event]) -> None:
        search = GridSearchCV(TREE, {"max_depth": [2, -1]}, cv=2)
        with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
            search.fit(X, Y)
        failed = [fit for fit in of_kind(events, FitFinished) if fit.candidate == 1]
        assert [fit.status for fit in failed] == [FitStatus.FAILED] * 2
        assert all(math.isnan(fit.scores["score"]) for fit in failed)
        assert all("InvalidParameterError: The 'max_depth' parameter" in fit.error for fit in failed)

    def test_failed_call(self, events: list[Event]) -> None:
        with pytest.raises(ValueError, match="max_depth"):
            GridSearchCV(TREE, {"max_depth": [-1]}, cv=2, error_score="raise").fit(X, Y)
        assert [call.ok for call in of_kind(events, CallFinished)] == [False]

    def test_fit_that_kills_its_workers(self, events: list[Event]) -> None:
        with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
            GridSearchCV(ExitingTree(), {"exits": [False, True]}, cv=[([0, 50], [1, 51])], n_jobs=-1).fit(X, Y)
        [failed] = [fit for fit in of_kind(events, FitFinished) if fit.status is FitStatus.FAILED]
        assert (failed.candidate, failed.worker) == (1, "")
        assert WorkersLost.__name__ in failed.error
        assert len(of_kind(events, FitFinished)) == 2

    def test_values_without_a_repr_are_shown_by_type(self, events: list[Event]) -> None:
        search = GridSearchCV(TREE, {"max_depth": [1], "min_samples_leaf": [Unprintable(2)]}, cv=2)
        search.fit(X, Y)
        [shown] = [fit.parameters for fit in of_kind(events, FitFinished) if fit.parameters]
        assert shown == {"max_depth": "1", "min_samples_leaf": "<Unprintable>"}

    def test_errors_of_listeners_are_ignored(self, client: Client) -> None:
        def refuse(event: Event) -> None:
            raise RuntimeError(event)

        with joblib.parallel_config(backend=SkjobBackend(client, report=refuse)):
            assert GridSearchCV(TREE, {"max_depth": [1, 3]}, cv=3, n_jobs=-1).fit(X, Y).best_score_ > 0.9


class ExitingTree(DecisionTreeClassifier):
    """A tree that ends its process if `exits`."""

    def __init__(self, exits: bool = False):
        super().__init__()
        self.exits = exits

    def fit(self, X: Any, y: Any, sample_weight: Any = None, check_input: bool = True) -> Any:
        if self.exits:
            os._exit(7)
        return super().fit(X, y, sample_weight, check_input)


class Unprintable(int):
    def __repr__(self) -> str:
        raise RuntimeError("unprintable")


# ---------------------------------------------------------------------- reused results and calls in this process


def test_stored_results_are_reported_as_reused(client: Client, tmp_path: Path) -> None:
    events: list[Event] = []
    for _ in range(2):
        backend = SkjobBackend(client, checkpoint=str(tmp_path), report=events.append)
        with joblib.parallel_config(backend=backend):
            GridSearchCV(TREE, {"max_depth": [1, 3]}, cv=2, n_jobs=-1).fit(X, Y)
    fits = of_kind(events, FitFinished)
    assert [fit.status for fit in fits] == [FitStatus.DONE] * 4 + [FitStatus.REUSED] * 4
    assert [(fit.worker, fit.seconds) for fit in fits[4:]] == [("", 0.0)] * 4
    first, again = ({(fit.candidate, fit.split): fit.scores for fit in some} for some in (fits[:4], fits[4:]))
    assert first == again


def test_small_calls_run_in_this_process(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skjob.engine.fidelity.small_calls.SENDING_SECONDS", math.inf)
    # On a busy machine, a pause must neither end a small call nor make it long enough to be reported.
    monkeypatch.setattr("skjob.engine.fidelity.small_run.MAX_OVERRUN", math.inf)
    monkeypatch.setattr("skjob.engine.reporting.call_events.MIN_SECONDS", math.inf)
    for _ in range(3):  # the first two calls are sent and measured
        GridSearchCV(TREE, {"max_depth": [1, 3]}, cv=2, n_jobs=-1).fit(X, Y)
    fits = [fit for fit in of_kind(events, FitFinished) if fit.call == 3]
    assert [(fit.task, fit.candidate, fit.split, fit.worker) for fit in fits] == [
        (0, 0, 0, ""), (1, 0, 1, ""), (2, 1, 0, ""), (3, 1, 1, ""),
    ]  # fmt: skip
    assert all(fit.seconds > 0 for fit in fits)
    # A program may make thousands of small calls per second: those without fits are not reported.
    reported = len(of_kind(events, CallStarted))
    for _ in range(3):
        Parallel(2)([delayed(abs)(number) for number in range(5)])
    assert len(of_kind(events, CallStarted)) <= reported + 1


def test_search_with_one_job_runs_in_this_process(events: list[Event]) -> None:
    inner = GridSearchCV(TREE, {"max_depth": [1, 3]}, cv=2, n_jobs=1)
    search = GridSearchCV(inner, {"refit": [True]}, cv=3, n_jobs=1).fit(X, Y)
    fits = of_kind(events, FitFinished)
    assert [(fit.call, fit.task, fit.worker) for fit in fits] == [(1, 0, ""), (1, 1, ""), (1, 2, "")] + [
        (2, task, "")
        for task in range(4)  # without the refit
    ]
    assert sum(fit.scores["score"] for fit in fits[:3]) / 3 == pytest.approx(search.best_score_)
    assert [type(event) for event in events[:5]] == [CallStarted, *[FitFinished] * 3, CallFinished]
    # Calls that request one job and have no fits are not reported.
    assert Parallel(1)(delayed(abs)(number) for number in range(3)) == [0, 1, 2]
    assert len(of_kind(events, CallStarted)) == 2


CHANGES_A_LIST = """
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    recorded = []

    class Recording(DecisionTreeClassifier):
        def fit(self, X, y):
            if self.max_depth == 4:
                recorded.append(self.max_depth)
            return super().fit(X, y)

    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(Recording(random_state=0), {{"max_depth": [1, 2, 3, 4, 5, 6]}}, cv=2, n_jobs={jobs}).fit(X, y)
    print(search.best_score_, len(recorded))
"""


def test_search_moved_to_this_process_counts_each_fit_once(local_runs: LocalRuns) -> None:
    ended = local_runs.run(CHANGES_A_LIST.format(jobs=None))
    assert "its tasks change" in ended.stderr
    assert ended.stdout.split()[1] == "2"
    events = read_run_events(local_runs, ended)
    searches = Searches(events)
    [call] = searches.calls.values()
    assert (call.done, call.total, call.failed) == (12, 12, 0)
    assert len(of_kind(events, ResultsDropped)) == 1
    # Each fit is reported once.
    assert {fit.task for fit in of_kind(events, FitFinished)} == set(range(12))
    tasks_in_this_process = [fit.task for fit in of_kind(events, FitFinished) if not fit.worker]
    assert tasks_in_this_process == list(range(tasks_in_this_process[0], 12))
    best = searches.best(searches.searches[0])
    assert best is not None
    assert best.mean == pytest.approx(float(ended.stdout.split()[0]))


@pytest.mark.slow
def test_search_in_local_processes(local_runs: LocalRuns) -> None:
    program = """
        import numpy
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.tree import DecisionTreeClassifier

        X, y = load_iris(return_X_y=True)
        shared = numpy.memmap("shared", dtype=float, mode="w+", shape=X.shape)
        shared[:] = X
        search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}, cv=2, n_jobs=2)
        print(search.fit(shared, y).best_score_)
    """
    ended = local_runs.run(program)
    assert "writable memory map" in ended.stderr
    fits = of_kind(read_run_events(local_runs, ended), FitFinished)
    assert sorted((fit.candidate, fit.split, fit.worker) for fit in fits) == [
        (0, 0, ""), (0, 1, ""), (1, 0, ""), (1, 1, ""),
    ]  # fmt: skip
    assert ended.record["searches"][0]["best"]["score"] == pytest.approx(float(ended.stdout))


# ------------------------------------------------------------------------------------------------- runs


def read_run_events(runs: LocalRuns, ended: FinishedRun) -> list[Event]:
    return list(read_events(runs.folder / ".skjob" / "runs" / ended.record["run_id"]))


def test_events_of_a_killed_program_are_kept(local_runs: LocalRuns) -> None:
    program = """
        import os
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.tree import DecisionTreeClassifier

        os.makedirs("elsewhere")
        os.chdir("elsewhere")
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2, n_jobs=-1).fit(*load_iris(return_X_y=True))
        os._exit(9)
    """
    ended = local_runs.run(program)
    assert ended.returncode == 9
    assert len(of_kind(read_run_events(local_runs, ended), FitFinished)) == 4
    [search] = ended.record["searches"]
    summary = {name: search[name] for name in ("name", "estimator", "candidates", "splits", "fits", "metric")}
    assert summary == {
        "name": "GridSearchCV", "estimator": "DecisionTreeClassifier", "candidates": 2, "splits": 2, "fits": 4,
        "metric": "score",
    }  # fmt: skip
    assert search["best"]["parameters"] == {"max_depth": "2"}
    assert search["finished"]


def test_events_as_json(local_runs: LocalRuns) -> None:
    program = """
        from sklearn.datasets import load_iris
        from sklearn.model_selection import cross_validate
        from sklearn.tree import DecisionTreeClassifier

        cross_validate(DecisionTreeClassifier(), *load_iris(return_X_y=True), cv=3, n_jobs=-1)
    """
    ended = local_runs.run(program, "--json")
    lines = [line for line in ended.stderr.splitlines() if line.startswith("{")]
    shown = [event for line in lines if "text" not in json.loads(line) and (event := from_line(line)) is not None]
    [record] = [each["record"] for line in lines if (each := json.loads(line))["kind"] == "record"]
    assert shown == list(read_events(local_runs.folder / ".skjob" / "runs" / record["run_id"]))
    assert [type(event) for event in shown] == [CallStarted, *[FitFinished] * 3, CallFinished]
