"""Test the progress line, as text and as numbers."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.deploy.scaling.loop import Progress
from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, TasksFinished
from skjob.run.events.searches import Searches
from skjob.run.live.progress_text import LATER, LineInterval, describe_progress, format_rough_duration, progress_numbers


def search(call: int = 1, **fields: Any) -> CallStarted:
    known = {"search": call, "candidates": 2, "splits": 1, "tasks": 2, "metric": "score"}
    return CallStarted(call, 100.0, "GridSearchCV", "SVC", **{**known, **fields})


def fit(call: int = 1, **fields: Any) -> FitFinished:
    return FitFinished(
        call, 0, 0, 0, {"C": "1"}, **{"scores": {"score": 0.5}, "started": 100.0, "seconds": 10, **fields}
    )


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([], "39 tasks done, 8 running"),
        ([search()], "0 of 2 fits done, 8 running"),
        ([search(), fit()], "1 of 2 fits done, 8 running, about 10 s left, best 0.5"),
        ([search(), fit(status=FitStatus.REUSED, seconds=0)], "1 of 2 fits done (1 reused), 8 running, best 0.5"),
        (
            [search(metric="f1", metric_is_first=True), fit(scores={"f1": 0.25, "recall": 1.0})],
            "1 of 2 fits done, 8 running, about 10 s left, best 0.25 by f1",
        ),
        ([search(iteration=1), fit()], "iteration 1: 1 of 2 fits done, 8 running, about 10 s left, best 0.5"),
        ([CallStarted(1, 100.0, "fetch", tasks=1)], "0 of 1 task done, 8 running"),
        ([CallStarted(1, 100.0, "fetch"), TasksFinished(1, 7)], "7 tasks done, 8 running"),
        ([search(), CallFinished(1, 101.0)], "39 tasks done, 8 running"),
        ([CallStarted(1, 100.0, "fetch"), search(2, parent=1)], "0 tasks done, 8 running"),
        (
            [search(), fit(), CallStarted(2, 100.0, "ForestLike", tasks=100)],
            "GridSearchCV: 1 of 2 fits done, about 10 s left, best 0.5; ForestLike: 0 of 100 tasks done; 8 running",
        ),
    ],
)
def test_how_far_a_run_is(events: list[Event], text: str) -> None:
    assert describe_progress(Searches(events), Progress(39, 20, 8), 110.0) == text


def test_nothing_is_known_before_the_scheduler_and_the_program_say_something() -> None:
    assert describe_progress(Searches(), None, 110.0) == ""
    unknown = {"done": None, "running": None, "waiting": None, "calls": []}
    assert progress_numbers(Searches(), None, 110.0) == unknown


def test_how_far_a_run_is_in_numbers() -> None:
    assert progress_numbers(Searches([search(), fit()]), Progress(39, 20, 8), 110.0) == {
        "done": 39,
        "running": 8,
        "waiting": 12,
        "calls": [
            {
                "call": 1,
                "name": "GridSearchCV",
                "done": 1,
                "total": 2,
                "reused": 0,
                "failed": 0,
                "seconds_left": 10.0,
                "best": 0.5,
            }
        ],
    }


def test_lines_come_every_ten_seconds_and_later_every_minute() -> None:
    interval = LineInterval()
    early = [second for second in range(35) if interval.is_due(1000.0 + second)]
    assert early == [10, 20, 30]
    late = [second for second in range(int(LATER), int(LATER) + 150) if interval.is_due(1000.0 + second)]
    assert late == [LATER, LATER + 60, LATER + 120]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (29.4, "29 s"), (99.6, "2 min"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_rough_duration(seconds) == text
