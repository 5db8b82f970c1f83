"""Test the closing lines of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
from live_states import BEGAN, begun, fits, search, with_cluster

from skjob.cli.live.summary import summary
from skjob.engine.events import CallStarted, FitFinished, FitStatus, TasksFinished
from skjob.run.live.state import RunState
from skjob.run.live.wording import number
from skjob.run.record import Record


def closing(state: RunState, **fields: Any) -> list[str]:
    return summary(state, Record("20261126-000000-abcdef", "train.py", [], "", {}, **fields))


def test_a_search() -> None:
    state = with_cluster(begun(search(metric="accuracy"), *fits(160, reused=60)))
    cost = {"most": 2.0, "amount": 0.12, "currency": "EUR"}
    assert closing(state, seconds=41.5, cost=cost) == [
        "time: 41.5 s",
        "done: 160 fits, 60 of them reused",
        "workers: 2 at most",
        "cost: 0.12 EUR of 2.00 EUR",
        "best of GridSearchCV(SVC): accuracy 0.93100 ± 0.014",
        "  with C=31, kernel=rbf",
    ]


def test_a_run_that_did_nothing() -> None:
    assert closing(RunState()) == []


def test_a_forest_and_failed_fits() -> None:
    failed = FitFinished(2, 0, 0, 0, {"C": "1"}, {"score": math.nan}, status=FitStatus.FAILED, error="x")
    forest = CallStarted(1, BEGAN, "RandomForestClassifier", tasks=300)
    assert closing(begun(forest, TasksFinished(1, 300), search(2), failed)) == [
        "done: 1 fit, 1 failed (`skjob show` says why), 300 tasks",
    ]


def test_a_search_within_a_fit_is_counted_in_that_fit() -> None:
    outer = CallStarted(1, BEGAN, "cross_validate", "GridSearchCV", splits=4)
    done = FitFinished(1, 0, None, 0, None, {"score": 0.5})
    state = begun(outer, search(2, parent=1), *fits(10, call=2, reused=10), done)
    assert closing(state)[0] == "done: 1 fit"


def test_of_many_searches_those_with_the_most_fits() -> None:
    sizes = {1: 10, 2: 5, 3: 10, 4: 5, 5: 10}
    events = [
        event for call, size in sizes.items() for event in (search(call, estimator=f"E{call}"), *fits(size, call=call))
    ]
    lines = closing(begun(*events))
    assert lines[1] == "searches: 5, the 3 with the most fits:"
    assert [line for line in lines if line.startswith("best")] == [
        f"best of GridSearchCV(E{call}): score 0.90100 ± 0.014" for call in (1, 3, 5)
    ]


def test_values_of_a_program_are_text() -> None:
    lines = closing(begun(search(metric="a\rb", estimator="\x1b[31m"), *fits(5, parameters={"\u202e": "x\ny"})))
    assert lines[-2:] == [r"best of GridSearchCV(\x1b[31m): a\rb 0.90000 ± 0.014", r"  with \u202e=x\ny"]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.9655, "0.96550"),
        (1.0, "1.0000"),
        (-1234.56, "-1234.6"),
        (12345.0, "12345"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_scores(score: float, text: str) -> None:
    assert number(score) == text
