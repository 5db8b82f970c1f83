"""Compute a digest of an object's content that is the same in every process.

Pickles are not suitable: the order of a set depends on the hash seed, a class of the script is pickled by value with
its line numbers, and equal objects have different pickles depending on which parts are shared. Here an object is
walked: plain values by type and exact bits, containers in order, sets sorted by the digests of their elements, other
objects by what they give to pickle, library code by name and version, local code by its instructions and all that it
reaches. Objects that may contain themselves are numbered, and a repeated one is written as its number.

What cannot be walked raises `Unidentifiable`: no digest is better than a wrong one. What code reads from outside, such
as a file or the clock, is not included.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import struct
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from joblib.memory import MemorizedFunc, Memory, NotMemorizedFunc

from skjob.engine.checkpoint.code_hashing import CodeHasher
from skjob.engine.checkpoint.irrelevant_parameters import CachePlaceholder, cache_of, relevant_state
from skjob.engine.checkpoint.randomness import unseeded
from skjob.engine.checkpoint.walk import Digest, Unidentifiable, Walk, describe_type, encode_text, naming_holder
from skjob.engine.transfer.code_origin import Origins
from skjob.engine.transfer.task_pickler import MAX_INLINE_BYTES, large_size

OBSERVERS = ("_skl_callbacks", "_parent_callback_ctx")
"""Attributes in which scikit-learn 1.9 keeps the callbacks of an estimator: they watch a fit and do not change it."""

SPARSE_CACHES = frozenset({"maxprint", "_has_sorted_indices", "_has_canonical_format", "has_canonical_format"})
"""What a sparse matrix stores besides its content."""

MIN_REMEMBERED_BYTES = 256
"""Bytes above which the digest of an array is cached while the array exists."""


class Hasher(CodeHasher):
    """Digests objects for one Parallel call: it assumes that functions, classes and arrays do not change.

    Parameters
    ----------
    origins : Origins
        Distinguishes libraries from local code.
    array_key : callable
        The content key of a large array or frame.
    """

    def __init__(self, origins: Origins, array_key: Callable[[Any], str]) -> None:
        super().__init__(origins)
        self._array_key = array_key
        self._arrays: dict[int, tuple[weakref.ref[Any], bytes]] = {}
        self._under_way: set[int] = set()

    def digest(self, value: Any) -> Digest:
        """Return the digest of `value`.

        Raises
        ------
        Unidentifiable
            It contains something whose content cannot be determined.
        """
        walk = Walk(code=False)
        try:
            self._write(walk, value)
        except RecursionError:
            raise Unidentifiable("something nested too deeply") from None
        return walk.end()

    def _write(self, walk: Walk, value: Any) -> None:
        kind = type(value)
        leaf = _LEAVES.get(kind)
        if leaf is not None:
            walk.out.append(leaf(value))
            return
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, walk, value)
        else:
            self._write_other(walk, value, kind)

    def _write_other(self, walk: Walk, value: Any, kind: type) -> None:
        if isinstance(value, type):
            self._write_class(walk, value)
        elif isinstance(value, np.generic):
            self._write_numpy_scalar(walk, value)
        elif isinstance(value, enum.Enum):
            self._tagged(walk, b"enum", kind, value.name, value.value)
        elif isinstance(value, np.random.RandomState):
            self._tagged(walk, b"rng", kind, value.get_state(legacy=False))
            if value is getattr(np.random.mtrand, "_rand", None):
                walk.seeded = False
        elif isinstance(value, set | frozenset):
            self._write_set(walk, value)
        elif kind.__module__.startswith("scipy.sparse") and hasattr(value, "__dict__"):
            # By its arrays: the object also caches facts about them, which change as it is used.
            state = {name: part for name, part in vars(value).items() if name not in SPARSE_CACHES}
            self._tagged(walk, b"sparse", kind, state)
        elif kind.__module__.startswith("pandas") and large_size(value) > MAX_INLINE_BYTES:
            walk.out.append(encode_text(b"K", self._array_key(value)))
        else:
            self._write_object(walk, value, kind)

    def _write_tuple(self, walk: Walk, value: tuple[Any, ...]) -> None:
        walk.out.append(b"(%d:" % len(value))
        for each in value:
            self._write(walk, each)

    def _write_list(self, walk: Walk, value: list[Any]) -> None:
        if not walk.seen(value):
            walk.out.append(b"[%d:" % len(value))
            for each in value:
                self._write(walk, each)

    def _write_dict(self, walk: Walk, value: dict[Any, Any]) -> None:
        if not walk.seen(value):
            walk.out.append(b"{%d:" % len(value))
            for key, each in value.items():
                walk.note_jobs(key, each)
                self._write(walk, key)
                self._write(walk, each)

    def _write_set(self, walk: Walk, value: Any) -> None:
        if type(value) is not frozenset and walk.seen(value):
            return
        if id(value) in self._under_way:
            walk.out.append(b"@set;")
            return
        self._under_way.add(id(value))
        try:
            elements = []
            for each in value:
                inner = Walk(walk.code, expects_seed=walk.expects_seed)
                self._write(inner, each)
                digest = inner.end()
                elements.append(digest.value)
                walk.add(digest)
        finally:
            self._under_way.discard(id(value))
        self._tagged(walk, b"set", type(value).__name__, getattr(value, "__dict__", None))
        walk.out.append(b"%d:" % len(elements))
        walk.out += sorted(elements)

    def _write_array(self, walk: Walk, value: Any) -> None:
        if value.dtype.hasobject:
            if not walk.seen(value):
                self._tagged(walk, b"objects", value.dtype, value.shape, _is_fortran(value), value.ravel().tolist())
            return
        reference, token = self._arrays.get(id(value), (None, b""))
        if reference is None or reference() is not value:
            token = self._array_token(value)
            if value.nbytes > MIN_REMEMBERED_BYTES:
                forget, identity = self._arrays.pop, id(value)
                self._arrays[identity] = weakref.ref(value, lambda _: forget(identity, None)), token
        walk.out.append(token)

    def _array_token(self, value: Any) -> bytes:
        if value.nbytes > MAX_INLINE_BYTES:  # by its content key, which the call knows already
            return encode_text(b"K", self._array_key(value))
        dtype = value.dtype
        inner = Walk(code=False)
        self._tagged(inner, b"array", type(value).__name__, value.shape, _is_fortran(value))
        if dtype.names is None and dtype.metadata is None and dtype.kind in "biufcSUmM":
            inner.out.append(encode_text(b"s", dtype.str))
        else:
            self._write_object(inner, dtype, type(dtype))
        inner.out.append(value.tobytes(order="A"))
        return b"A" + inner.end().value

    def _write_numpy_scalar(self, walk: Walk, value: Any) -> None:
        if value.dtype.hasobject:
            self._write_object(walk, value, type(value))
        else:
            self._tagged(walk, b"scalar", value.dtype, value.tobytes())

    def _write_generator(self, walk: Walk, value: Any) -> None:
        bits = value.bit_generator
        source = getattr(bits, "seed_seq", None)
        self._tagged(walk, b"rng", type(bits), bits.state, getattr(source, "state", None))

    def _write_object(self, walk: Walk, value: Any, kind: type) -> None:
        """Write any other object: its class, and what it gives to pickle."""
        if callable(value):
            token = self._library_token(value)
            if token is not None:
                walk.out.append(token)
                return
        if walk.seen(value):
            return
        walk.out.append(b"o")
        self._write_class(walk, kind)
        if walk.code and walk.expects_seed and unseeded(value):
            walk.seeded = False
        name = describe_type(value)
        if _pickles_its_attributes(kind):
            state = {each: part for each, part in vars(value).items() if each not in OBSERVERS}
            self._write_names(walk, self._relevant_state(value, kind, state), name)
            return
        reducer = copyreg.dispatch_table.get(kind)
        try:
            reduced: Any = reducer(value) if reducer else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:
            raise Unidentifiable(name) from error
        walk.alive.append(reduced)  # its parts are recognized by their id, which must stay theirs
        if isinstance(reduced, str):
            self._write_global(walk, value, reduced, name)
            return
        with naming_holder(name):
            self._write_reduced(walk, reduced, kind, name)

    def _relevant_state(self, value: Any, kind: type, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the attributes of an object that count: all of them, unless its class is a library's."""
        if self._library_token(kind) is None:
            return state
        return relevant_state(value, kind, state, lambda code: self._library_token(code) is not None)

    def _write_memory(self, walk: Walk, value: Memory) -> None:
        """Write whether there is a cache: its location and format do not matter."""
        self._write(walk, cache_of(value))

    def _write_cached(self, walk: Walk, _: CachePlaceholder) -> None:
        walk.out.append(b"cached;")

    def _write_memorized(self, walk: Walk, value: Any) -> None:
        """Write a function whose results are cached: itself, and what decides whether a cached result is used."""
        ignored, valid = getattr(value, "ignore", None), getattr(value, "cache_validation_callback", None)
        self._tagged(walk, b"memorized", value.func, ignored, valid)

    def _write_reduced(self, walk: Walk, reduced: tuple[Any, ...], kind: type, name: str) -> None:
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        self._write(walk, function)
        self._write(walk, arguments)
        if kind.__module__.startswith("scipy.stats") and isinstance(state, dict):
            # Distributions refer to the global generator until they have another; a search gives them its own.
            state = {each: part for each, part in state.items() if each != "_random_state"}
        if type(state) is dict and all(type(each) is str for each in state):
            self._write_names(walk, state, name)
        else:
            self._write(walk, state)
        for more in (items, pairs):
            self._write(walk, None if more is None else list(more))

    def _write_global(self, walk: Walk, value: Any, qualified: str, name: str) -> None:
        """Write an object that is pickled as the name of a global."""
        for module in (getattr(value, "__module__", None), type(value).__module__):
            library = module and self._origins.library(module)
            if library:
                walk.out.append(encode_text(b"L", f"{library} {module} {qualified}"))
                return
        if type(value).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):
            self._tagged(walk, b"typevar", value.__name__, getattr(value, "__bound__", None))
            return
        raise Unidentifiable(name)


