"""Code that asks for what only the program's process can answer."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from skjob.engine.fidelity.effects.process_questions import why_of_process


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda name: globals()[name], "`globals`"),
        (lambda name: eval(name), "`eval`"),  # noqa: S307
        (lambda name: getattr(sys.modules["__main__"], name), "`sys.modules`"),
        (lambda: os.getpid(), "`getpid`"),
        (lambda: multiprocessing.current_process().name, "`current_process`"),
        (lambda: threading.main_thread(), "`main_thread`"),
    ],
)
def test_what_is_asked_is_named_if_plain_python_runs_the_task_in_the_programs_process(
    function: Callable[..., Any], words: str
) -> None:
    assert words in why_of_process([function], shares_memory=True)
    assert why_of_process([function], shares_memory=False) == ""


def test_the_arguments_of_the_program_are_its_own_in_any_case() -> None:
    assert "`sys.argv`" in why_of_process([lambda: sys.argv], shares_memory=False)


def test_methods_of_the_same_name_ask_nothing() -> None:
    def predicts(model: Any) -> Any:
        return model.eval()

    assert why_of_process([predicts, int], shares_memory=True) == ""
