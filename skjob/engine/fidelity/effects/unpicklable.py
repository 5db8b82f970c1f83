"""Find the object in a task that cannot be pickled: an open file, a connection, a progress bar, a lock.

Pickle's own message names a type, which may be unknown to the user: a progress bar has a lock of threads. The path to
the object, from an argument through attributes and names, is what a user can look for in the program. Each part on the
path is pickled separately, without arrays.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from skjob.engine.checkpoint.bytecode import uses
from skjob.engine.joblib_calls import JoblibCall, calls_of, fit_arguments, inner_function
from skjob.engine.transfer.local_code import SCRIPT, CodeOrigin, origin_of
from skjob.engine.transfer.task_pickler import MAX_INLINE_BYTES, dump_task, large_size

MAX_ATTEMPTS = 300
"""Parts of a task that are pickled to find the one that cannot be."""

MAX_PATH_LENGTH = 20
MAX_CONTAINER_ITEMS = 100
"""Items of a list, a tuple or a mapping that are looked at."""

_ARROW = " → "


@dataclass(frozen=True)
class Unpicklable:
    """An object that cannot be pickled: the path to it, `scorer → bar`, and its type."""

    path: str
    kind: str


def why_unpicklable(task: Any, error: Exception, root: Path | None = None) -> str:
    """Return why a task cannot be pickled: the path to the object, or the text of the error if no part fails."""
    found = find_unpicklable(task, root)
    if found is None:
        return f"{type(error).__name__}: {error}"
    return f"`{found.path}` is a {found.kind}, which cannot be pickled"


def find_unpicklable(task: Any, root: Path | None = None) -> Unpicklable | None:
    """Return what cannot be pickled in a task (joblib's batch, a call, or a list of calls); None if all of it can.

    `root` is the folder of the user's script.
    """
    search = _Search(root)
    for call in _calls(task):
        for name, part in _named_parts(call):
            if search.fails(part):
                return search.find(name, part)
    return None


def _calls(task: Any) -> list[JoblibCall]:
    if isinstance(task, list):
        return task
    return [task] if isinstance(task, tuple) else calls_of(task)


def _named_parts(call: JoblibCall) -> Iterator[tuple[str, Any]]:
    """Yield the arguments by the names that the function gives them, then the function itself."""
    function, arguments, keywords = call
    named = fit_arguments(call)
    if named is None:
        named = _bound(inner_function(function), arguments, keywords)
    yield from named.items()
    yield getattr(inner_function(function), "__name__", type(function).__name__), function


def _bound(function: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).bind(*arguments, **keywords).arguments
    except (TypeError, ValueError):
        return {**{f"argument {number + 1}": each for number, each in enumerate(arguments)}, **keywords}


class _Search:
    """One search for what cannot be pickled. It visits each object once, and not too many."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._met: dict[int, Any] = {}
        self._left = MAX_ATTEMPTS

    def fails(self, value: Any) -> bool:
        """Return whether pickling this by itself raises."""
        if self._left <= 0:
            return False
        self._left -= 1
        try:
            dump_task(value, _leave_out, self._root)
        except Exception:  # whatever the user's own objects raise
            return True
        return False

    def find(self, path: str, value: Any, depth: int = 0) -> Unpicklable:
        """Return the innermost part that fails and that the user knows."""
        self._met[id(value)] = value
        if depth < MAX_PATH_LENGTH:
            for step, part in self._parts(value):
                if id(part) not in self._met and self.fails(part):
                    return self.find(f"{path}{step}", part, depth + 1)
        kind = type(value)
        module = "" if kind.__module__ in ("builtins", *SCRIPT) else f"{kind.__module__}."
        return Unpicklable(path, f"{module}{kind.__qualname__}")

    def _parts(self, value: Any) -> Iterable[tuple[str, Any]]:
        """Return the parts of an object, each with the step that leads there; none for a library's object."""
        try:
            for kinds, parts in _PARTS:
                if isinstance(value, kinds):
                    return list(parts(value))
            if isinstance(value, type):
                return self._parts_of_class(value)
            if self._is_transparent(type(value)):
                return [*_attributes(value), *self._parts_of_class(type(value))]
        except Exception:  # the user's own objects are called
            return []
        return []

    def _parts_of_class(self, kind: type) -> list[tuple[str, Any]]:
        local = [each for each in kind.__mro__ if self._is_local(each.__module__)]
        return [
            (f"{_ARROW}{name}", getattr(part, "__func__", part))
            for each in local
            for name, part in vars(each).items()
            if name not in ("__dict__", "__weakref__")
        ]

    def _is_transparent(self, kind: type) -> bool:
        """Return whether users know the parts of such an object: an estimator, or one of the program's own classes."""
        return hasattr(kind, "get_params") or kind.__module__.startswith("sklearn.") or self._is_local(kind.__module__)

    def _is_local(self, module: str) -> bool:
        file = getattr(sys.modules.get(module), "__file__", None)
        if module in SCRIPT:
            return True
        return isinstance(file, str) and origin_of(module, file, self._root) in (CodeOrigin.LOCAL, CodeOrigin.EDITABLE)


def _leave_out(value: Any) -> str | None:
    """Leave out large arrays, which can always be sent."""
    return "" if large_size(value) > MAX_INLINE_BYTES else None


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    names = dict(vars(value)) if hasattr(value, "__dict__") else {}
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                names[name] = getattr(value, name)
    return ((f"{_ARROW}{name}", part) for name, part in names.items())


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    return ((f"[{number}]", part) for number, part in enumerate(list(value)[:MAX_CONTAINER_ITEMS]))


def _pairs(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"[{key!r}]", part) for key, part in list(value.items())[:MAX_CONTAINER_ITEMS])


def _parts_of_partial(value: partial[Any]) -> Iterator[tuple[str, Any]]:
    yield "", value.func
    yield from ((f"{_ARROW}argument {number + 1}", part) for number, part in enumerate(value.args))
    yield from ((f"{_ARROW}{name}", part) for name, part in value.keywords.items())


def _parts_of_method(value: MethodType) -> Iterator[tuple[str, Any]]:
    yield "", value.__self__
    yield "", value.__func__


def _parts_of_function(value: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what travels with a function by value: its closure, its defaults, the globals it uses."""
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        if not _is_empty(cell):
            yield f"{_ARROW}{name}", cell.cell_contents
    names = value.__code__.co_varnames[: value.__code__.co_argcount]
    defaults = value.__defaults__ or ()
    yield from (
        (f"{_ARROW}{name}", part) for name, part in zip(names[len(names) - len(defaults) :], defaults, strict=True)
    )
    yield from ((f"{_ARROW}{name}", part) for name, part in (value.__kwdefaults__ or {}).items())
    yield from ((f"{_ARROW}{name}", part) for name, part in vars(value).items())
    yield from ((f"{_ARROW}{name}", value.__globals__[name]) for name in _globals_of(value.__code__, value.__globals__))


def _globals_of(code: CodeType, scope: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(chain[0] for chain in uses(code).chains if chain[0] in scope))


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises where there is nothing
    except ValueError:
        return True
    return False


_PARTS: tuple[tuple[Any, Callable[[Any], Iterator[tuple[str, Any]]]], ...] = (
    ((list, tuple, set, frozenset), _items),
    (dict, _pairs),
    (partial, _parts_of_partial),
    (MethodType, _parts_of_method),
    (FunctionType, _parts_of_function),
)
