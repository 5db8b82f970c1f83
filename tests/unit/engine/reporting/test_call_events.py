"""Test the events of one call, without a cluster."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import Future
from operator import itemgetter
from typing import Any

import pytest
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection._validation import _fit_and_score
from sklearn.tree import DecisionTreeClassifier

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, TasksFinished, from_line
from skjob.engine.reporting import call_events
from skjob.engine.reporting.call_events import CallEvents, RunEvents, as_run_events
from skjob.engine.task import Outcome

RESULT = {"fit_error": None, "test_scores": 0.5, "fit_time": 0.1, "score_time": 0.01}


def fit_call(candidate: int, split: int = 0) -> Any:
    keywords = {"parameters": {"C": candidate}, "candidate_progress": (candidate, 2), "split_progress": (split, 2)}
    return _fit_and_score, (DecisionTreeClassifier(),), keywords


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event]) -> RunEvents:
    return RunEvents(events.append)


def begun(run: RunEvents, first: Any, tasks: int | None = None) -> CallEvents:
    return run.begin_call(Parallel(), first, tasks, sys._getframe())


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(call_events, "time", clock)
    return clock


def test_a_batch_of_fits(run: RunEvents, events: list[Event], clock: Clock) -> None:
    call = begun(run, fit_call(0))
    call.begin_on_workers(0)
    outcomes = [Outcome(True, b"", 2.0, worker="a", ended=510.0), Outcome(True, b"", 1.0, worker="a", ended=512.0)]
    clock.now = 1013.0  # the worker's clock is 501 s behind
    call.batch(2, [fit_call(1), fit_call(1, 1)], [RESULT, RESULT], outcomes)
    fits = [event for event in events if isinstance(event, FitFinished)]
    assert [(fit.task, fit.candidate, fit.split, fit.parameters) for fit in fits] == [
        (2, 1, 0, {"C": "1"}), (3, 1, 1, None),
    ]  # fmt: skip
    assert [(fit.worker, fit.started, fit.seconds) for fit in fits] == [("a", 1011.0, 2.0), ("a", 1012.0, 1.0)]


def test_the_start_is_reported_once_and_the_end_with_it(run: RunEvents, events: list[Event]) -> None:
    call = begun(run, (abs, (1,), {}), 3)
    call.begin()
    call.begin()
    call.end(ok=False)
    start, end = events
    assert start == CallStarted(1, start.at, "abs", tasks=3)  # type: ignore[union-attr]
    assert end == CallFinished(1, end.at, ok=False)  # type: ignore[union-attr]


def test_a_call_of_a_moment_here_is_left_out(run: RunEvents, events: list[Event], clock: Clock) -> None:
    call = begun(run, (abs, (1,), {}))
    call.count_here(5)
    clock.now += 0.05
    call.end(ok=True)
    assert events == []


def test_tasks_here_are_reported_together(run: RunEvents, events: list[Event], clock: Clock) -> None:
    call = begun(run, (abs, (1,), {}))
    for _ in range(20):
        clock.now += 0.0625
        call.count_here(1)
    clock.now += 0.01
    call.count_here(1)
    call.end(ok=True)
    counted = [event for event in events if isinstance(event, TasksFinished)]
    assert [event.tasks for event in counted] == [2] * 10 + [1]
    assert counted[0] == TasksFinished(1, 2, "", 1000.0, 0.125)
    assert isinstance(events[0], CallStarted)
    assert events[0].at == 1000.0


def test_a_fit_here_is_reported_at_once(run: RunEvents, events: list[Event]) -> None:
    call = begun(run, fit_call(0))
    call.ran_here(0, fit_call(0), RESULT, 0.25)
    call.ran_here(1, fit_call(1), RESULT, 0.0, reused=True)
    fits = [event for event in events if isinstance(event, FitFinished)]
    assert [(fit.seconds, fit.status) for fit in fits] == [(0.25, FitStatus.DONE), (0.0, FitStatus.REUSED)]


def test_parameters_are_reported_again_after_results_were_dropped(run: RunEvents, events: list[Event]) -> None:
    """A reader may have dropped the fit that had them."""
    call = begun(run, fit_call(0))
    call.ran_here(0, fit_call(0), RESULT, 0.25)
    call.drop_results(0)
    call.ran_here(0, fit_call(0), RESULT, 0.25)
    assert [event.parameters for event in events if isinstance(event, FitFinished)] == [{"C": "0"}] * 2


def test_a_call_within_a_task_here_has_a_parent(run: RunEvents, events: list[Event]) -> None:
    outer, alone = begun(run, fit_call(0)), begun(run, (abs, (1,), {}))

    def task() -> dict[str, Any]:
        begun(run, (abs, (1,), {})).begin()
        return RESULT

    [(function, arguments, keywords)] = outer.reporting([(task, (), {})], [0])
    function(*arguments, **keywords)
    alone.begin()
    starts = [event for event in events if isinstance(event, CallStarted)]
    assert [(start.call, start.parent) for start in starts] == [(1, None), (2, 1), (3, None)]


def test_a_reporting_function_is_sent_to_processes_as_itself(run: RunEvents) -> None:
    [(function, _, _)] = begun(run, fit_call(0)).reporting([(itemgetter(1), (), {})], [0])
    sent = pickle.loads(pickle.dumps(function))  # noqa: S301 - made here
    assert type(sent) is itemgetter
    assert sent("ab") == "b"


@pytest.mark.parametrize("result", [None, {}, {"fit_error": None, "test_scores": "none"}])
def test_an_event_that_cannot_be_made_is_left_out(run: RunEvents, events: list[Event], result: Any) -> None:
    call = begun(run, fit_call(0))
    call.ran_here(0, fit_call(0), result, 0.25)
    call.end(ok=True)
    assert [type(event) for event in events] == [CallStarted, CallFinished]


def test_one_numbering_for_all_backends_of_a_run(run: RunEvents) -> None:
    assert as_run_events(run) is run
    assert as_run_events(None) is None


def test_a_search_is_numbered_by_its_fit(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by scikit-learn's frames in any version: those before 1.9 pass no `caller`."""
    run = RunEvents(events.append)
    original = Parallel.__call__

    def noting(parallel: Parallel, iterable: Any) -> Any:
        tasks = list(iterable)
        function, arguments, keywords = tasks[0]
        first = function, arguments, {name: value for name, value in keywords.items() if name != "caller"}
        run.begin_call(parallel, first, None, sys._getframe(1)).begin()
        return original(parallel, tasks)

    monkeypatch.setattr(Parallel, "__call__", noting)
    search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, 3]}, cv=2)
    for _ in range(2):
        search.fit([[0], [1], [0], [1]], [0, 1, 0, 1])
    Parallel()(delayed(abs)(number) for number in range(2))
    starts = [event for event in events if isinstance(event, CallStarted)]
    assert [(start.name, start.search, start.candidates, start.splits, start.tasks) for start in starts] == [
        ("GridSearchCV", 1, 3, 2, 6), ("GridSearchCV", 2, 3, 2, 6), ("abs", None, None, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError()])