def _is_fortran(value: Any) -> bool:
    """Return whether an array is in Fortran order: sums over the other axis may differ in the last bit."""
    return bool(value.flags.f_contiguous and not value.flags.c_contiguous)


@functools.lru_cache(maxsize=1024)
def _pickles_its_attributes(kind: type) -> bool:
    """Return whether pickle takes the `__dict__` of its objects, and nothing else."""
    if kind in copyreg.dispatch_table or not kind.__dictoffset__ or kind.__basicsize__ > _PLAIN_SIZE:
        return False
    own_reduce = any(_defines(kind, name, ("builtins",)) for name in ("__reduce_ex__", "__reduce__"))
    own_state = _defines(kind, "__getstate__", ("builtins", "sklearn.base"))
    new = hasattr(kind, "__getnewargs__") or hasattr(kind, "__getnewargs_ex__")
    return not (own_reduce or own_state or new)


class _Plain:
    pass


_PLAIN_SIZE = _Plain.__basicsize__
"""The size of an object that only has attributes. One with slots, or with data of C code, is larger."""


def _defines(kind: type, name: str, elsewhere: tuple[str, ...]) -> bool:
    """Return whether a method comes from a class that is not in these modules."""
    owner = next(each for each in kind.__mro__ if name in vars(each))
    return owner.__module__ not in elsewhere


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%b;" % hex(value).encode(),
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: lambda value: encode_text(b"s", value),
    bytes: lambda value: b"b%d:%b" % (len(value), value),
    type(...): lambda _: b"E",
    type(NotImplemented): lambda _: b"I",
}

