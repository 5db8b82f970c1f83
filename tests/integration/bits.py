"""Compare results bit by bit: split an object into numbers and text, each with its path.

Two results are the same if all of their parts are: values to the last bit, types, the memory order of arrays as a
pickle keeps it, and whether they are writeable. Estimators, trees, search trees, models of the boosters and random
generators are split into the state that a pickle saves.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import pandas
import scipy.sparse

Bits = dict[str, Any]
"""Values that `==` compares, by path, such as `.estimators_[3].tree_.nodes.threshold`."""

_PLAIN = (bool, int, str, bytes, type(None))


def bits(value: Any) -> Bits:
    """Return all parts of a value."""
    return dict(_split(value, "", ()))


def differences(one: Bits, other: Bits) -> list[str]:
    """Return the paths at which two values differ."""
    return [path for path in {**one, **other} if one.get(path, KeyError) != other.get(path, KeyError)]


def _split(value: Any, path: str, parents: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if id(value) in parents:  # a reference to itself
        yield path, f"level {parents.index(id(value))}"
        return
    ancestors = (*parents, id(value))
    if type(value) in _PLAIN:
        yield path, (type(value).__name__, value)
        return
    if isinstance(value, float | complex | numpy.generic):
        yield path, (type(value).__name__, str(value), numpy.asarray(value).tobytes())
        return
    yield f"{path}<type>", f"{type(value).__module__}.{type(value).__qualname__}"
    for name, part in _parts(value):
        yield from _split(part, path + name, ancestors)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, numpy.ma.MaskedArray):
        yield from {".data": value.filled(), ".mask": numpy.ma.getmaskarray(value)}.items()
    elif isinstance(value, numpy.ndarray):
        yield from _parts_of_array(value)
    elif scipy.sparse.issparse(value):
        yield ".shape", value.shape
        names = ("data", "indices", "indptr", "row", "col", "offsets", "rows")
        yield from ((f".{name}", getattr(value, name)) for name in names if hasattr(value, name))
    elif isinstance(value, numpy.dtype | range | slice):
        yield "", str(value)
    elif isinstance(value, Mapping):
        yield "<keys>", [str(key) for key in value]
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield "<length>", len(value)
        yield from ((f"[{place}]", part) for place, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield "", sorted(map(repr, value))
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | numpy.ufunc):
        yield "", value.__qualname__ if hasattr(value, "__qualname__") else value.__name__
    elif isinstance(value, types.MethodType):
        yield from {".method": value.__func__, ".of": value.__self__}.items()
    elif isinstance(value, types.GeneratorType | types.ModuleType):
        yield "", type(value).__name__
    elif isinstance(value, pandas.DataFrame | pandas.Series | pandas.Index):
        yield "", value.to_dict() if hasattr(value, "to_dict") else value.to_list()
    elif isinstance(value, numpy.random.RandomState):
        yield "", value.get_state(legacy=False)
    elif isinstance(value, numpy.random.Generator):
        yield "", value.bit_generator.state
    elif hasattr(value, "save_raw"):  # XGBoost's
        yield "", bytes(value.save_raw("json"))
    elif hasattr(value, "model_to_string"):  # LightGBM's
        yield from _parts_of_text(value.model_to_string())
    else:
        yield from _parts_of_object(value)


def _parts_of_text(text: str) -> Iterator[tuple[str, Any]]:
    """Yield LightGBM's text: lines such as `[num_threads: 2]` by their names, other lines by their number."""
    for place, line in enumerate(text.splitlines()):
        name, given, value = line.partition(": ")
        yield (f"<{name[1:]}>", value) if given and name.startswith("[") else (f"<line {place}>", line)


def _parts_of_array(value: numpy.ndarray) -> Iterator[tuple[str, Any]]:
    yield "<shape>", value.shape
    yield "<kind>", value.dtype.str
    if value.dtype.names:  # bytes between fields are undefined
        yield from ((f".{name}", value[name]) for name in value.dtype.names)
        return
    yield "<order>", "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    yield "<writeable>", value.flags.writeable
    if value.dtype == object:
        yield "", value.ravel().tolist()
    else:
        yield "", value.tobytes()


def _parts_of_object(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield an object's attributes, or the state that a pickle saves."""
    if type(value).__getstate__ is object.__getstate__ and hasattr(value, "__dict__"):
        yield from ((f".{name}", part) for name, part in vars(value).items())
        return
    try:
        saved = value.__reduce_ex__(4)
    except TypeError:  # it cannot be pickled
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
        return
    if isinstance(saved, str):
        yield "", saved
        return
    _, arguments, *state = saved
    yield "<new>", [argument for argument in arguments if not isinstance(argument, type)]
    if state and isinstance(state[0], Mapping):
        yield from ((f".{name}", part) for name, part in state[0].items())
    elif state:
        yield "<state>", state[0]