def test_joblib_hears_of_a_fit_in_a_process_however_it_ends(run: RunEvents, error: BaseException) -> None:
    class Backend:
        def submit(self, batch: Any, callback: Any) -> None:
            callback(batch.future)

    class Batch:
        items = (fit_call(0),)
        future: Future[Any] = Future()

    backend: Any = Backend()
    begun(run, fit_call(0)).report_processes(backend)
    Batch.future.set_exception(error)
    heard: list[Any] = []
    backend.submit(Batch, heard.append)
    assert heard == [Batch.future]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"kind":"fit","call":1,"task":0,"scores":{"score":1' + "0" * 400 + "}}",
        '{"kind":"fit","call":1,"task":0,"seconds":1.0,"started":1' + "0" * 400 + "}",
        '{"kind":"end","call":1,"at":NaN}',
    ],
)
def test_a_line_that_the_program_has_written_itself_is_no_event(line: str) -> None:
    assert from_line(line) is None


def test_a_generator_call_of_a_moment_here_is_left_out(run: RunEvents, events: list[Event], clock: Clock) -> None:
    call = begun(run, (abs, (1,), {}))
    call.find_origin()
    call.count_here(1)
    call.end(ok=True)
    assert events == []
    longer = begun(run, (abs, (1,), {}))
    longer.find_origin()
    clock.now += 1
    longer.count_here(1)
    longer.end(ok=True)
    assert [type(event) for event in events] == [CallStarted, TasksFinished, CallFinished]
    assert events[0].name == "abs"  # type: ignore[union-attr]
