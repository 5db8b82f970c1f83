"""Test progress, ranking and time left, added up from events."""

from __future__ import annotations

import math
from typing import Any

import pytest

from skjob.engine.events import CallFinished, CallStarted, FitFinished, FitStatus, ResultsDropped, TasksFinished
from skjob.run.events.searches import CallProgress, Searches


def started(call: int = 1, **fields: Any) -> CallStarted:
    known = {"search": 1, "candidates": 3, "splits": 2, "metric": "score"}
    return CallStarted(call, 100.0, "GridSearchCV", "SVC", **{**known, **fields})


def fit(candidate: int, split: int, score: float, *, call: int = 1, **fields: Any) -> FitFinished:
    known = {"parameters": {"C": str(candidate)} if split == 0 else None, "started": 100.0, "seconds": 1.0}
    return FitFinished(call, 2 * candidate + split, candidate, split, scores={"score": score}, **{**known, **fields})


def only(searches: Searches) -> CallProgress:
    [call] = searches.calls.values()
    return call


def test_progress_counts_reused_and_failed_fits() -> None:
    call = only(
        Searches([
            started(),
            fit(0, 0, 0.5, status=FitStatus.REUSED, seconds=0.0),
            fit(0, 1, math.nan, status=FitStatus.FAILED),
            fit(1, 0, 0.5),
        ])
    )  # fmt: skip
    assert (call.total, call.done, call.reused, call.failed, call.measured) == (6, 3, 1, 1, 2)


def test_the_best_has_all_its_splits_and_the_first_of_equals_leads() -> None:
    searches = Searches([started(), fit(2, 0, 0.99), fit(1, 0, 0.8), fit(1, 1, 0.6), fit(0, 0, 0.6), fit(0, 1, 0.8)])
    best = searches.best(searches.searches[0])
    assert best is not None
    assert (best.number, best.parameters) == (0, {"C": "0"})
    assert (best.mean, best.spread) == (pytest.approx(0.7), pytest.approx(0.1))
    # The live table also shows candidates that lack a split.
    assert [each.number for each in only(searches).ranked()] == [2, 0, 1]


def test_a_failed_fit_puts_its_candidate_last() -> None:
    searches = Searches([started(), fit(0, 0, math.nan), fit(0, 1, 1.0), fit(1, 0, -5.0), fit(1, 1, -7.0)])
    assert [each.number for each in only(searches).ranked(complete=True)] == [1, 0]
    best = searches.best(searches.searches[0])
    assert best is not None
    assert best.number == 1


def test_there_is_no_best_without_scores_or_if_a_callable_chooses() -> None:
    nan = Searches([started(), fit(0, 0, math.nan), fit(0, 1, math.nan)])
    assert nan.best(nan.searches[0]) is None
    chosen = Searches([started(metric=""), fit(0, 0, 1.0), fit(0, 1, 1.0)])
    assert chosen.best(chosen.searches[0]) is None


def test_the_metric_chooses_among_several() -> None:
    searches = Searches([
        started(metric="recall", splits=1),
        FitFinished(1, 0, 0, 0, scores={"accuracy": 0.9, "recall": 0.1}),
        FitFinished(1, 1, 1, 0, scores={"accuracy": 0.1, "recall": 0.9}),
    ])  # fmt: skip
    best = searches.best(searches.searches[0])
    assert best is not None
    assert best.number == 1


def test_the_best_of_a_halving_search_is_of_its_last_iteration_that_has_one() -> None:
    searches = Searches([
        started(1, iteration=0), fit(0, 0, 0.9), fit(0, 1, 0.9), CallFinished(1, 110.0),
        started(2, iteration=1, candidates=1), fit(0, 0, 0.7, call=2),
    ])  # fmt: skip
    [search] = searches.searches
    best = searches.best(search)
    assert best is not None
    assert best.call == 1
    searches.add(fit(0, 1, 0.7, call=2))
    best = searches.best(search)
    assert best is not None
    assert best.call == 2
    assert [call.started.call for call in searches.running] == [2]


def test_the_time_left_follows_the_candidates_own_fits() -> None:
    searches = Searches([started(candidates=2, splits=2)])
    assert only(searches).seconds_left(100.0) is None
    searches.add(fit(0, 0, 0.5, started=100.0, seconds=10.0))
    searches.add(fit(1, 0, 0.5, started=100.0, seconds=2.0))
    # Two fits are left, expected to take as long as their candidates' first splits; 12 s of work took 10 s.
    assert only(searches).seconds_left(110.0) == pytest.approx(12.0 / 1.2)
    searches.add(fit(0, 1, 0.5, started=110.0, seconds=10.0))
    assert only(searches).seconds_left(120.0) == pytest.approx(2.0 / (22.0 / 20.0))
    searches.add(fit(1, 1, 0.5, started=110.0, seconds=2.0))
    assert only(searches).seconds_left(120.0) == pytest.approx(0.0)


