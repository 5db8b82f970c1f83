"""Which MLflow run a call of the program belongs to. MLflow is a stand-in: `make test-works-with` has the real one."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from skjob.engine.events import CallFinished, CallStarted, Event
from skjob.run.events.mlflow_runs import MlflowRuns

pytestmark = pytest.mark.unit


class Mlflow:
    """What of MLflow is looked at: the active run of a thread, the last one, and the server's address."""

    def __init__(self) -> None:
        self.active: str | None = None
        self.last: str | None = None

    def start(self, name: str) -> None:
        self.active = name

    def end(self) -> None:
        self.active, self.last = None, self.active

    def active_run(self) -> Any:
        return self.active and SimpleNamespace(info=SimpleNamespace(run_id=self.active))


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    known = Mlflow()
    module, fluent = ModuleType("mlflow"), ModuleType("mlflow.tracking.fluent")
    vars(module).update(active_run=known.active_run, get_tracking_uri=lambda: "sqlite:///mlflow.db")
    vars(fluent).update(_last_active_run_id=SimpleNamespace(get=lambda: known.last))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.tracking.fluent", fluent)
    return known


class Program:
    """Makes calls, and has what was sent of them."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reported: list[Event] = []
        self.runs = MlflowRuns(self.reported.append, self.sent.append)

    def begin(self, call: int, parent: int | None = None) -> None:
        self.runs.report(CallStarted(call, 0.0, "GridSearchCV", parent=parent))

    def end(self, call: int) -> None:
        self.runs.report(CallFinished(call, 1.0))

    def call(self, number: int) -> None:
        self.begin(number)
        self.end(number)

    @property
    def found(self) -> list[tuple[str, list[int]]]:
        return [(each["run_id"], each["calls"]) for each in self.sent]


def test_a_call_belongs_to_the_run_that_is_active(mlflow: Mlflow) -> None:
    program = Program()
    for number, name in enumerate(["a", "b"]):
        mlflow.start(name)
        program.call(number)
        mlflow.end()
    program.runs.close()
    assert program.found == [("a", [0]), ("b", [1])]
    assert program.sent[0]["tracking_uri"] == "sqlite:///mlflow.db"
    assert program.sent[0]["folder"] == os.getcwd()  # noqa: PTH109
    assert len(program.reported) == 4


def test_a_call_whose_start_another_thread_reports_belongs_to_the_run_at_its_end(mlflow: Mlflow) -> None:
    program = Program()
    program.begin(1)  # there no run is active
    mlflow.start("a")
    program.end(1)
    assert program.found == [("a", [1])]


def test_a_call_without_a_run_belongs_to_the_next(mlflow: Mlflow) -> None:
    program = Program()
    for number, name in enumerate(["a", "b"]):
        program.call(number)
        mlflow.start(name)
        mlflow.end()
    program.runs.close()
    assert program.found == [("a", [0]), ("b", [1])]


def test_a_call_without_a_run_belongs_to_one_that_begins_after_it_and_goes_on(mlflow: Mlflow) -> None:
    program = Program()
    program.call(1)
    mlflow.start("a")
    program.call(2)
    assert program.found == [("a", [1]), ("a", [2])]


def test_a_run_that_the_program_leaves_open_is_found(mlflow: Mlflow) -> None:
    program = Program()
    program.call(1)
    mlflow.start("a")
    program.runs.close()
    assert program.found == [("a", [1])]


def test_a_run_that_ended_before_a_call_is_not_its_own(mlflow: Mlflow) -> None:
    program = Program()
    mlflow.start("a")
    mlflow.end()
    program.call(1)
    program.runs.close()
    assert program.found == [("a", [])]


def test_a_call_after_all_runs_belongs_to_none(mlflow: Mlflow) -> None:
    program = Program()
    mlflow.start("a")
    program.call(1)
    mlflow.end()
    program.call(2)
    program.runs.close()
    assert program.found == [("a", [1])]


def test_a_run_without_calls_is_found(mlflow: Mlflow) -> None:
    program = Program()
    mlflow.start("a")
    mlflow.end()
    program.runs.close()
    assert program.found == [("a", [])]


def test_a_call_within_a_task_is_part_of_it(mlflow: Mlflow) -> None:
    program = Program()
    mlflow.start("a")
    program.begin(1)
    program.begin(2, parent=1)
    program.end(2)
    program.end(1)
    assert program.found == [("a", [1])]


def test_without_mlflow_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    program = Program()
    program.call(1)
    program.runs.close()
    assert program.sent == []
    assert len(program.reported) == 2
    assert "mlflow" not in sys.modules


def test_a_failure_of_mlflow_is_none_of_the_program(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the server is gone")

    monkeypatch.setattr(sys.modules["mlflow"], "active_run", fail)
    program = Program()
    program.call(1)
    program.runs.close()
    assert program.sent == []
    assert len(program.reported) == 2


def test_a_forked_child_sends_nothing(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    mlflow.start("a")
    mlflow.end()
    monkeypatch.setattr("os.getpid", lambda: -1)
    program.runs.close()
    assert program.sent == []
