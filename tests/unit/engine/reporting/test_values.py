"""Test values of parameters as short text."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from skjob import errors
from skjob.engine.reporting.fits import describe_parameters, last_line
from skjob.engine.reporting.values import short_text


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (numpy.float64(606.2812345), "606.281"),
        (numpy.float32(0.1), "0.1"),
        (1e-05, "1e-05"),
        (0.1 + 0.2, "0.3"),
        (numpy.int64(7), "7"),
        (numpy.bool_(True), "True"),
        (numpy.str_("rbf"), "'rbf'"),
        ({0: numpy.float64(0.5)}, "{0: 0.5}"),
        (["line\n", "other"], "['line\\n', 'other']"),
        (numpy.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
        ("x" * 50, "'" + "x" * 28 + "…"),
    ],
)
def test_a_value_is_one_short_line(value: Any, text: str) -> None:
    assert short_text(value, 30) == text


def test_nothing_of_a_secret_stays_where_a_value_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_hidden", [])
    errors.hide(["sesame" * 20])
    assert short_text("it is " + "sesame" * 20, 30) == "'it is ****'"


def test_a_parameter_that_cannot_be_shown_has_the_name_of_its_class() -> None:
    shown = describe_parameters({"C": 1.0, "kernel": Broken(), "file": "https://me:secret@host/x"})
    assert shown == {"C": "1", "kernel": "<Broken>", "file": "'https://me:****@host/x'"}


class Loud:
    called = 0

    def __repr__(self) -> str:
        Loud.called += 1
        raise SystemExit(3)


def test_no_code_of_the_program_describes_its_parameters() -> None:
    shown = describe_parameters({"a": Loud(), "b": Loud, "c": short_text, "d": numpy.mean, "e": "text"})
    assert (shown["a"], shown["b"], shown["c"], shown["e"]) == ("<Loud>", "Loud", "short_text", "'text'")
    assert Loud.called == 0
    # Within another value it cannot be recognized beforehand; it breaks nothing.
    assert describe_parameters({"a": [Loud()]}) == {"a": "<list>"}


def test_the_last_line_of_a_traceback() -> None:
    assert (
        last_line("Traceback (most recent call last):\n  x\nValueError: no such kernel\n")
        == "ValueError: no such kernel"
    )
    assert last_line("\n") == ""


def test_printing_of_other_threads_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(numpy, "printoptions", refuse)
    assert short_text([numpy.float64(0.5), numpy.True_, numpy.str_("a")], 60) == "[0.5, True, 'a']"
