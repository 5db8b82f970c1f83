"""Read the calls that joblib submits, most of them fits of scikit-learn, and describe them in messages. Pure.

A call is joblib's own triple of function, arguments and keyword arguments; a batch is a list of them. The fits of
searches and cross-validation all go through one function of scikit-learn, `_fit_and_score`, whose arguments contain the
estimator, its parameters and the fold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import CellType, FunctionType, MethodType
from typing import Any

from skjob.engine.reporting.values import short_text

JoblibCall = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

FIT_FUNCTIONS = frozenset({"_fit_and_score", "_incremental_fit_estimator"})
EMPTY_CELL = CellType()

MAX_DEPTH = 3
"""How deep nested parts are looked for: a partial of a method of a model, for example."""

MAX_ITEMS = 16
"""Items of a tuple or list whose parts are looked for."""

MAX_SHOWN_LENGTH = 60
"""Characters of a parameter's value in a message."""


def calls_of(batch: Any) -> list[JoblibCall]:
    """Return the calls in what joblib submits: its `BatchedCalls`, or a plain callable."""
    items = getattr(batch, "items", None)
    return [strip_context(call) for call in items] if items is not None else [(batch, (), {})]


@lru_cache(maxsize=16)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function of scikit-learn, read once."""
    return inspect.signature(function)


def iter_nested(calls: list[JoblibCall]) -> Iterator[Any]:
    """Yield all parts of calls, inner ones before outer ones: their arguments and functions, and what these wrap."""
    for function, arguments, keywords in calls:
        for part in (*arguments, *keywords.values(), function):
            yield from _with_parts(part, MAX_DEPTH)


def _with_parts(part: Any, depth: int) -> Iterator[Any]:
    if depth:
        for inner in _parts(part):
            yield from _with_parts(inner, depth - 1)
    yield part


def _parts(part: Any) -> tuple[Any, ...]:
    if isinstance(part, tuple | list):
        return tuple(part) if len(part) <= MAX_ITEMS else ()
    if isinstance(part, partial):
        return (*part.args, *part.keywords.values(), part.func)
    if isinstance(part, MethodType):
        return (part.__self__,)
    if isinstance(part, FunctionType):
        cells = [cell.cell_contents for cell in part.__closure__ or () if cell != EMPTY_CELL]
        return (*cells, *(part.__defaults__ or ()))
    inner = inner_function(part) if callable(part) and not isinstance(part, type) else part
    return () if inner is part else (inner,)


def inner_function(function: Any) -> Any:
    """Return the function itself: scikit-learn wraps it to carry its configuration."""
    try:
        return getattr(function, "function", function)
    except Exception:  # the user's own objects are called
        return function


def fit_arguments(call: JoblibCall) -> Mapping[str, Any] | None:
    """Return the arguments by name of a fit in a search or a cross-validation; None for any other call."""
    function, arguments, keywords = call
    try:
        inner = inner_function(function)
        if inner.__name__ not in FIT_FUNCTIONS or not inner.__module__.startswith("sklearn."):
            return None
        return signature(inner).bind(*arguments, **keywords).arguments
    except Exception:  # the user's own objects are called
        return None


def strip_context(call: JoblibCall) -> JoblibCall:
    """Return the call without what its function does not use.

    scikit-learn 1.9 passes each fit the whole search, for callbacks: its parameter grid, and a generator of splits,
    which cannot be pickled. Without callbacks it is not used.
    """
    function, arguments, keywords = call
    context = keywords.get("callback_ctx")
    if keywords.get("caller") is None or getattr(context, "_callbacks", None) != []:
        return call
    return function, arguments, {**keywords, "caller": None}


def label(calls: list[JoblibCall]) -> str:
    """Return the name of a batch on Dask's pages: the function, and the estimator that it fits."""
    try:
        function, arguments, _ = calls[0]
        inner = inner_function(function)
        name = getattr(inner, "__name__", type(inner).__name__)
        if arguments and hasattr(type(arguments[0]), "get_params"):
            name = f"{name}-{type(arguments[0]).__name__}"
    except Exception:  # the user's own objects are called
        name = "batch"
    return name.strip("_<>")


def describe(call: JoblibCall) -> str:
    """Return a call as messages name it: a fit by estimator, parameters and fold, any other by its function."""
    try:
        arguments = fit_arguments(call)
        if arguments is None:
            return f"`{label([call])}`"
        parts = [f"`{type(arguments['estimator']).__name__}`"]
        parameters = arguments.get("parameters")
        if parameters:
            parts.append(
                "with "
                + ", ".join(f"{name}={short_text(parameters[name], MAX_SHOWN_LENGTH)}" for name in sorted(parameters))
            )
        fold = arguments.get("split_progress")
        if fold:
            parts.append(f"on fold {fold[0] + 1} of {fold[1]}")
        return "the fit of " + " ".join(parts)
    except Exception:  # the user's own objects are called
        return "`batch`"
