"""Tell whether a task has changed what it shares with the program.

Where plain Python runs tasks in the program's process (`n_jobs` not given, or threads), a task may change the program's
memory: a scorer that notes each fold, a counter, a cache. On a worker it changes a copy. So the worker takes a digest
of what the program's own code reaches, before and after the task: global variables, cells, defaults and attributes of
the functions that travelled with the task, data in its classes, instances among its arguments, and, if the program
itself makes the call, the arguments that it still has. Reading them is no difference; a digest that differs is.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from skjob.engine.fidelity.marks import mark_of
from skjob.engine.fidelity.returned import ArgumentPlace, objects_of
from skjob.engine.work import EMPTY_CELL, Call, parts_of

LARGEST = 2**20
"""Bytes. What needs more is not looked at: shared arrays of that size are read-only on workers."""

UNKNOWN = None
"""The digest of what cannot be pickled or is too large."""

Key = tuple[str, int, ArgumentPlace]
"""A name that a message can show; and of an argument, the number of its call and its place there."""

State = Mapping[Key, int | None]
"""Digests of what a task shares with the program."""

NOTED_BY_SCIPY = frozenset({"_has_sorted_indices", "_has_canonical_format"})
"""What a sparse matrix remembers of itself once it was asked; its content is the same."""

_BY_IDENTITY = (FunctionType, BuiltinFunctionType, ModuleType, type)


Held = Sequence[Sequence[ArgumentPlace]]
"""Of each call, the arguments that the program has too."""


def state_of(codes: Iterable[Any], calls: list[Call], held: Held = ()) -> State:
    """Return the digests of what these functions and classes reach, and of the arguments that the program has too."""
    state: dict[Key, int | None] = {}
    for name, value in _reached(list(codes), calls):
        key = name, -1, ""
        state[key] = _combined(state.get(key, 0), _digest(value))
    for number, (call, places) in enumerate(zip(calls, held, strict=False)):
        for place, value in objects_of(call):
            if place in places:
                name = f"argument {place + 1}" if isinstance(place, int) else place
                state[name, number, place] = _digest(value)
    return state


def changed(before: State, after: State, returned: Sequence[Collection[ArgumentPlace]] = ()) -> tuple[str, ...]:
    """Return the names of what has changed. What is `returned` by a call with its result reaches the program."""
    names = set()
    for key in after.keys() | before.keys():
        name, number, place = key
        back = returned[number] if 0 <= number < len(returned) else ()
        if before.get(key) != after.get(key) and place not in back:
            names.add(name)
    return tuple(sorted(names))


def _reached(codes: list[Any], calls: list[Call]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for code in codes:
        if isinstance(code, FunctionType):
            yield from _of_function(code, seen)
        else:
            yield from _of_class(code)
    for part in parts_of(calls):
        if _is_instance_of_program(part):
            yield type(part).__name__, vars(part)


def _of_function(function: FunctionType, seen: set[int]) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        if cell != EMPTY_CELL:
            yield name, cell.cell_contents
    if id(function.__globals__) not in seen:  # functions of a module share them, and only what they read is there
        seen.add(id(function.__globals__))
        for name, value in list(function.__globals__.items()):
            if not name.startswith("__"):
                yield name, value
    for value in (function.__defaults__, function.__kwdefaults__, function.__dict__):
        if value:
            yield function.__name__, value


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(kind).items()):
        if name.startswith(("__", "_abc", "_sklearn")) or callable(value) or hasattr(value, "__get__"):
            continue
        yield f"{kind.__name__}.{name}", value


def _is_instance_of_program(part: Any) -> bool:
    """Return whether its class has travelled with the task. An estimator is the task's own: each fit has a clone."""
    return (
        not isinstance(part, type)
        and mark_of(type(part)) is not None
        and hasattr(part, "__dict__")
        and not hasattr(part, "get_params")
    )


def _combined(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else hash((one, other))


def _digest(value: Any) -> int | None:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return hash((type(value), value))
    if isinstance(value, _BY_IDENTITY):
        return id(value)
    sink = _Sink()
    with suppress(Exception):  # the program's own objects are asked
        _StatePickler(sink).dump(value)
        return sink.crc
    return UNKNOWN


class _Sink(io.RawIOBase):
    """Takes a pickle in, and keeps its checksum only."""

    def __init__(self) -> None:
        super().__init__()
        self.crc = 0
        self.size = 0

    def write(self, content: Any) -> int:
        view = memoryview(content)
        self.size += view.nbytes
        if self.size > LARGEST:
            raise OverflowError
        self.crc = zlib.crc32(view, self.crc)
        return view.nbytes


class _StatePickler(pickle.Pickler):
    """Pickles data; code in it is known by its identity, as its own state is looked at by itself."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, protocol=5)

    def reducer_override(self, obj: Any) -> Any:
        if obj is id:  # itself a part of what is returned here
            return NotImplemented
        if isinstance(obj, _BY_IDENTITY):
            return id, (id(obj),)
        if isinstance(obj, MethodType):
            return id, (id(obj.__func__), obj.__self__)
        if _is_large_array(obj):
            return id, (id(obj),)
        if type(obj).__module__.startswith("scipy.sparse"):  # it notes whether it is sorted, once it was asked
            return id, ([(name, part) for name, part in sorted(vars(obj).items()) if name not in NOTED_BY_SCIPY],)
        return NotImplemented


def _is_large_array(value: Any) -> bool:
    size = getattr(value, "nbytes", 0) if type(value).__module__ == "numpy" else 0
    return isinstance(size, int) and size > LARGEST
