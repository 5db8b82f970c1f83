"""Find instances of the program's classes that lose attributes when they are pickled.

A wrapper of a model may leave the model out of its pickle, in `__getstate__`, since it cannot be pickled. If plain
Python runs the tasks in the program's process, nothing is pickled: the program gets the whole object.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import cloudpickle

_METHODS = ("__getstate__", "__reduce__", "__reduce_ex__", "__setstate__")

_own_pickles: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
"""For each class, whether a class of its own defines how its objects are pickled."""


def lost_attributes(value: Any, is_of_program: Callable[[type], bool]) -> list[str]:
    """Return the attributes that a copy by pickle does not have, of an object of one of the program's classes.

    Its class may have methods for pickling, or be derived from one that has. They run on copies only: what sets the
    state of an object may take it apart.
    """
    kind: Any = type(value)
    if not hasattr(value, "__dict__") or not _has_own_pickle(kind) or not any(map(is_of_program, kind.__mro__)):
        return []
    reduced = value.__reduce_ex__(5)
    if type(reduced) is not tuple:
        return []
    make, _, state = (*reduced, None)[:3]
    lost = _lost(value, _attributes(state))
    if not lost or (make is copyreg.__newobj__ and not hasattr(kind, "__setstate__")):  # type: ignore[attr-defined]
        return lost
    for copied in (_copy, _whole_copy):
        with suppress(Exception):  # it may write to its arrays; of any other error the pickle itself will tell
            return _lost(value, getattr(copied(value), "__dict__", {}))
    return []


def describe_loss(value: Any, names: list[str]) -> str:
    """Return the words for an object that loses these attributes."""
    return f"a `{type(value).__qualname__}` loses `{'`, `'.join(names)}` when it is pickled"


def _attributes(state: Any) -> dict[str, Any]:
    """Return the attributes that an object's state contains: it may be a dict, or one with another for its slots."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    found: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            found.update(part)
    return found


def _lost(value: Any, left: dict[str, Any]) -> list[str]:
    return [name for name, part in vars(value).items() if _is_lost(part, left.get(name))]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles all but the data of arrays."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        """Return the place of an array among those that the copy has too, but cannot write to."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(obj) is not numpy.ndarray or obj.dtype.hasobject:
            return None
        view = obj.view()
        view.flags.writeable = False
        self.arrays.append(view)
        return len(self.arrays) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: list[Any]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, key: Any) -> Any:
        """Return the array at this place."""
        return self._arrays[key]


def _copy(value: Any) -> Any:
    """Return a copy of an object by pickle, which shares its arrays."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    file.seek(0)
    return _Unpickler(file, pickler.arrays).load()


def _whole_copy(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))  # noqa: S301 - our own bytes


def _is_lost(before: Any, after: Any) -> bool:
    if isinstance(before, dict | list | set):
        return bool(before) and not after
    return before is not None and after is None


def _has_own_pickle(kind: Any) -> bool:
    """Return whether another class than `object` and scikit-learn's own defines how objects of a class are pickled."""
    known = _own_pickles.get(kind)
    if known is None:
        owners = [next((each for each in kind.__mro__ if name in vars(each)), object) for name in _METHODS]
        known = any(each is not object and each.__module__ != "sklearn.base" for each in owners)
        _own_pickles[kind] = known
    return known