_WRITERS: dict[type, Callable[[Hasher, Walk, Any], None]] = {
    tuple: Hasher._write_tuple,
    list: Hasher._write_list,
    dict: Hasher._write_dict,
    set: Hasher._write_set,
    frozenset: Hasher._write_set,
    np.ndarray: Hasher._write_array,
    np.memmap: Hasher._write_array,
    np.ufunc: Hasher._write_ufunc,
    np.random.Generator: Hasher._write_generator,
    type: Hasher._write_class,
    types.FunctionType: Hasher._write_function,
    types.CellType: Hasher._write_cell,
    types.CodeType: Hasher._write_code,
    types.ModuleType: Hasher._write_module,
    types.MethodType: Hasher._write_method,
    types.BuiltinFunctionType: Hasher._write_builtin,
    types.MethodDescriptorType: Hasher._write_descriptor,
    types.WrapperDescriptorType: Hasher._write_descriptor,
    types.ClassMethodDescriptorType: Hasher._write_descriptor,
    types.MappingProxyType: Hasher._write_mapping,
    type(functools.lru_cache(maxsize=None)(lambda: None)): Hasher._write_lru_cache,
    functools.cached_property: Hasher._write_cached_property,
    Memory: Hasher._write_memory,
    MemorizedFunc: Hasher._write_memorized,
    NotMemorizedFunc: Hasher._write_memorized,
    CachePlaceholder: Hasher._write_cached,
    property: Hasher._write_property,
    staticmethod: Hasher._write_wrapped,
    classmethod: Hasher._write_wrapped,
}
