"""Pickles that hold the user's own code by value, which is then known by its file wherever it runs."""

from __future__ import annotations

import io
import operator
import sys
from functools import lru_cache, update_wrapper
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from skjob.engine.fidelity import marks

NO_FILE = "<dynamic-code>"
"""What cloudpickle may write in the place of a file's name."""

CACHE_TYPE: Any = type(lru_cache(int))

STATE_SETTER_LENGTH = 6
"""The length of the reduced form of what cloudpickle makes first and then gives its state: code by value."""


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with the name of the file that code comes from.

    Tracebacks show it, warnings are given for it, and the client finds the line of source by it.

    GONE WHEN the `co_filename` of what `cloudpickle.loads(cloudpickle.dumps(lambda: 0))` returns is that of the lambda
    again: cloudpickle 3.1.3 writes `NO_FILE` instead (https://github.com/cloudpipe/cloudpickle/pull/560).
    """

    def reducer_override(self, obj: Any) -> Any:
        """What becomes of code; cloudpickle knows how to reduce everything else."""
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        return make, tuple(obj.co_filename if isinstance(part, str) and part == NO_FILE else part for part in parts)


class MarkingPickler(CodePickler):
    """Pickle for a worker: code that travels by value carries its mark."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        if isinstance(obj, CACHE_TYPE) and not is_found_by_name(obj):
            return reduced_cache(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, FunctionType | type) and type(reduced) is tuple and len(reduced) == STATE_SETTER_LENGTH:
            return marks.with_mark(obj, reduced)
        return reduced


class _Cached:
    """What a cache is around, until the function is there."""

    function: Any = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*arguments, **keywords)


def is_found_by_name(cache: Any) -> bool:
    """Return whether a worker finds a cache where its name says, as it does in a library."""
    name = getattr(cache, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__" or name in cloudpickle.list_registry_pickle_by_value():
        return False
    try:
        return operator.attrgetter(cache.__qualname__)(module) is cache
    except AttributeError:
        return False


def reduced_cache(cache: Any) -> Any:
    """Return the reduced form of what `functools.lru_cache` makes: an empty cache around the same function.

    Its own is by name, which a worker does not find for code of the program. A function may call itself through its
    cache, so the cache is made first.
    """
    return (
        _new_cache,
        (cache.cache_parameters(),),
        (marks.mark_of_original(cache), _fill_cache, cache.__wrapped__),
        None,
        None,
        marks.restore,
    )


def _new_cache(parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(_Cached())


def _fill_cache(cache: Any, function: Any) -> None:
    cache.__wrapped__.function = function
    update_wrapper(cache, function)


class ReturningPickler(CodePickler):
    """Pickle for the program: code that has come from there with a mark goes back as that mark."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        if isinstance(obj, FunctionType | type | CACHE_TYPE) and (mark := marks.mark_of(obj)) is not None:
            return marks.marked_object, (mark,)
        return super().reducer_override(obj)


def dumps(value: Any, pickler: type[CodePickler] = ReturningPickler) -> bytes:
    """Return `value` as bytes that `pickle.loads` reads.

    Raises whatever pickling it raises.
    """
    buffer = io.BytesIO()
    pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()
