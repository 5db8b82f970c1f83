"""Let an argument that a task returns come back as the program's own object.

If plain Python runs a task in the program's process, `delayed(model.fit)(X, y)` fits the program's own `model`, and
returns it. On a worker it fits a copy. So the result of such a task refers to the arguments in it, with their new
states; in the program's process the original objects are returned, and get these states. They get them once the result
counts: if the call is refused, they are unchanged.
"""

from __future__ import annotations

import copyreg
import io
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from skjob.engine.fidelity.effects.code_identity import mark_of
from skjob.engine.fidelity.effects.lossy_pickles import describe_loss, lost_attributes
from skjob.engine.joblib_calls import JoblibCall, inner_function
from skjob.engine.transfer.pickling import ReturningPickler

SELF = "self"
"""The key of the object whose method a task calls."""

ArgumentKey = int | str
"""Identifies an argument of a call: its position, its name, or `SELF`."""

_loading = threading.local()

_NO_INSTANCES = (type, FunctionType, MethodType, ModuleType)
NO_OBJECTS: Mapping[int, str] = MappingProxyType({})

MAX_ITEMS = 1000
"""Items of a container that are looked at for objects of the program's own."""

_UNSHARED = 2
"""References to an argument that only its task has: the task's own, and the one that `sys.getrefcount` is given."""


def objects_of(call: JoblibCall) -> Iterator[tuple[ArgumentKey, Any]]:
    """Yield the arguments of a call, and the object whose method it is, with their keys."""
    function, arguments, keywords = call
    inner = inner_function(function)
    if isinstance(inner, MethodType):
        yield SELF, inner.__self__
    yield from enumerate(arguments)
    yield from keywords.items()


def live_arguments(call: JoblibCall) -> tuple[ArgumentKey, ...]:
    """Return the keys of arguments that the program still references, so that it would see a change of them."""
    function, arguments, keywords = call
    keys: list[ArgumentKey] = []
    inner = inner_function(function)
    if isinstance(inner, MethodType) and sys.getrefcount(inner.__self__) > _UNSHARED:
        keys.append(SELF)
    keys += [index for index in range(len(arguments)) if sys.getrefcount(arguments[index]) > _UNSHARED]
    keys += [name for name in keywords if sys.getrefcount(keywords[name]) > _UNSHARED]
    return tuple(keys)


# ---------------------------------------------------------------------------------------------------- on a worker


class ArgumentPickler(ReturningPickler):
    """Pickles the result of a call; an argument in it is replaced by its key and its state."""

    def __init__(self, file: io.BytesIO, call: JoblibCall, own: Mapping[int, str]) -> None:
        super().__init__(file, protocol=5)
        self._own = own
        self._keys = {id(value): key for key, value in objects_of(call) if _has_state(value)}
        self.returned: set[ArgumentKey] = set()

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        if type(obj) not in _NO_INSTANCES and (lost := lost_attributes(obj, _is_of_program)):
            raise CannotReturn(describe_loss(obj, lost))
        key = self._keys.get(id(obj))
        if key is not None:
            make, arguments, state, *rest = (*obj.__reduce_ex__(5), None, None, None, None)[:5]
            if make is copyreg.__newobj__ and arguments == (type(obj),) and not any(rest):  # type: ignore[attr-defined]
                self.returned.add(key)
                return argument_of, (key,), state, None, None, note_state
        elif id(obj) in self._own and not is_array(obj):
            raise CannotReturn(f"they contain the program's own object `{self._own[id(obj)]}`")
        return super().reducer_override(obj)


def _check_containers(result: Any, call: JoblibCall, own: Mapping[int, str]) -> None:
    """Check what pickle does not ask about: whether a result is, or directly contains, a container of the program's.

    An array counts if it is a view of one of the program's too.
    """
    for part in (result, *items_of(result)):
        for each in (part, part.base if is_array(part) else part):
            if id(each) in own and not any(each is argument for _, argument in objects_of(call)):
                raise CannotReturn(f"they contain the program's own object `{own[id(each)]}`")


def items_of(value: Any) -> Iterable[Any]:
    """Return the items of a container, up to a limit; none for any other object."""
    if type(value) is dict:
        return list(islice(value.values(), MAX_ITEMS))
    return list(islice(value, MAX_ITEMS)) if type(value) in (list, tuple, set) else ()


def is_array(value: Any) -> bool:
    """Return whether a value is an array of numpy, without importing numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


class CannotReturn(Exception):
    """Raised if a result would not be the same in the program's process. The message is the reason."""


def dumps_result(result: Any, call: JoblibCall, own: Mapping[int, str] = NO_OBJECTS) -> tuple[bytes, set[ArgumentKey]]:
    """Return the result of a call as bytes, and the keys of the arguments in it.

    `own` are the program's own objects that would come back as copies, by identity, with their names.

    Raises
    ------
    CannotReturn
        The result contains one of these, or an object that loses attributes when it is pickled.
    Exception
        Whatever pickling raises.
    """
    if own:
        _check_containers(result, call, own)
    buffer = io.BytesIO()
    pickler = ArgumentPickler(buffer, call, own)
    pickler.dump(result)
    return buffer.getvalue(), pickler.returned


def _has_state(value: Any) -> bool:
    return not isinstance(value, _NO_INSTANCES) and (hasattr(value, "__dict__") or type(value) is object)


def _is_of_program(kind: type) -> bool:
    return mark_of(kind) is not None


# ------------------------------------------------------------------------------------------- in the program's process


class ArgumentStates:
    """The new states of a call's arguments, until they are applied."""

    def __init__(self) -> None:
        self._states: list[tuple[Any, Any]] = []

    def add(self, value: Any, state: Any) -> None:
        """Add the state of an argument."""
        self._states.append((value, state))

    def apply(self) -> None:
        """Give the arguments their states."""
        while self._states:
            value, state = self._states.pop(0)
            if not hasattr(value, "__dict__"):
                continue
            vars(value).clear()
            if hasattr(value, "__setstate__"):
                value.__setstate__(state)
            elif state is not None:
                vars(value).update(state)


@contextmanager
def arguments_of(call: JoblibCall) -> Iterator[ArgumentStates]:
    """Let the result of this call be unpickled in the block; yield the new states of its arguments."""
    before = getattr(_loading, "call", None), getattr(_loading, "states", None)
    _loading.call, _loading.states = call, ArgumentStates()
    try:
        yield _loading.states
    finally:
        _loading.call, _loading.states = before


def argument_of(key: ArgumentKey) -> Any:
    """Return an argument of the call whose result is being unpickled."""
    function, arguments, keywords = _loading.call
    if key == SELF:
        return inner_function(function).__self__
    return arguments[key] if isinstance(key, int) else keywords[key]


def note_state(value: Any, state: Any) -> None:
    """Note the new state of an argument, while the result that contains it is unpickled."""
    _loading.states.add(value, state)
