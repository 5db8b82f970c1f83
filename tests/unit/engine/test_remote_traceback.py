"""An error of a task is shown once, as if it had been raised here."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from skjob.engine.remote_traceback import RemoteTraceback, as_one, frames_of, with_source

FRAME = '  File "train.py", line 3, in work\n    raise ValueError("deep")\n'
TEXT = f"Traceback (most recent call last):\n{FRAME}ValueError: deep\n"


def _caught(error: Exception, text: str) -> Any:
    error.__cause__ = RemoteTraceback(frames_of(text, error))
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_the_cause_does_not_repeat_the_message() -> None:
    shown = "".join(traceback.format_exception(_caught(ValueError("deep"), TEXT)))
    assert shown.count("ValueError: deep") == 1
    assert FRAME in shown


def test_frames_of_another_error_stay_with_its_message() -> None:
    assert frames_of(TEXT, KeyError("other")) == TEXT


def test_an_error_of_a_task_has_one_traceback() -> None:
    shown = as_one(_caught(ValueError("deep"), TEXT))
    assert shown is not None
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith(f"{FRAME}ValueError: deep\n")
    assert shown.count("Traceback") == shown.count("ValueError: deep") == 1
    assert "in _caught\n" in shown


def test_notes_are_a_part_of_the_message() -> None:
    error = ValueError("deep")
    error.add_note("and more")
    shown = as_one(_caught(error, f"{TEXT}and more\n"))
    assert shown is not None
    assert shown.endswith(f"{FRAME}ValueError: deep\nand more\n")
    assert shown.count("and more") == 1


def test_what_led_to_an_error_in_the_task_stands_before_it() -> None:
    first = "Traceback (most recent call last):\nKeyError: 1\n\nDuring handling of it, another one:\n\n"
    shown = as_one(_caught(ValueError("deep"), first + TEXT))
    assert shown is not None
    assert shown.startswith(first)
    assert shown.count("ValueError: deep") == 1


@pytest.mark.parametrize("cause", [None, KeyError(1), RemoteTraceback("no traceback")])
def test_other_errors_are_shown_as_they_are(cause: BaseException | None) -> None:
    error = ValueError("here")
    error.__cause__ = cause
    assert as_one(error) is None


def test_an_error_that_is_its_own_cause() -> None:
    error = ValueError("here")
    error.__cause__ = error
    assert as_one(error) is None
    other = KeyError("other")
    error.__cause__, other.__cause__ = other, error
    assert as_one(error) is None


def test_a_remote_traceback_gets_the_lines_that_only_the_client_has(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("def fit():\n    return 1 / 0\n")
    text = (
        "Traceback (most recent call last):\n"
        '  File "/opt/there/only.py", line 3, in call\n'
        "    return function()\n"
        f'  File "{script}", line 2, in fit\n'
        "ZeroDivisionError: division by zero\n"
    )
    assert with_source(text) == text.replace("in fit\n", "in fit\n    return 1 / 0\n")
