"""Pickle the user's own code by value, with the names of its files."""

from __future__ import annotations

import io
import operator
import sys
from functools import lru_cache, singledispatch, update_wrapper
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
from joblib.externals.loky.cloudpickle_wrapper import CloudpickledObjectWrapper

from skjob.engine.fidelity.effects import code_identity

NO_FILE = "<dynamic-code>"
"""What cloudpickle may write instead of a file's name."""

CACHE_TYPE: Any = type(lru_cache(int))

DISPATCH_CODE: Any = singledispatch(lambda value: value).__code__  # type: ignore[attr-defined]
"""The code of what `functools.singledispatch` makes: a function around a cache of weak references."""

STATE_SETTER_LENGTH = 6
"""The length of the reduced form of what cloudpickle makes first and then gives its state: code by value."""


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, with the name of the file that code comes from.

    Tracebacks show it, warnings point to it, and the client finds the line of source by it.

    GONE WHEN the `co_filename` of what `cloudpickle.loads(cloudpickle.dumps(lambda: 0))` returns is that of the lambda
    again: cloudpickle 3.1.3 writes `NO_FILE` instead (https://github.com/cloudpipe/cloudpickle/pull/560).
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return how code is reduced; cloudpickle knows how to reduce everything else."""
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        return make, tuple(obj.co_filename if isinstance(part, str) and part == NO_FILE else part for part in parts)


class MarkingPickler(CodePickler):
    """Pickle for a worker: code that travels by value carries its mark."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        if isinstance(obj, CloudpickledObjectWrapper):
            # Its own pickle has another one inside, whose code has no marks.
            return (type(obj), (obj._obj, True)) if obj._keep_wrapper else (_itself, (obj._obj,))
        if isinstance(obj, CACHE_TYPE) and not is_importable(obj):
            return reduced_cache(obj)
        if isinstance(obj, FunctionType) and obj.__code__ is DISPATCH_CODE and not is_importable(obj):
            return reduced_dispatch(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, FunctionType | type) and type(reduced) is tuple and len(reduced) == STATE_SETTER_LENGTH:
            return code_identity.with_mark(obj, reduced)
        return reduced


def _itself(value: Any) -> Any:
    return value


class _Cached:
    """Stands for the function of a cache until it is known."""

    function: Any = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*arguments, **keywords)


def is_importable(wrapper: Any) -> bool:
    """Return whether a worker can import what `functools` made by its name, as it can from a library."""
    name = getattr(wrapper, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name == "__main__" or name in cloudpickle.list_registry_pickle_by_value():
        return False
    try:
        return operator.attrgetter(wrapper.__qualname__)(module) is wrapper
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
        (code_identity.mark_of_original(cache), _fill_cache, cache.__wrapped__),
        None,
        None,
        code_identity.restore,
    )


def _new_cache(parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(_Cached())


def _fill_cache(cache: Any, function: Any) -> None:
    cache.__wrapped__.function = function
    update_wrapper(cache, function)


def reduced_dispatch(dispatch: Any) -> Any:
    """Return the reduced form of what `functools.singledispatch` makes: one for the same functions by their types."""
    own = {name: value for name, value in vars(dispatch).items() if name not in _OF_DISPATCH}
    return (
        _new_dispatch,
        (dispatch.__name__,),
        (code_identity.mark_of_original(dispatch), _fill_dispatch, (dict(dispatch.registry), own)),
        None,
        None,
        code_identity.restore,
    )


_OF_DISPATCH = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})


def _new_dispatch(name: str) -> Any:
    default = _Cached()
    default.__dict__["__name__"] = name
    return singledispatch(default)


def _fill_dispatch(dispatch: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    registry, own = state
    for kind, function in registry.items():
        dispatch.register(kind, function)
    update_wrapper(dispatch, registry[object])
    vars(dispatch).update(own)


class ReturningPickler(CodePickler):
    """Pickle for the program: code that has come from there with a mark goes back as that mark."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced."""
        if isinstance(obj, FunctionType | type | CACHE_TYPE) and (mark := code_identity.mark_of(obj)) is not None:
            return code_identity.marked_object, (mark,)
        return super().reducer_override(obj)


def dumps(value: Any, pickler: type[CodePickler] = ReturningPickler) -> bytes:
    """Return `value` as bytes that `pickle.loads` reads.

    Raises whatever pickling it raises.
    """
    buffer = io.BytesIO()
    pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()
