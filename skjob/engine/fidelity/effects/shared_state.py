"""Detect whether a task has changed what it shares with the program.

If plain Python runs tasks in the program's process (`n_jobs` not given, or threads), a task may change the program's
memory: a scorer that records each fold, a counter, a cache. On a worker it changes a copy. So the worker takes a digest
of all that the program's own code reaches, before and after the task: global variables, cells, defaults and attributes
of the functions that travelled with the task, data in its classes and modules, instances among its arguments, and, if
the program itself makes the call, the arguments that it still references. A library's function works on its estimator
and its data; its other arguments, such as a scorer with a list in it or what goes to `fit`, have digests too. Reading
changes no digest. What cannot have one is named, and reported to the user.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from logging import Logger
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from skjob.engine.fidelity.effects.code_identity import mark_of
from skjob.engine.fidelity.effects.returned_arguments import ArgumentKey, is_array, items_of, objects_of
from skjob.engine.joblib_calls import EMPTY_CELL, JoblibCall, inner_function, iter_nested
from skjob.engine.transfer.pickling import CACHE_TYPE
from skjob.engine.transfer.worker_plugins import is_from, unpacked_folders

MAX_DIGEST_BYTES = 2**20
"""Bytes above which only the length of a container is compared. Shared arrays of that size are read-only on workers."""


class Unknown(Enum):
    """Why a value has no digest."""

    TOO_LARGE = "too large to compare"
    UNPICKLABLE = "cannot be pickled, and so not be compared"


Key = tuple[str, int, ArgumentKey]
"""A name for messages, and for an argument the number of its call and its key there."""

State = Mapping[Key, int | Unknown]
"""The digests of what a task shares with the program."""

SCIPY_CACHES = frozenset({"_has_sorted_indices", "_has_canonical_format"})
"""What a sparse matrix caches about its content when it is asked."""

_DATA = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy"})
"""Packages of data types, which a library's function does not change."""

BOOKKEEPING = "CallbackContext"
"""The class of scikit-learn 1.9 with the tree of the fits of a search, to which each fit adds."""

_OF_LIBRARIES = (b"DASK_", b"JOBLIB_", b"KMP_", b"LOKY_", b"MKL_", b"NUMEXPR_", b"OMP_", b"OPENBLAS_", b"SKLEARN_")
"""Beginnings of the names of environment variables that libraries set when they are imported."""

_CONTAINERS = frozenset({dict, list, set, tuple})

_CHANGEABLE = frozenset({dict, list, set})

_NUMBERS = frozenset({bool, int, float})

_BY_IDENTITY = (FunctionType, BuiltinFunctionType, ModuleType, type, CACHE_TYPE)
"""Types that are compared by identity. The content of a function's cache is its result, and no effect."""


LiveArguments = Sequence[Sequence[ArgumentKey]]
"""For each call, the places of the arguments that the program still references."""


def state_of(codes: Iterable[Any], calls: list[JoblibCall], live: LiveArguments = (), *, caches: bool = False) -> State:
    """Return the digests of what these functions, classes and modules reach, and of the arguments that the program
    still references; with `caches`, also how often the caches of functions were used."""
    codes = list(codes)
    state: dict[Key, int | Unknown] = {}
    for code in codes if caches else ():
        if isinstance(code, CACHE_TYPE):
            state[code.__name__, -1, "cache"] = hash(code.cache_info())
    for name, value in _reached(codes, calls):
        key = name, -1, ""
        digest = _digest(value)
        state[key] = _combined(state.get(key, 0), digest)
        if digest is Unknown.TOO_LARGE and type(value) in _CONTAINERS:
            state[name, -1, "length"] = len(value)  # additions to it are seen nevertheless
    for number, (call, places) in enumerate(zip(calls, live, strict=False)):
        for place, value in objects_of(call):
            if place in places:
                name = f"argument {place + 1}" if isinstance(place, int) else place
                state[name, number, place] = _digest(value)
    return state


def changed(before: State, after: State, returned: Sequence[Collection[ArgumentKey]] = ()) -> tuple[str, ...]:
    """Return the names of what has changed. Arguments that a call has `returned` reach the program anyway."""
    names = set()
    for key in after.keys() | before.keys():
        name, number, place = key
        back = returned[number] if 0 <= number < len(returned) else ()
        if before.get(key) != after.get(key) and place not in back:
            names.add(name)
    return tuple(sorted(names))


