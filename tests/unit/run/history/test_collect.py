"""Test what a run did, collected from its events."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from past_runs import EPOCH, a_forest, a_record, a_search, write_run

from skjob.engine.events import CallFinished, CallStarted, FitFinished, FitStatus, TasksFinished
from skjob.run.history.collect import add_up, read_details
from skjob.run.history.records import PastRun

pytestmark = pytest.mark.unit


def fit(call: int, candidate: int, split: int, score: float, **fields: object) -> FitFinished:
    known = {"parameters": {"C": str(candidate)}, "scores": {"score": score}, "started": EPOCH + 5, "seconds": 1.0}
    return FitFinished(call, 2 * candidate + split, candidate, split, **{**known, **fields})  # type: ignore[arg-type]


def test_a_run_is_added_up(tmp_path: Path) -> None:
    record = a_record()
    folder = write_run(tmp_path, record, [*a_search(), *a_forest()])
    details = read_details(PastRun(record, folder))
    assert (details.done, details.reused, details.failed) == (260, 15, 5)
    [search] = details.searches
    assert (search.title, search.done, search.total) == ("RandomizedSearchCV of SVC", 160, 160)
    assert search.varying == ["C", "gamma", "kernel"]
    assert search.fixed == {"tol": "0.001"}
    means = [each.candidate.mean for each in search.candidates]
    assert search.best is search.candidates[0]
    assert means[:-1] == sorted(means[:-1], reverse=True)
    assert math.isnan(means[-1])
    assert [(group.title, group.done) for group in details.others] == [
        ("RandomForestClassifier of DecisionTreeClassifier", 100)
    ]
    assert len(details.fit_seconds) == 145
    assert [worker.name for worker in details.workers] == ["0", "1"]
    assert sum(worker.done for worker in details.workers) == 245


def test_errors_that_differ_in_numbers_are_one_cause() -> None:
    details = add_up(a_record(), a_search(failing=(5, 7, 9)))
    [group] = details.failures
    assert group.fits == 15
    assert group.error.startswith("ValueError: gamma == 0.")
    assert "kernel=" in group.example
    assert group.workers == {"0", "1"}


def test_idle_time_counts_from_a_workers_first_fit_while_there_were_calls() -> None:
    details = add_up(
        a_record(),
        [
            CallStarted(1, EPOCH + 1, "GridSearchCV", "SVC", 1, candidates=2, splits=2, metric="score"),
            fit(1, 0, 0, 0.5, worker="a", started=EPOCH + 2, seconds=2.0),
            fit(1, 0, 1, 0.5, worker="b", started=EPOCH + 6, seconds=1.0),
            CallFinished(1, EPOCH + 10),
            CallStarted(2, EPOCH + 20, "cross_validate"),
            TasksFinished(2, 3, "a", EPOCH + 20, 1.0),
            CallFinished(2, EPOCH + 22),
        ],
    )
    first, second = details.workers
    assert (first.busy, details.idle(first)) == (3.0, pytest.approx(7.0))
    assert (second.busy, details.idle(second)) == (1.0, pytest.approx(5.0))


def test_a_search_whose_best_a_callable_chooses_has_an_order_and_no_best() -> None:
    call = CallStarted(1, EPOCH, "GridSearchCV", "SVC", 1, candidates=2, splits=1, metric="")
    scores = ({"accuracy": 0.8, "recall": 0.1}, {"accuracy": 0.9, "recall": 0.0})
    details = add_up(a_record(), [call, *(fit(1, at, 0, 0, scores=each) for at, each in enumerate(scores))])
    [search] = details.searches
    assert (search.metric, search.chosen_by_callable, search.best) == ("accuracy", True, None)
    assert [each.candidate.number for each in search.candidates] == [1, 0]
    assert search.candidates[0].mean("recall") == 0.0


def test_candidates_of_a_later_iteration_come_first() -> None:
    def call(number: int, candidates: int) -> CallStarted:
        return CallStarted(
            number, EPOCH + number, "HalvingGridSearchCV", "SVC", 1, number - 1, candidates, 1, metric="score"
        )

    events = [
        call(1, 2),
        fit(1, 0, 0, 0.9),
        fit(1, 1, 0, 0.8),
        CallFinished(1, EPOCH + 2),
        call(2, 1),
        fit(2, 0, 0, 0.7),
    ]
    [search] = add_up(a_record(), events).searches
    assert search.halving
    assert [(each.iteration, each.candidate.mean) for each in search.candidates] == [(1, 0.7), (0, 0.9), (0, 0.8)]
    assert search.best is search.candidates[0]


def test_calls_within_a_fit_count_as_that_fit() -> None:
    events = [
        CallStarted(1, EPOCH, "cross_validate", "GridSearchCV", splits=2, tasks=2),
        CallStarted(2, EPOCH + 1, "RandomForestClassifier", tasks=50, parent=1),
        TasksFinished(2, 50, "", EPOCH + 1, 1.0),
        FitFinished(1, 0, split=0, scores={"score": 0.5}, started=EPOCH, seconds=3.0),
    ]
    details = add_up(a_record(), events)
    assert [(group.title, group.done) for group in details.others] == [("cross_validate of GridSearchCV", 1)]
    assert details.others[0].scores == {"score": [0.5]}


def test_a_run_of_an_earlier_version_has_its_record_alone(tmp_path: Path) -> None:
    record = a_record(started="once", seconds=None)
    details = read_details(PastRun(record, write_run(tmp_path, record, None)))
    assert not details.has_events
    assert (details.searches, details.workers, details.done, details.ended) == ([], [], 0, details.began)


def test_fits_of_a_call_whose_start_is_missing_are_ignored() -> None:
    details = add_up(a_record(), [fit(9, 0, 0, 0.5, status=FitStatus.FAILED, error="x")])
    assert (details.failures, details.workers, details.fit_seconds) == ([], [], [])