def test_reused_fits_say_nothing_of_the_time_left() -> None:
    searches = Searches([started(candidates=2, splits=2)])
    searches.add(fit(0, 0, 0.5, status=FitStatus.REUSED, seconds=0.0))
    assert only(searches).seconds_left(100.0) is None
    searches.add(fit(0, 1, 0.5, seconds=10.0))
    assert only(searches).seconds_left(110.0) == pytest.approx(20.0)


def test_tasks_without_a_search() -> None:
    searches = Searches([CallStarted(7, 100.0, "RandomForestClassifier", tasks=30), TasksFinished(7, 10, "w", 100, 5)])
    assert (only(searches).done, only(searches).total) == (10, 30)
    assert only(searches).seconds_left(105.0) == pytest.approx(10.0)
    assert searches.searches == []


def test_an_event_of_a_call_whose_start_is_missing_is_ignored() -> None:
    assert Searches([fit(0, 0, 1.0), CallFinished(1, 1.0)]).calls == {}


def test_results_that_are_dropped_do_not_count_until_they_come_again() -> None:
    """If a call is withdrawn from workers, the tasks after the first two run again."""
    ahead = fit(2, 0, 0.9, status=FitStatus.FAILED)  # task 4
    searches = Searches([started(), fit(0, 0, 0.5), fit(0, 1, 0.5), fit(1, 1, 0.7), ahead])
    searches.add(ResultsDropped(1, 2))
    call = only(searches)
    assert (call.done, call.failed, call.seconds) == (2, 0, 2.0)
    assert [each.number for each in call.ranked()] == [0]
    for event in (fit(1, 0, 0.7), fit(1, 1, 0.7), fit(2, 0, 0.9), fit(2, 1, 0.9)):
        searches.add(event)
    assert (call.done, call.failed, call.seconds) == (6, 0, 6.0)
    assert [each.number for each in call.ranked(complete=True)] == [2, 1, 0]


def test_tasks_that_are_dropped_do_not_count() -> None:
    plain = started(search=None, candidates=None, splits=None, tasks=10, metric="")
    searches = Searches([plain, TasksFinished(1, 4, "a", 100.0, 8.0), ResultsDropped(1, 3)])
    call = only(searches)
    assert (call.done, call.seconds, call.total) == (3, 6.0, 10)


def test_a_total_that_was_wrong_is_none() -> None:
    """It is read from scikit-learn's own variables."""
    plain = started(search=None, candidates=None, splits=None, tasks=3, metric="")
    assert only(Searches([plain, TasksFinished(1, 4)])).total is None


def test_a_search_within_a_fit_of_another_belongs_to_that_fit() -> None:
    inner = started(2, search=2, parent=1)
    assert [[call.started.call for call in search] for search in Searches([started(), inner]).searches] == [[1]]


def test_the_summary_of_a_halving_search() -> None:
    first = [started(iteration=0), fit(0, 0, 0.9), fit(0, 1, 0.9), CallFinished(1, 110.0)]
    second = [started(2, iteration=1, candidates=1), fit(0, 0, 0.5, call=2), fit(0, 1, 0.75, call=2)]
    summary = Searches([*first, *second]).summary()
    assert summary == [
        {
            "name": "GridSearchCV",
            "estimator": "SVC",
            "candidates": 4,
            "splits": 2,
            "iterations": 2,
            "fits": 4,
            "reused": 0,
            "failed": 0,
            "finished": False,
            "metric": "score",
            "best": {"score": 0.625, "parameters": {"C": "0"}},
            "seconds": 10.0,
        }
    ]
    assert Searches([*first, *second, CallFinished(2, 112.0)]).summary()[0]["finished"]


@pytest.mark.parametrize(
    ("scores", "mean", "spread"),
    [
        ((1e200, -1e200), 0.0, math.inf),
        ((math.inf, -math.inf), math.nan, math.nan),
        ((1.5e308, 1.5e308), math.inf, math.inf),
    ],
)
def test_scores_too_large_for_their_sum(scores: tuple[float, float], mean: float, spread: float) -> None:
    searches = Searches([started(), fit(0, 0, scores[0]), fit(0, 1, scores[1])])
    [candidate] = only(searches).ranked()
    assert candidate.mean == pytest.approx(mean, nan_ok=True)
    assert candidate.spread == pytest.approx(spread, nan_ok=True)
    assert searches.summary()


def test_the_calls_of_a_search_are_found_by_one_of_them() -> None:
    searches = Searches([started(1, iteration=0), started(2, iteration=1), CallStarted(3, 100.0, "f", tasks=1)])
    [search] = searches.searches
    assert all(searches.search_of(call) == search for call in search)
    assert searches.search_of(searches.calls[3]) == []


def test_a_search_within_a_fit_belongs_to_that_fit() -> None:
    searches = Searches([started(1), started(2, search=2, parent=1)])
    assert searches.searches == [[searches.calls[1]]]
    assert searches.outermost == [searches.calls[1]]
    assert searches.search_of(searches.calls[2]) == []
