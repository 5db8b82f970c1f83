"""A function of the program's in the place of a library's."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import joblib
import pandas
import pytest
import sklearn.utils.parallel
from sklearn import metrics
from sklearn.naive_bayes import GaussianNB

from skjob.engine.fidelity import monkeypatches
from skjob.engine.fidelity.call_router import CallRouter
from skjob.engine.fidelity.monkeypatches import LOGGING, Patches
from skjob.engine.fidelity.placement import CallSite


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
    assert Patches().find(None) is None


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
    assert Patches().find(None) == replaced


def test_an_accessor_that_is_registered_with_pandas(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    exec("class Shop:\n    def __init__(self, series):\n        pass", program)  # noqa: S102 - as a program's own
    pandas.api.extensions.register_series_accessor("shop")(program["Shop"])
    try:
        assert Patches().find(None) == "Series.shop"
    finally:
        del pandas.Series.shop
        pandas.Series._accessors.discard("shop")


def test_what_shows_warnings_may_be_replaced(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", _function(program))
    assert Patches().find(None) is None


def test_the_callback_that_shows_progress_may_be_replaced(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exec("class Shown:\n    pass", program)  # noqa: S102 - as a program's own
    monkeypatch.setattr(joblib.parallel, "BatchCompletionCallBack", program["Shown"])
    assert Patches().find(None) is None


@pytest.mark.parametrize("recorded", [True, False])
def test_a_library_beside_the_program_that_replaces_something(
    recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As typing_extensions does in `typing`, in a folder of `pip install --target` on the import path."""
    (tmp_path / "extends.py").write_text("def mine():\n    return 1\n")
    if recorded:
        (tmp_path / "extends-1.0.dist-info").mkdir()
        (tmp_path / "extends-1.0.dist-info" / "RECORD").write_text("extends.py,,\n")
    spec = spec_from_file_location("extends", tmp_path / "extends.py")
    assert spec is not None
    assert spec.loader is not None
    extends = module_from_spec(spec)
    spec.loader.exec_module(extends)
    monkeypatch.setattr(monkeypatches, "local_modules", lambda root: [extends])
    monkeypatch.setattr(json, "dumps", extends.mine)
    assert Patches().find(None) == (None if recorded else "json.dumps")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_function_that_is_replaced_in_a_library_beside_the_program(
    recorded: bool, program: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the user's own may import functions of the program."""
    if recorded:
        (tmp_path / "extends-1.0.dist-info").mkdir()
        (tmp_path / "extends-1.0.dist-info" / "RECORD").write_text("extends.py,,\n")
    extends = ModuleType("extends")
    extends.__file__ = str(tmp_path / "extends.py")
    monkeypatch.setattr(extends, "scale", _function(program), raising=False)
    monkeypatch.setitem(sys.modules, "extends", extends)
    assert Patches().find(tmp_path) == ("extends.scale" if recorded else None)


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
    assert Patches().find(None) == "json.dumps"


def test_a_method_that_is_added_to_loggers(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "trace", _function(program), raising=False)
    assert Patches().find(None) == "Logger.trace"
    assert Patches().find(None, LOGGING) is None


@pytest.mark.parametrize(
    ("task", "also", "expected"),
    [
        ("abs", False, None),
        ("wrapped", False, None),
        ("mine", False, "Logger.trace"),
        ("abs", True, "GaussianNB.predict"),
    ],
)
def test_what_is_added_to_loggers_counts_if_code_of_the_program_travels(
    task: str, also: bool, expected: str | None, program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.Logger, "trace", _function(program), raising=False)
    if also:
        monkeypatch.setattr(GaussianNB, "predict", _function(program))
    lines: list[str] = []
    client: Any = SimpleNamespace(extensions={})
    router = CallRouter(client, None, 0.0, None, lines.append, lines.append, 0)
    wrapped = sklearn.utils.parallel.delayed(abs)(1)[0].with_config_and_warning_filters({}, warnings.filters)
    function = {"abs": abs, "wrapped": wrapped, "mine": _function(program)}[task]
    why = router.why_patched((function, (1,), {}), CallSite("script.py", 3))
    assert (why or "").startswith(f"the program has replaced `{expected}`" if expected else "")
    assert (why is None, len(lines)) == (expected is None, 0 if expected is None else 1)
