"""The way to what cannot be pickled in a task."""

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection._validation import _fit_and_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skjob.engine.fidelity.effects import unpicklable
from skjob.engine.fidelity.effects.unpicklable import Unpicklable, find_unpicklable, why_unpicklable


class Bar:
    """As a progress bar: it has what cannot be pickled, deep inside."""

    def __init__(self) -> None:
        self.state = {"locks": [threading.Lock()]}


Bar.__module__ = "json.decoder"  # of a library: what is in it is none of the user's business


class Noting(LogisticRegression):
    """An estimator of the program's own."""

    bar: Any = None


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


bar = Bar()


def scored(estimator: Any, X: Any, y: Any) -> float:
    return float(bar.state is None)


def plain(estimator: Any, X: Any, y: Any) -> float:
    return 1.0


def closing(thing: Any) -> Callable[..., float]:
    return lambda estimator, X, y: float(thing is None)


def defaulting(estimator: Any, X: Any, y: Any, *, connection: Any = None) -> float:
    return float(connection is None)


defaulting.__kwdefaults__["connection"] = bar


def _fit(estimator: Any, scorer: Any) -> Any:
    X, y = np.zeros((20_000, 4)), np.zeros(20_000)
    arguments = {"parameters": None, "fit_params": None, "score_params": None, "verbose": 0, "train": [0], "test": [1]}
    return _fit_and_score, (estimator, X, y), {"scorer": scorer, **arguments}


def _with(estimator: Any, **attributes: Any) -> Any:
    vars(estimator).update(attributes)
    return estimator


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("estimator", "scorer", "path"),
    [
        (Noting(), scored, "scorer → bar"),
        (Noting(), closing(bar), "scorer → thing"),
        (Noting(), defaulting, "scorer → connection"),
        (Noting(), functools.partial(plain, bar), "scorer → argument 1"),
        (Noting(), functools.partial(defaulting, connection=bar), "scorer → connection"),
        (Noting(), {"first": plain, "second": scored}, "scorer['second'] → bar"),
        (Noting(), make_scorer(closing(bar)), "scorer → _score_func → thing"),
        (_with(Noting(), bar=bar), plain, "estimator → bar"),
        (_with(Noting(), hooks=[1, (2, bar)]), plain, "estimator → hooks[1][1]"),
        (_with(Noting(), own=Slotted()), plain, "estimator → own → lock"),
        (make_pipeline(FunctionTransformer(closing(bar)), Noting()), plain, "estimator → steps[0][1] → func → thing"),
        (Noting(), plain, ""),
        (Noting(), make_scorer(accuracy_score), ""),
    ],
)
def test_the_way_to_it(estimator: Any, scorer: Any, path: str) -> None:
    root = Path(__file__).parent
    found = find_unpicklable(_fit(estimator, scorer), root)
    assert ("" if found is None else found.path) == path


def path_in(task: Any, root: Path | None = None) -> str:
    found = find_unpicklable(task, root)
    assert found is not None
    return found.path


def test_what_is_said_of_it(connection: sqlite3.Connection) -> None:
    error = TypeError("cannot pickle 'sqlite3.Connection' object")
    task = [_fit(_with(Noting(), db=connection), plain)]
    assert why_unpicklable(task, error) == "`estimator → db` is a sqlite3.Connection, which cannot be pickled"
    assert why_unpicklable([_fit(Noting(), plain)], error) == f"TypeError: {error}"  # it fails in another way


def test_what_it_is(connection: sqlite3.Connection) -> None:
    found = find_unpicklable([_fit(Noting(), plain), _fit(_with(Noting(), db=connection), plain)])
    assert found == Unpicklable("estimator → db", "sqlite3.Connection")


def test_a_class_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noting, "bar", bar)
    assert path_in(_fit(Noting(), plain), Path(__file__).parent) == "estimator → bar"


def test_a_function_of_any_call_and_its_arguments() -> None:
    assert path_in((closing(bar), (1, 2, 3), {})) == "<lambda> → thing"
    assert path_in((plain, (1, bar, 3), {})) == "X"
    assert path_in((max, (1, bar), {})) == "argument 2"


def test_a_circle_ends() -> None:
    circle: list[Any] = [bar]
    circle.insert(0, circle)
    assert path_in((plain, (circle, 2, 3), {})) == "estimator[1]"


def test_it_gives_up_in_a_mountain(monkeypatch: pytest.MonkeyPatch) -> None:
    """And names as much of the way as it has found."""
    monkeypatch.setattr(unpicklable, "MAX_ATTEMPTS", 5)
    assert path_in((plain, ([1] * 50 + [bar], 2, 3), {})) == "estimator"
