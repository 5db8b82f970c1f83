"""What is logged to MLflow of a run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from past_runs import EPOCH, RUN_ID, a_forest, a_record, a_search

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, ResultsDropped
from skjob.report.mlflow.entries import Entries, entries_of

pytestmark = pytest.mark.unit


def numbered(events: list[Event], call: int) -> list[Event]:
    """The same events as another call, and another search."""
    changed = [replace(event, call=call) for event in events]
    return [replace(each, search=call) if isinstance(each, CallStarted) else each for each in changed]


def a_validation(call: int, scores: list[float], metric: str = "score") -> list[Event]:
    fits = [FitFinished(call, task, split=task, scores={metric: score}) for task, score in enumerate(scores)]
    return [CallStarted(call, EPOCH, "cross_validate", splits=len(scores)), *fits, CallFinished(call, EPOCH + 1)]


def a_run(name: str, *calls: int) -> dict[str, object]:
    return {"run_id": name, "tracking_uri": "", "folder": "", "calls": [*calls]}


def test_a_search_gives_its_best() -> None:
    record = a_record(mlflow=[a_run("a", 1)])
    found = entries_of(record, a_search())
    [own] = found.own
    [best] = [each.best for each in found.details.searches if each.best]
    assert own.metrics == [("skjob.best_score", best.candidate.mean, 0)]
    assert own.tags["skjob.run_id"] == RUN_ID
    assert own.tags["skjob.best_parameters"] == ", ".join(f"{k}={v}" for k, v in best.candidate.parameters.items())


def test_the_whole_run_has_its_fits_seconds_and_cost() -> None:
    whole = entries_of(a_record(), [*a_search(), *a_forest()]).whole
    assert {name: value for name, value, _ in whole.metrics} == {
        "skjob.seconds": 43.5, "skjob.fits": 160, "skjob.reused_fits": 15, "skjob.failed_fits": 5, "skjob.cost": 0.12,
    }  # fmt: skip
    assert whole.tags == {"skjob.outcome": "succeeded", "skjob.place": "local", "skjob.currency": "EUR"}


def test_without_prices_there_is_no_cost() -> None:
    whole = entries_of(a_record(cost={}), a_search()).whole
    assert "skjob.cost" not in {name for name, _, _ in whole.metrics}
    assert "skjob.currency" not in whole.tags


def test_each_mlflow_run_has_the_scores_of_its_own_calls() -> None:
    events = [*a_search(4), *numbered([*a_search(8)], 2), *a_validation(3, [0.5, 0.7])]
    found = entries_of(a_record(mlflow=[a_run("a", 1), a_run("b", 2, 3), a_run("c")]), events)
    a, b, c = found.own
    first, second = (each.best.candidate.mean for each in found.details.searches if each.best)
    assert a.metrics == [("skjob.best_score", first, 0)]
    assert b.metrics == [("skjob.best_score", second, 0), ("skjob.cross_validation.score", 0.6, 0)]
    assert (c.metrics, c.tags) == ([], {"skjob.run_id": RUN_ID})


def test_several_searches_of_one_run_are_its_steps() -> None:
    events = [*a_search(4), *numbered([*a_search(8)], 2)]
    [own] = entries_of(a_record(mlflow=[a_run("a", 1, 2)]), events).own
    assert [(name, step) for name, _, step in own.metrics] == [("skjob.best_score", 0), ("skjob.best_score", 1)]


def test_a_new_run_gets_all_of_it() -> None:
    [own] = entries_of(a_record(), [*a_search(4), *a_validation(2, [1.0, 3.0])]).own
    assert [name for name, _, _ in own.metrics] == ["skjob.best_score", "skjob.cross_validation.score"]


def test_results_that_were_dropped_do_not_count() -> None:
    started, *fits, ended = a_validation(1, [0.5, 0.7])
    again = [replace(fits[1], scores={"score": 0.9})]
    [own] = entries_of(a_record(), [started, *fits, ResultsDropped(1, 1), *again, ended]).own
    assert own.metrics == [("skjob.cross_validation.score", 0.7, 0)]


def test_a_metric_has_a_name_and_a_value_that_mlflow_takes() -> None:
    entries = Entries()
    entries.add("cross_validation.größe: 5 %", 1.0)
    entries.add("none", None)
    entries.add("nan", math.nan)
    assert entries.metrics == [("skjob.cross_validation.gr__e_ 5 _", 1.0, 0)]


def test_a_run_that_failed_early_has_its_outcome() -> None:
    record = a_record(mlflow=[a_run("a")], seconds=None)
    record.outcome.status = "failed"
    found = entries_of(record, [])
    assert found.own[0].metrics == []
    assert found.whole.tags["skjob.outcome"] == "failed"
