"""Code that asks for what only the program's process can answer."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any

import pytest

from skjob.engine.fidelity.effects.process_questions import why_of_process


def _imports_a_module() -> Any:
    import multiprocessing as processes

    return processes.current_process()


def _imports_a_name() -> Any:
    from threading import main_thread

    return main_thread()


def _asks_inside() -> list[str]:
    return [multiprocessing.current_process().name for _ in range(2)]


def _within_a_function(kind: str) -> Callable[[], Any]:
    import threading as threads
    from multiprocessing import parent_process as parent

    return (lambda: parent()) if kind == "name" else lambda: threads.main_thread()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda name: globals()[name], "`globals`"),
        (lambda name: eval(name), "`eval`"),  # noqa: S307
        (lambda name: getattr(sys.modules["__main__"], name), "`sys.modules`"),
        (lambda: multiprocessing.current_process().name, "`current_process`"),
        (lambda: threading.main_thread(), "`main_thread`"),
        (lambda: parent_process(), "`parent_process`"),
        (_imports_a_module, "`current_process`"),
        (_imports_a_name, "`main_thread`"),
        (_asks_inside, "`current_process`"),
        (lambda: __import__("threading").main_thread(), "`main_thread`"),
        (lambda: multiprocessing.get_context("spawn").parent_process(), "`parent_process`"),
        (_within_a_function("module"), "`main_thread`"),
        (_within_a_function("name"), "`parent_process`"),
    ],
)
def test_what_is_asked_is_named_if_plain_python_runs_the_task_in_the_programs_process(
    function: Callable[..., Any], words: str
) -> None:
    assert words in why_of_process([function], shares_memory=True)
    assert why_of_process([function], shares_memory=False) == ""


def test_the_arguments_of_the_program_are_its_own_in_any_case() -> None:
    assert "`sys.argv`" in why_of_process([lambda: sys.argv], shares_memory=False)


def test_numbers_of_processes_and_threads_are_the_workers() -> None:
    assert why_of_process([lambda: (os.getpid(), threading.get_ident())], shares_memory=True) == ""


def test_methods_of_the_same_name_ask_nothing() -> None:
    def predicts(model: Any) -> Any:
        return model.eval()

    assert why_of_process([predicts, int], shares_memory=True) == ""


def test_names_of_the_programs_own_ask_nothing() -> None:
    def describes(current_process: str, steps: Any) -> Any:
        main_thread = steps.parent_process(current_process, get_ident=3)
        return main_thread, getpid(), steps

    assert why_of_process([describes], shares_memory=True) == ""


def getpid() -> int:
    """Stand in for a function of the program."""
    return 3