def describe_unknown(state: State) -> tuple[str, ...]:
    """Return descriptions of what has no digest."""
    descriptions = {f"`{key[0]}` ({digest.value})" for key, digest in state.items() if isinstance(digest, Unknown)}
    return tuple(sorted(descriptions))


def describe_unseen(function: str, place: str, names: Iterable[str]) -> str:
    """Return the line that reports tasks that share this with the program."""
    where = f" ({place})" if place else ""
    return f"the tasks of `{function}`{where} use {', '.join(names)}: a change of it by a task is not seen"


def imported_modules(codes: Iterable[Any], folders: Iterable[str]) -> list[ModuleType]:
    """Return the modules below `folders` that these functions import when they run, if they are imported."""
    below = tuple(folders)
    named = {name for code in codes if isinstance(code, FunctionType) for name in _names_in(code.__code__)}
    modules = [sys.modules[name] for name in named & sys.modules.keys()] if below else []
    return [module for module in modules if str(getattr(module, "__file__", None)).startswith(below)]


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names_in(part)


def _reached(codes: list[Any], calls: list[JoblibCall]) -> Iterator[tuple[str, Any]]:
    yield from _reached_by(codes, calls, _of_module)
    if codes:  # otherwise no code of the program runs there
        yield "os.environ", _environment()
        for call in calls:
            yield from _carried(call)


def _reached_by(
    codes: Iterable[Any],
    calls: list[JoblibCall],
    of_module: Callable[[ModuleType, set[int]], Iterable[tuple[str, Any]]],
) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for code in codes:
        if isinstance(code, FunctionType):
            yield from _of_function(code, seen)
        elif isinstance(code, ModuleType):
            yield from of_module(code, seen)
        elif isinstance(code, type):
            yield from _of_class(code)
    for part in iter_nested(calls):
        if _is_instance_of_program(part):
            yield type(part).__name__, vars(part)


def own_objects(codes: Iterable[Any], calls: list[JoblibCall]) -> dict[int, str]:
    """Return the objects that these functions and classes reach and that a result must not contain copies of, by
    identity: `result is MISSING` would be False in the program, and a list that it changes be another one."""
    found: dict[int, str] = {}
    for name, value in _reached_by(codes, calls, _globals_of):
        for part in filter(_is_unique, (value, *items_of(value))):
            found[id(part)] = name
            if is_array(part) and part.base is not None:  # all of its views have the same base
                found[id(part.base)] = name
    return found


def _globals_of(module: ModuleType, _seen: set[int]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in list(vars(module).items()) if not name.startswith("__")]


def _is_unique(value: Any) -> bool:
    kind: Any = type(value)
    if kind in _CHANGEABLE or is_array(value):
        return True
    return (
        kind.__eq__ is object.__eq__
        and value is not None
        and not isinstance(value, (*_BY_IDENTITY, MethodType, property, staticmethod, classmethod, Enum, Logger))
        and (kind is object or mark_of(kind) is not None)
    )


def _carried(call: JoblibCall) -> Iterator[tuple[str, Any]]:
    """Yield what the program bound to its function, or passes to its own code through a library's function."""
    function, arguments, keywords = call
    inner = inner_function(function)
    if isinstance(inner, partial):
        yield "partial", (inner.args, inner.keywords)
    while isinstance(inner, partial):
        inner = inner.func
    if isinstance(inner, FunctionType) and mark_of(inner) is None:
        for name, value in _named(inner, arguments, keywords):
            if not (
                hasattr(type(value), "get_params")
                or type(value).__module__.partition(".")[0] in _DATA
                or type(value).__name__ == BOOKKEEPING
            ):
                yield name, value


