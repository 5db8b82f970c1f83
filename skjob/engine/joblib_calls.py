"""What joblib hands over: calls, most of them fits of scikit-learn, and what they are called in messages.

Pure. A call is joblib's own triple of function, arguments and keyword arguments; a batch is a list of them. The fits of
searches and cross-validation all go through one function of scikit-learn, `_fit_and_score`, whose arguments tell the
estimator, its parameters and the fold.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from types import CellType, FunctionType, MethodType
from typing import Any

JoblibCall = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

FIT_FUNCTIONS = frozenset({"_fit_and_score", "_incremental_fit_estimator"})
EMPTY_CELL = CellType()

DEPTH = 3
"""How deep a part is looked for: a partial of a method of a model, say."""

FEW = 16
"""Items of a tuple or list that is looked into."""

LONGEST_VALUE = 60
"""Characters of a parameter's value in a message."""


def calls_of(batch: Any) -> list[JoblibCall]:
    """The calls in what joblib submits: its `BatchedCalls`, or a plain callable."""
    items = getattr(batch, "items", None)
    return [strip_context(call) for call in items] if items is not None else [(batch, (), {})]


@lru_cache(maxsize=16)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Of a function of scikit-learn's, read once."""
    return inspect.signature(function)


def iter_nested(calls: list[JoblibCall]) -> Iterator[Any]:
    """All that calls are made of, what is inside before what is around it: their arguments and functions, and what
    these in turn are wrapped around."""
    for function, arguments, keywords in calls:
        for part in (*arguments, *keywords.values(), function):
            yield from _with_insides(part, DEPTH)


def _with_insides(part: Any, depth: int) -> Iterator[Any]:
    if depth:
        for inside in _insides(part):
            yield from _with_insides(inside, depth - 1)
    yield part


def _insides(part: Any) -> tuple[Any, ...]:
    if isinstance(part, tuple | list):
        return tuple(part) if len(part) <= FEW else ()
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
    """The function itself: scikit-learn wraps each to carry its configuration."""
    try:
        return getattr(function, "function", function)
    except Exception:  # the user's own objects are asked
        return function


def fit_arguments(call: JoblibCall) -> Mapping[str, Any] | None:
    """The arguments by name, of a fit in a search or a cross-validation; None for any other call."""
    function, arguments, keywords = call
    try:
        inner = inner_function(function)
        if inner.__name__ not in FIT_FUNCTIONS or not inner.__module__.startswith("sklearn."):
            return None
        return signature(inner).bind(*arguments, **keywords).arguments
    except Exception:  # the user's own objects are asked
        return None


def strip_context(call: JoblibCall) -> JoblibCall:
    """The call without what its function has no use for.

    scikit-learn 1.9 hands each fit the whole search, for callbacks: its parameter grid, and a generator of splits,
    which can't be pickled. Where there are no callbacks, nobody asks for it.
    """
    function, arguments, keywords = call
    context = keywords.get("callback_ctx")
    if keywords.get("caller") is None or getattr(context, "_callbacks", None) != []:
        return call
    return function, arguments, {**keywords, "caller": None}


def label(calls: list[JoblibCall]) -> str:
    """What a batch is called on Dask's pages: the function, and the estimator that it fits."""
    try:
        function, arguments, _ = calls[0]
        inner = inner_function(function)
        name = getattr(inner, "__name__", type(inner).__name__)
        if arguments and hasattr(arguments[0], "get_params"):
            name = f"{name}-{type(arguments[0]).__name__}"
    except Exception:  # the user's own objects are asked
        name = "batch"
    return name.strip("_<>")


def describe(call: JoblibCall) -> str:
    """A call as a message names it: a fit by estimator, parameters and fold, any other by its function."""
    try:
        arguments = fit_arguments(call)
        if arguments is None:
            return f"`{label([call])}`"
        told = [f"`{type(arguments['estimator']).__name__}`"]
        parameters = arguments.get("parameters")
        if parameters:
            told.append("with " + ", ".join(f"{name}={_short(parameters[name])}" for name in sorted(parameters)))
        fold = arguments.get("split_progress")
        if fold:
            told.append(f"on fold {fold[0] + 1} of {fold[1]}")
        return "the fit of " + " ".join(told)
    except Exception:  # the user's own objects are asked
        return "`batch`"


def _short(value: Any) -> str:
    numpy = sys.modules.get("numpy")
    # A number that a distribution has drawn reads as any other, not as `np.float64(606.28)`.
    with numpy.printoptions(legacy="1.25") if numpy is not None else nullcontext():
        text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
