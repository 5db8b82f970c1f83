"""What joblib hands over: calls, most of them fits of scikit-learn, and what they are called in messages.

Pure. A call is joblib's own triple of function, arguments and keyword arguments; a batch is a list of them. The fits of
searches and cross-validation all go through one function of scikit-learn, `_fit_and_score`, whose arguments tell the
estimator, its parameters and the fold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

FIT_FUNCTIONS = frozenset({"_fit_and_score", "_incremental_fit_estimator"})
LONGEST_VALUE = 60
"""Characters of a parameter's value in a message."""


def calls_of(batch: Any) -> list[Call]:
    """The calls in what joblib submits: its `BatchedCalls`, or a plain callable."""
    items = getattr(batch, "items", None)
    return [lean(call) for call in items] if items is not None else [(batch, (), {})]


def arguments_of(calls: list[Call]) -> Iterator[Any]:
    """All that calls are made of: their functions and arguments."""
    for function, arguments, keywords in calls:
        yield function
        yield from arguments
        yield from keywords.values()


def inner_function(function: Any) -> Any:
    """The function itself: scikit-learn wraps each to carry its configuration."""
    return getattr(function, "function", function)


def fit_arguments(call: Call) -> Mapping[str, Any] | None:
    """The arguments by name, of a fit in a search or a cross-validation; None for any other call."""
    function, arguments, keywords = call
    inner = inner_function(function)
    if getattr(inner, "__name__", "") not in FIT_FUNCTIONS or not str(inner.__module__).startswith("sklearn."):
        return None
    try:
        return inspect.signature(inner).bind(*arguments, **keywords).arguments
    except (TypeError, ValueError):
        return None


def lean(call: Call) -> Call:
    """The call without what its function has no use for.

    scikit-learn 1.9 hands each fit the whole search, for callbacks: its parameter grid, and a generator of splits,
    which can't be pickled. Where there are no callbacks, nobody asks for it.
    """
    function, arguments, keywords = call
    context = keywords.get("callback_ctx")
    if keywords.get("caller") is None or getattr(context, "_callbacks", None) != []:
        return call
    return function, arguments, {**keywords, "caller": None}


def label(calls: list[Call]) -> str:
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


def describe(call: Call) -> str:
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
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
