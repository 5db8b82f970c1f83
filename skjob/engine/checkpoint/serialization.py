"""Convert what a fit returns to plain data and back: the same values, of the same types, to the last bit.

A score is a Python float or a numpy scalar, and `cv_results_` shows the difference; so each number is written with its
type. There are no pickles: reading an entry runs no code. Results with anything else are not stored.
"""

from __future__ import annotations

import base64
import math
from typing import Any, Literal

import numpy as np

SCORES = frozenset({"test_scores", "train_scores"})
NUMBERS = frozenset({"n_test_samples", "fit_time", "score_time"})
FROM_THE_CALL = "parameters"
"""Not part of an entry: a caller that looks up a fit has them."""

NUMBER_KINDS = "biuf"
MAX_FLOAT_BYTES = 8
"""Longer floats do not fit into JSON."""


class NotSerializable(ValueError):
    """A result that contains something other than numbers."""


def to_plain(result: Any) -> Any:
    """Return the result of `_fit_and_score` or `_incremental_fit_estimator` for JSON.

    Raises
    ------
    NotSerializable
        It contains something that is not a number.
    """
    if isinstance(result, np.ndarray):
        return {"array": _array_to_plain(result)}
    if type(result) is not dict:
        raise NotSerializable(f"a result of type `{type(result).__name__}`")
    plain: dict[str, Any] = {}
    for name, value in result.items():
        if name in SCORES and type(value) is dict:
            if not all(type(scorer) is str for scorer in value):
                raise NotSerializable(f"a name of a scorer in `{name}`")
            plain[name] = {scorer: _number_to_plain(name, score) for scorer, score in value.items()}
        elif name in SCORES or name in NUMBERS:
            plain[name] = _number_to_plain(name, value)
        elif name == "fit_error" and value is None:
            plain[name] = None
        elif name != FROM_THE_CALL:
            raise NotSerializable(f"`{name}`")
    return plain


def from_plain(plain: Any) -> Any:
    """Return the result that `to_plain` converted.

    Raises
    ------
    NotSerializable
        `to_plain` did not write this.
    """
    if type(plain) is not dict:
        raise NotSerializable("its result is not of the expected form")
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
            raise NotSerializable(f"`{name}` is not expected in it")
    return result


def _number_to_plain(name: str, value: Any) -> list[Any]:
    kind = type(value)
    if kind is bool or kind is int:
        return [kind.__name__, value]
    if kind is float:
        return ["float", _float_to_plain(value)]
    if isinstance(value, np.generic) and value.dtype.kind in NUMBER_KINDS and value.dtype.itemsize <= MAX_FLOAT_BYTES:
        item = value.item()
        return [f"numpy.{value.dtype.name}", _float_to_plain(item) if type(item) is float else item]
    raise NotSerializable(f"a value of type `{kind.__name__}` in `{name}`")


def _number_from_plain(plain: Any) -> Any:
    if type(plain) is not list or len(plain) != 2 or type(plain[0]) is not str:
        raise NotSerializable("a number in it is not of the expected form")
    kind, value = plain
    if kind == "float":
        return _float_from_plain(value)
    if kind in ("int", "bool"):
        if type(value).__name__ != kind:
            raise NotSerializable("a number in it is not of the expected form")
        return value
    package, _, name = kind.partition(".")
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise NotSerializable("a number in it is of an unknown kind") from error
    if package != "numpy" or dtype.kind not in NUMBER_KINDS or dtype.itemsize > MAX_FLOAT_BYTES:
        raise NotSerializable("a number in it is of an unknown kind")
    expected = {"f": float, "b": bool}.get(dtype.kind, int)
    item = _float_from_plain(value) if expected is float else value
    if type(item) is not expected:
        raise NotSerializable("a number in it is not of the expected form")
    try:
        return dtype.type(item)
    except OverflowError as error:
        raise NotSerializable("a number in it is out of its range") from error


def _float_to_plain(value: float) -> float | str:
    """Return a float for JSON, which has no nan and infinities. Others are read back exactly as written."""
    return value if math.isfinite(value) else repr(value)


def _float_from_plain(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str and value in ("nan", "inf", "-inf"):
        return float(value)
    raise NotSerializable("a number in it is not of the expected form")


def _array_to_plain(value: Any) -> dict[str, Any]:
    """Convert scores and times by training size: what learning_curve gets with `exploit_incremental_learning`."""
    if type(value) is not np.ndarray or value.dtype.kind not in NUMBER_KINDS or value.dtype.itemsize > MAX_FLOAT_BYTES:
        raise NotSerializable(f"an array of `{value.dtype}`")
    order: Literal["C", "F"] = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    content = base64.b64encode(value.tobytes(order=order)).decode()
    return {"dtype": value.dtype.str, "shape": list(value.shape), "order": order, "base64": content}


def _array_from_plain(plain: Any) -> Any:
    try:
        dtype = np.dtype(str(plain["dtype"]))
        content = base64.b64decode(plain["base64"], validate=True)
        if dtype.kind in NUMBER_KINDS and dtype.itemsize <= MAX_FLOAT_BYTES:
            return np.frombuffer(content, dtype).copy().reshape(plain["shape"], order=plain["order"])
    except (TypeError, ValueError, KeyError) as error:
        raise NotSerializable("an array in it is not of the expected form") from error
    raise NotSerializable("an array in it is of an unknown kind")
