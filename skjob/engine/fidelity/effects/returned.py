"""Let an argument that a task returns come back as the object that the program has.

Where plain Python runs a task in the program's process, `delayed(model.fit)(X, y)` fits the program's own `model`, and
returns it. On a worker it fits a copy. So the result of such a task says which of its arguments it holds, and the state
that they have come to; in the program's process the very objects are returned, and get that state. It is given to them
once the result counts: if the call is taken back, nothing has happened to them.
"""

from __future__ import annotations

import copyreg
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

from skjob.engine.joblib_calls import JoblibCall, inner_function
from skjob.engine.transfer.pickling import ReturningPickler

SELF = "self"
"""The place of the object whose method a task calls."""

ArgumentPlace = int | str
"""Of an argument: its position, its name, or `SELF`."""

_loading = threading.local()

_NO_INSTANCES = (type, FunctionType, MethodType, ModuleType)
_UNSHARED = 2
"""References to an argument that only its task has: the task's own, and the one that `sys.getrefcount` is given."""


def objects_of(call: JoblibCall) -> Iterator[tuple[ArgumentPlace, Any]]:
    """Yield the arguments of a call, and the object whose method it is, with their places."""
    function, arguments, keywords = call
    inner = inner_function(function)
    if isinstance(inner, MethodType):
        yield SELF, inner.__self__
    yield from enumerate(arguments)
    yield from keywords.items()


def live_arguments(call: JoblibCall) -> tuple[ArgumentPlace, ...]:
    """Return the places of those arguments that the program still references, so that it would see a change of them."""
    function, arguments, keywords = call
    places: list[ArgumentPlace] = []
    inner = inner_function(function)
    if isinstance(inner, MethodType) and sys.getrefcount(inner.__self__) > _UNSHARED:
        places.append(SELF)
    places += [place for place in range(len(arguments)) if sys.getrefcount(arguments[place]) > _UNSHARED]
    places += [name for name in keywords if sys.getrefcount(keywords[name]) > _UNSHARED]
    return tuple(places)


# ---------------------------------------------------------------------------------------------------- on a worker


class ArgumentPickler(ReturningPickler):
    """Pickles the result of a call; an argument in it goes as its place and its state."""

    def __init__(self, file: io.BytesIO, call: JoblibCall) -> None:
        super().__init__(file, protocol=5)
        self._places = {id(value): place for place, value in objects_of(call) if _has_state(value)}
        self.returned: set[ArgumentPlace] = set()

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        place = self._places.get(id(obj))
        if place is not None:
            make, arguments, state, *rest = (*obj.__reduce_ex__(5), None, None, None, None)[:5]
            if make is copyreg.__newobj__ and arguments == (type(obj),) and not any(rest):  # type: ignore[attr-defined]
                self.returned.add(place)
                return argument_at, (place,), state, None, None, note_state
        return super().reducer_override(obj)


def dumps_result(result: Any, call: JoblibCall) -> tuple[bytes, set[ArgumentPlace]]:
    """Return the result of a call as bytes, and the places of the arguments that are in it.

    Raises whatever pickling raises.
    """
    buffer = io.BytesIO()
    pickler = ArgumentPickler(buffer, call)
    pickler.dump(result)
    return buffer.getvalue(), pickler.returned


def _has_state(value: Any) -> bool:
    return not isinstance(value, _NO_INSTANCES) and hasattr(value, "__dict__")


# ------------------------------------------------------------------------------------------- in the program's process


class States:
    """The states that arguments of a call have come to, until they are given to them."""

    def __init__(self) -> None:
        self._states: list[tuple[Any, Any]] = []

    def add(self, value: Any, state: Any) -> None:
        """Note the state of an argument."""
        self._states.append((value, state))

    def apply(self) -> None:
        """Give the arguments their states."""
        while self._states:
            value, state = self._states.pop(0)
            vars(value).clear()
            if hasattr(value, "__setstate__"):
                value.__setstate__(state)
            elif state is not None:
                vars(value).update(state)


@contextmanager
def arguments_of(call: JoblibCall) -> Iterator[States]:
    """Read the result of this call in the block; yield the states that its arguments have come to."""
    before = getattr(_loading, "call", None), getattr(_loading, "states", None)
    _loading.call, _loading.states = call, States()
    try:
        yield _loading.states
    finally:
        _loading.call, _loading.states = before


def argument_at(place: ArgumentPlace) -> Any:
    """Return the argument of the call whose result is being read."""
    function, arguments, keywords = _loading.call
    if place == SELF:
        return inner_function(function).__self__
    return arguments[place] if isinstance(place, int) else keywords[place]


def note_state(value: Any, state: Any) -> None:
    """Called as the result of a call is read, for each argument in it."""
    _loading.states.add(value, state)
