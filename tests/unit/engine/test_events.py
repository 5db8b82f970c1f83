"""Events as lines of JSON, and back."""

from __future__ import annotations

import json
import math

import pytest

from skjob.engine.events import (
    CallFinished,
    CallStarted,
    Event,
    FitFinished,
    FitStatus,
    ResultsDropped,
    TasksFinished,
    from_line,
    to_line,
)

EVENTS = [
    CallStarted(1, 12.5, "GridSearchCV", "SVC", search=1, candidates=4, splits=5, tasks=20, metric="score"),
    CallStarted(2, 13.0, "RandomForestClassifier", tasks=None, parent=1),
    FitFinished(1, 0, 0, 0, {"C": "1.0"}, {"score": 0.5}, {"score": 0.75}, 0.1, 0.01, "worker-0", 13.0, 0.11),
    FitFinished(1, 3, 0, 3, scores={"score": -math.inf}, status=FitStatus.REUSED, started=13.1),
    TasksFinished(2, 8, "worker-1", 13.0, 1.5),
    ResultsDropped(2, 4),
    CallFinished(1, 20.0),
    CallFinished(2, 20.5, ok=False),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    line = to_line(event)
    assert line.endswith("\n")
    assert from_line(line) == event


def test_a_score_of_nan_is_null() -> None:
    line = to_line(FitFinished(1, 0, scores={"score": math.nan}, status=FitStatus.FAILED, error="ValueError: no"))
    assert json.loads(line)["scores"] == {"score": None}
    read = from_line(line)
    assert isinstance(read, FitFinished)
    assert math.isnan(read.scores["score"])


def test_fields_with_their_default_are_left_out() -> None:
    assert json.loads(to_line(FitFinished(1, 0))) == {"kind": "fit", "call": 1, "task": 0}


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "3", '{"kind": "unheard"}', '{"kind": "fit", "call": 1}',
        '{"kind": "fit", "call": 1, "task": 0, "status": "lost"}', '{"kind": "fit", "call": 1, "task": 0, "scores": 3}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_none(line: str) -> None:
    assert from_line(line) is None


def test_fields_of_a_later_version_are_ignored() -> None:
    assert from_line('{"kind": "end", "call": 1, "at": 2.0, "mood": "good"}') == CallFinished(1, 2.0)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind":"call","call":[],"at":1.0,"name":"x"}',
        '{"kind":"call","call":1,"at":"1","name":"x"}',
        '{"kind":"call","call":1,"at":1.0,"name":"x","splits":"2"}',
        '{"kind":"fit","call":1,"task":0,"parameters":{"C":1}}',
        '{"kind":"fit","call":1,"task":0,"parameters":[]}',
        '{"kind":"fit","call":1,"task":0,"scores":{"score":[]}}',
        '{"kind":"fit","call":1,"task":0,"status":"lost"}',
        '{"kind":"tasks","call":1,"tasks":null}',
        '{"kind":"end","call":1,"at":1.0,"ok":"no"}',
    ],
)
def test_a_line_that_the_program_has_written_itself_is_no_event(line: str) -> None:
    assert from_line(line) is None
