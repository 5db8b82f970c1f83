"""A function of the program's in the place of a library's."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pandas
import pytest
from sklearn import metrics
from sklearn.naive_bayes import GaussianNB

from skjob.engine.fidelity import monkeypatches
from skjob.engine.fidelity.monkeypatches import Patches, patched_by_program


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The namespace of a program that has replaced nothing; the tests' own modules are none of it."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(monkeypatches, "local_modules", lambda root: [])
    return vars(main)


def _function(program: dict[str, Any]) -> Callable[..., Any]:
    exec("def mine(*arguments, **keywords):\n    return 1", program)  # noqa: S102 - as a program's own
    function: Callable[..., Any] = program["mine"]
    return function


def test_a_program_that_replaces_nothing(program: dict[str, Any]) -> None:
    _function(program)
    assert patched_by_program(None) is None


@pytest.mark.parametrize(
    ("owner", "name", "replaced"),
    [
        (GaussianNB, "predict", "GaussianNB.predict"),
        (metrics, "accuracy_score", "sklearn.metrics.accuracy_score"),
        (json, "dumps", "json.dumps"),
    ],
)
def test_a_function_that_is_replaced_is_named(
    owner: Any, name: str, replaced: str, program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, _function(program))
    assert patched_by_program(None) == replaced


def test_an_accessor_that_is_registered_with_pandas(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    exec("class Shop:\n    def __init__(self, series):\n        pass", program)  # noqa: S102 - as a program's own
    pandas.api.extensions.register_series_accessor("shop")(program["Shop"])
    try:
        assert patched_by_program(None) == "Series.shop"
    finally:
        del pandas.Series.shop
        pandas.Series._accessors.discard("shop")


def test_what_shows_warnings_may_be_replaced(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", _function(program))
    assert patched_by_program(None) is None


def test_a_function_that_is_replaced_after_the_first_search(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = Patches()
    assert patches.find(None) is None
    monkeypatch.setattr(GaussianNB, "predict", _function(program))
    assert patches.find(None) == "GaussianNB.predict"
    monkeypatch.undo()
    assert patches.find(None) is None


def test_an_object_of_the_programs_that_stands_for_a_function(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exec("class Shown:\n    def __call__(self, *parts):\n        pass", program)  # noqa: S102 - as a program's own
    monkeypatch.setattr(json, "dumps", program["Shown"]())
    assert patched_by_program(None) == "json.dumps"


def test_a_method_that_is_added_to_loggers(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "trace", _function(program), raising=False)
    assert patched_by_program(None) == "Logger.trace"