def _named(function: FunctionType, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from zip(function.__code__.co_varnames, arguments, strict=False)
    yield from keywords.items()


def _environment() -> int:
    variables = getattr(os.environ, "_data", os.environ)  # the raw items: decoding them takes longer
    return hash(frozenset(each for each in variables.items() if not os.fsencode(each[0]).startswith(_OF_LIBRARIES)))


def _of_function(function: FunctionType, seen: set[int]) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        if cell != EMPTY_CELL:
            yield name, cell.cell_contents
    if id(function.__globals__) not in seen:  # functions of a module share them, and only what they read has travelled
        seen.add(id(function.__globals__))
        for name, value in list(function.__globals__.items()):
            if not name.startswith("__"):
                yield name, value
    for value in (function.__defaults__, function.__kwdefaults__, function.__dict__):
        if value:
            yield function.__name__, value


def _of_module(module: ModuleType, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the data of a module, and of the program's modules that it imports. What does not travel is the worker's
    own, and left out."""
    scope = vars(module)
    if id(scope) in seen:
        return
    seen.add(id(scope))
    folders = tuple(unpacked_folders())
    for name, value in list(scope.items()):
        if name.startswith("__"):
            continue
        if isinstance(value, ModuleType):
            if folders and is_from(value, folders):
                yield from _of_module(value, seen)
        elif isinstance(value, type):
            if value.__module__ == module.__name__:
                yield from _of_class(value)
        elif isinstance(value, FunctionType):
            if value.__globals__ is scope:
                yield from _of_function(value, seen)
        elif not isinstance(value, _BY_IDENTITY):
            digest = _digest(value)
            if not isinstance(digest, Unknown):
                yield f"{module.__name__}.{name}", digest  # instead of the value, which need not be pickled again


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(kind).items()):
        if name.startswith(("__", "_abc", "_sklearn")):
            continue
        if not (callable(value) or hasattr(value, "__get__")):
            yield f"{kind.__name__}.{name}", value
        elif not isinstance(value, type) and mark_of(type(value)) is not None and hasattr(value, "__dict__"):
            yield f"{kind.__name__}.{name}", vars(value)  # a descriptor or callable of the program, with a state


def _is_instance_of_program(part: Any) -> bool:
    """Return whether its class travelled with the task. Estimators do not count: each fit has its own clone."""
    return (
        not isinstance(part, type)
        and mark_of(type(part)) is not None
        and hasattr(part, "__dict__")
        and not hasattr(type(part), "get_params")
    )


def _combined(one: int | Unknown, other: int | Unknown) -> int | Unknown:
    for digest in (one, other):
        if isinstance(digest, Unknown):
            return digest
    return hash((one, other))


def _digest(value: Any) -> int | Unknown:
    if value is None or isinstance(value, str | bytes):
        return hash((type(value), value))
    if type(value) in _NUMBERS:  # the hashes of -1 and -2 are the same
        return hash(pickle.dumps(value, protocol=5))
    if isinstance(value, _BY_IDENTITY):
        return hash(_identity(value))
    if type(value) in _CONTAINERS and not value:
        return hash(type(value))
    sink = _Sink()
    try:
        _StatePickler(sink).dump(value)
    except Exception:  # the program's own objects are called
        return Unknown.TOO_LARGE if sink.size > MAX_DIGEST_BYTES else Unknown.UNPICKLABLE
    return sink.crc


def _identity(code: Any) -> int | str:
    """Return what identifies code. Each task may create its own copy of code that travels: the mark stays the same."""
    return mark_of(code) or id(code)


class _Sink(io.RawIOBase):
    """Receives a pickle, and keeps only its checksum."""

    def __init__(self) -> None:
        super().__init__()
        self.crc = 0
        self.size = 0

    def write(self, content: Any) -> int:
        view = memoryview(content)
        self.size += view.nbytes
        if self.size > MAX_DIGEST_BYTES:
            raise OverflowError
        self.crc = zlib.crc32(view, self.crc)
        return view.nbytes


class _StatePickler(pickle.Pickler):
    """Pickles data. Code in it is written by its identity: its own state has a digest of its own."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, protocol=5)

    def reducer_override(self, obj: Any) -> Any:
        if obj is id:  # it is part of what is returned here
            return NotImplemented
        if isinstance(obj, _BY_IDENTITY):
            return id, (_identity(obj),)
        if isinstance(obj, MethodType):
            return id, (_identity(obj.__func__), obj.__self__)
        if _is_large_array(obj):
            return id, (id(obj),)
        if type(obj).__module__.startswith("scipy.sparse"):  # it caches whether it is sorted
            return id, ([(name, part) for name, part in sorted(vars(obj).items()) if name not in SCIPY_CACHES],)
        return NotImplemented


def _is_large_array(value: Any) -> bool:
    size = getattr(value, "nbytes", 0) if type(value).__module__ == "numpy" else 0
    return isinstance(size, int) and size > MAX_DIGEST_BYTES
