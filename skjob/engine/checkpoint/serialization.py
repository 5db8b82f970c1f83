"""What a fit returns, as plain data and back: the same values, of the same types, to the last bit.

A score is a Python float or a scalar of numpy's, and which it is shows in `cv_results_`; so each number is written with
its kind. No pickle: reading an entry runs nothing. Whatever else a fit returns is not kept.
"""

from __future__ import annotations

import base64
import math
from typing import Any, Literal

import numpy as np

SCORES = frozenset({"test_scores", "train_scores"})
NUMBERS = frozenset({"n_test_samples", "fit_time", "score_time"})
FROM_THE_CALL = "parameters"
"""Not part of an entry: who asks for a fit has them."""

KINDS = "biuf"
LARGEST_FLOAT = 8
"""Bytes. A longer one does not fit into JSON."""


class NotPlain(ValueError):
    """A result that is not made of numbers alone."""


def to_plain(result: Any) -> Any:
    """What `_fit_and_score` or `_incremental_fit_estimator` returned, for JSON.

    Raises:
        NotPlain: there is something in it that is no number.
    """
    if isinstance(result, np.ndarray):
        return {"array": _array_to_plain(result)}
    if type(result) is not dict:
        raise NotPlain(f"a result of type `{type(result).__name__}`")
    plain: dict[str, Any] = {}
    for name, value in result.items():
        if name in SCORES and type(value) is dict:
            if not all(type(scorer) is str for scorer in value):
                raise NotPlain(f"a name of a scorer in `{name}`")
            plain[name] = {scorer: _number_to_plain(name, score) for scorer, score in value.items()}
        elif name in SCORES or name in NUMBERS:
            plain[name] = _number_to_plain(name, value)
        elif name == "fit_error" and value is None:
            plain[name] = None
        elif name != FROM_THE_CALL:
            raise NotPlain(f"`{name}`")
    return plain


def from_plain(plain: Any) -> Any:
    """The result again.

    Raises:
        NotPlain: this was not written by `to_plain`.
    """
    if type(plain) is not dict:
        raise NotPlain("its result is not of the expected form")
    if set(plain) == {"array"}:
        return _array_from_plain(plain["array"])
    result: dict[str, Any] = {}
    for name, value in plain.items():
        if name in SCORES and type(value) is dict:
            result[name] = {scorer: _number_from_plain(score) for scorer, score in value.items()}
        elif name in SCORES or name in NUMBERS:
            result[name] = _number_from_plain(value)
        elif name == "fit_error" and value is None:
            result[name] = None
        else:
            raise NotPlain(f"`{name}` is not expected in it")
    return result


def _number_to_plain(name: str, value: Any) -> list[Any]:
    kind = type(value)
    if kind is bool or kind is int:
        return [kind.__name__, value]
    if kind is float:
        return ["float", _float_to_plain(value)]
    if isinstance(value, np.generic) and value.dtype.kind in KINDS and value.dtype.itemsize <= LARGEST_FLOAT:
        item = value.item()
        return [f"numpy.{value.dtype.name}", _float_to_plain(item) if type(item) is float else item]
    raise NotPlain(f"a value of type `{kind.__name__}` in `{name}`")


def _number_from_plain(plain: Any) -> Any:
    if type(plain) is not list or len(plain) != 2 or type(plain[0]) is not str:
        raise NotPlain("a number in it is not of the expected form")
    kind, value = plain
    if kind == "float":
        return _float_from_plain(value)
    if kind in ("int", "bool"):
        if type(value).__name__ != kind:
            raise NotPlain("a number in it is not of the expected form")
        return value
    package, _, name = kind.partition(".")
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise NotPlain("a number in it is of an unknown kind") from error
    if package != "numpy" or dtype.kind not in KINDS or dtype.itemsize > LARGEST_FLOAT:
        raise NotPlain("a number in it is of an unknown kind")
    expected = {"f": float, "b": bool}.get(dtype.kind, int)
    item = _float_from_plain(value) if expected is float else value
    if type(item) is not expected:
        raise NotPlain("a number in it is not of the expected form")
    try:
        return dtype.type(item)
    except OverflowError as error:
        raise NotPlain("a number in it is out of its range") from error


def _float_to_plain(value: float) -> float | str:
    """JSON has no word for nan and the infinities. Python's floats are written so that the same one is read."""
    return value if math.isfinite(value) else repr(value)


def _float_from_plain(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str and value in ("nan", "inf", "-inf"):
        return float(value)
    raise NotPlain("a number in it is not of the expected form")


def _array_to_plain(value: Any) -> dict[str, Any]:
    """Scores and times by training size: learning_curve where it learns on."""
    if type(value) is not np.ndarray or value.dtype.kind not in KINDS or value.dtype.itemsize > LARGEST_FLOAT:
        raise NotPlain(f"an array of `{value.dtype}`")
    order: Literal["C", "F"] = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    content = base64.b64encode(value.tobytes(order=order)).decode()
    return {"dtype": value.dtype.str, "shape": list(value.shape), "order": order, "base64": content}


def _array_from_plain(plain: Any) -> Any:
    try:
        dtype = np.dtype(str(plain["dtype"]))
        content = base64.b64decode(plain["base64"], validate=True)
        if dtype.kind in KINDS and dtype.itemsize <= LARGEST_FLOAT:
            return np.frombuffer(content, dtype).copy().reshape(plain["shape"], order=plain["order"])
    except (TypeError, ValueError, KeyError) as error:
        raise NotPlain("an array in it is not of the expected form") from error
    raise NotPlain("an array in it is of an unknown kind")
