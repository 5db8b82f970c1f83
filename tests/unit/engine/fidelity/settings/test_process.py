"""Settings of a whole process: applied for the first task that has them, undone after the last."""

import ctypes
import locale
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gates import DEADLINE, wait_for_waiting

from skjob.engine.cancellation import TaskCancelled
from skjob.engine.fidelity.settings.process import (
    NO_SETTINGS,
    CannotApply,
    Gate,
    HandlerElsewhere,
    ProcessSettings,
    Undo,
    WarningFilter,
    WorkingDirectory,
    apply_here,
)


def _variable(value: str) -> ProcessSettings:
    return ProcessSettings(variables=(("SKJOB_TEST_SETTING", value),))


A, B = _variable("a"), _variable("b")


class Tasks:
    """Tasks in threads of their own, each inside a gate until it is let out. Knows what was applied, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = Gate(self._apply)
        self._pool = ThreadPoolExecutor()

    def _apply(self, settings: ProcessSettings, undo: list[Undo]) -> None:
        value = str(settings.variables[0][1])
        undo.append(lambda: self.log.append(f"undo {value}"))
        self.log.append(f"apply {value}")

    def begin(self, settings: ProcessSettings, *, joins: bool = False) -> "Task":
        task = Task()
        task.ended = self._pool.submit(self._run, task, settings, joins)
        return task

    def _run(self, task: "Task", settings: ProcessSettings, joins: bool) -> None:
        task.thread = threading.get_ident()
        with self.gate.within(settings, joins=joins):
            task.inside.set()
            assert task.let_out.wait(DEADLINE)

    def wait_for_waiting(self, number: int) -> None:
        """Return when so many tasks wait at the gate."""
        wait_for_waiting(self.gate, number)

    def close(self) -> None:
        self._pool.shutdown()


class Task:
    """One of them."""

    def __init__(self) -> None:
        self.inside, self.let_out = threading.Event(), threading.Event()
        self.thread = 0
        self.ended: Future[None] = Future()

    def end(self) -> None:
        self.let_out.set()
        self.ended.result(DEADLINE)


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    tasks = Tasks()
    yield tasks
    tasks.close()


def test_tasks_with_the_same_settings_share_them(tasks: Tasks) -> None:
    first, second = tasks.begin(A), tasks.begin(_variable("a"))
    assert first.inside.wait(DEADLINE)
    assert second.inside.wait(DEADLINE)
    first.end()
    assert tasks.log == ["apply a"]
    second.end()
    assert tasks.log == ["apply a", "undo a"]


@pytest.mark.parametrize(("mine", "other"), [(A, B), (A, NO_SETTINGS), (NO_SETTINGS, A)])
def test_other_settings_wait_until_the_last_has_ended(
    tasks: Tasks, mine: ProcessSettings, other: ProcessSettings
) -> None:
    first, second = tasks.begin(mine), tasks.begin(mine)
    assert first.inside.wait(DEADLINE)
    assert second.inside.wait(DEADLINE)
    late = tasks.begin(other)
    tasks.wait_for_waiting(1)
    first.end()
    assert not late.inside.is_set()
    second.end()
    assert late.inside.wait(DEADLINE)
    late.end()
    assert sum(entry.startswith("apply") for entry in tasks.log) == sum(entry.startswith("undo") for entry in tasks.log)


def test_one_that_waits_is_not_overtaken(tasks: Tasks) -> None:
    first = tasks.begin(A)
    assert first.inside.wait(DEADLINE)
    other = tasks.begin(B)
    tasks.wait_for_waiting(1)
    later = tasks.begin(A)
    tasks.wait_for_waiting(2)
    assert not later.inside.is_set()
    first.end()
    assert other.inside.wait(DEADLINE)
    other.end()
    assert later.inside.wait(DEADLINE)
    later.end()
    assert tasks.log == ["apply a", "undo a", "apply b", "undo b", "apply a", "undo a"]


def test_what_a_task_has_sent_joins_it(tasks: Tasks) -> None:
    """Else the task would wait for it, it for the one in between, and that for the task."""
    first = tasks.begin(A)
    assert first.inside.wait(DEADLINE)
    other = tasks.begin(B)
    tasks.wait_for_waiting(1)
    inner = tasks.begin(A, joins=True)
    assert inner.inside.wait(DEADLINE)
    inner.end()
    first.end()
    other.end()


def test_a_task_that_waits_can_be_stopped(tasks: Tasks) -> None:
    first = tasks.begin(A)
    assert first.inside.wait(DEADLINE)
    other = tasks.begin(B)
    tasks.wait_for_waiting(1)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(other.thread), ctypes.py_object(TaskCancelled))
    assert isinstance(other.ended.exception(DEADLINE), TaskCancelled)
    tasks.wait_for_waiting(0)
    first.end()
    third = tasks.begin(B)
    assert third.inside.wait(DEADLINE)
    third.end()


def test_what_was_made_before_a_failure_is_undone() -> None:
    log: list[str] = []

    def apply(settings: ProcessSettings, undo: list[Undo]) -> None:
        undo.append(lambda: log.append("undone"))
        raise CannotApply("not here")

    gate = Gate(apply)
    with pytest.raises(CannotApply), gate.within(A):
        raise AssertionError("not reached")
    assert log == ["undone"]
    assert gate.active is None
    with gate.within(NO_SETTINGS):
        pass


# ------------------------------------------------------------------------------------------------ each setting


class OfTheScript(UserWarning):
    """A category that only the script has."""


def _is_ignored() -> bool:
    with pytest.MonkeyPatch.context() as patch:
        shown: list[Any] = []
        patch.setattr(warnings, "showwarning", lambda *arguments, **_: shown.append(arguments))
        warnings.warn("x", OfTheScript, stacklevel=1)
    return not shown


@pytest.mark.parametrize(
    ("settings", "read", "value"),
    [
        (_variable("set"), lambda: os.environ.get("SKJOB_TEST_SETTING"), "set"),
        (ProcessSettings(variables=(("HOME", None),)), lambda: "HOME" in os.environ, False),
        (ProcessSettings(recursion_limit=4321), sys.getrecursionlimit, 4321),
        (ProcessSettings(integer_digits=5000), sys.get_int_max_str_digits, 5000),
        (ProcessSettings(socket_timeout=(7.5,)), socket.getdefaulttimeout, 7.5),
        (ProcessSettings(locales=((locale.LC_NUMERIC, "C.UTF-8"),)), lambda: locale.setlocale(locale.LC_NUMERIC),
         "C.UTF-8"),
        (ProcessSettings(pandas_options=(("display.precision", 3),)), lambda: pd.get_option("display.precision"), 3),
        (ProcessSettings(filters=(WarningFilter.of(("ignore", None, OfTheScript, None, 0)),)), _is_ignored, True),
        (ProcessSettings(handled=("some.logger",)), lambda: bool(logging.getLogger("some.logger").handlers), True),
    ],
    ids=["set", "removed", "recursion", "digits", "socket", "locale", "pandas", "filters", "handlers"],
)  # fmt: skip
def test_a_setting_is_made_and_undone(settings: ProcessSettings, read: Callable[[], Any], value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = read()
        assert before != value
        with Gate(apply_here).within(settings):
            assert read() == value
        assert read() == before


def test_the_folder_is_entered_if_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    found = (tmp_path / "inner").stat()
    same = WorkingDirectory(str(tmp_path / "inner"), found.st_dev, found.st_ino)
    with Gate(apply_here).within(ProcessSettings(folder=same)):
        assert Path.cwd() == tmp_path / "inner"
    assert Path.cwd() == tmp_path
    other = WorkingDirectory(str(tmp_path / "inner"), found.st_dev, found.st_ino + 1)
    missing = WorkingDirectory(str(tmp_path / "none"), 0, 0)
    for folder in (other, missing):
        with Gate(apply_here).within(ProcessSettings(folder=folder)):
            assert Path.cwd() == tmp_path


def test_a_setting_that_cannot_be_made_is_told_and_the_others_are_undone() -> None:
    settings = ProcessSettings(variables=(("SKJOB_TEST_SETTING", "secret"),), locales=((locale.LC_NUMERIC, "none"),))
    message = r"^a worker cannot have the locale of the program: Error: "
    with pytest.raises(CannotApply, match=message) as raised, Gate(apply_here).within(settings):
        raise AssertionError("not reached")
    assert "secret" not in str(raised.value)
    assert "SKJOB_TEST_SETTING" not in os.environ


def test_values_of_variables_are_not_shown() -> None:
    assert "secret" not in repr(_variable("secret"))


def test_a_stand_in_for_handlers_leaves_other_threads_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("skjob_tests.without_handlers")
    logger.propagate = False
    with Gate(apply_here).within(ProcessSettings(handled=(logger.name,))):
        logger.warning("shown by the last resort")
        logger.info("not shown")
        assert [type(handler) for handler in logger.handlers] == [HandlerElsewhere]
    assert capsys.readouterr().err == "shown by the last resort\n"
    assert logger.handlers == []
