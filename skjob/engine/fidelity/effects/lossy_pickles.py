"""Find instances of the program's classes that lose attributes when they are pickled.

A wrapper of a model may leave the model out of its pickle, in `__getstate__`, since it cannot be pickled. If plain
Python runs the tasks in the program's process, nothing is pickled: the program gets the whole object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

_METHODS = ("__getstate__", "__reduce__", "__reduce_ex__", "__setstate__")


class LosesAttributes(Exception):
    """Raised if an object that is to be pickled loses attributes by it. The message says which."""


def lost_attributes(value: Any, is_of_program: Callable[[type], bool]) -> list[str]:
    """Return the attributes that a copy by pickle does not have, of an object of one of the program's classes.

    Its class may have methods for pickling, or be derived from one that has.
    """
    kind: Any = type(value)
    if not hasattr(value, "__dict__") or not _has_own_pickle(kind) or not any(map(is_of_program, kind.__mro__)):
        return []
    reduced = value.__reduce_ex__(5)
    if type(reduced) is not tuple:
        return []
    make, arguments, state = (*reduced, None)[:3]
    again = make(*arguments)
    if hasattr(again, "__setstate__"):
        again.__setstate__(state)
    elif isinstance(state, dict):
        vars(again).update(state)
    left = getattr(again, "__dict__", {})
    return [name for name, part in vars(value).items() if _is_lost(part, left.get(name))]


def describe_loss(value: Any, names: list[str]) -> str:
    """Return the words for an object that loses these attributes."""
    return f"a `{type(value).__qualname__}` loses `{'`, `'.join(names)}` when it is pickled"


def _is_lost(before: Any, after: Any) -> bool:
    if isinstance(before, dict | list | set):
        return bool(before) and not after
    return before is not None and after is None


@lru_cache(maxsize=1024)
def _has_own_pickle(kind: Any) -> bool:
    """Return whether another class than `object` and scikit-learn's own defines how objects of a class are pickled."""
    owners = [next((each for each in kind.__mro__ if name in vars(each)), object) for name in _METHODS]
    return any(each is not object and each.__module__ != "sklearn.base" for each in owners)
