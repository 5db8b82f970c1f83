"""Write code into a digest: a library's by name and version, local code by instructions and all that it reaches."""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import random
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skjob.engine.checkpoint.bytecode import Uses, uses
from skjob.engine.checkpoint.module_hashing import DYNAMIC, JOBS_WORDS, ModuleHasher
from skjob.engine.checkpoint.randomness import random_by_default
from skjob.engine.checkpoint.walk import Digest, Unidentifiable, Walk, describe_type, encode_text, naming_holder
from skjob.engine.transfer.code_origin import Origins

NOT_CONTENT = frozenset(
    {
        "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
        "__slotnames__", "__annotations_cache__", "_abc_impl",
    }
)  # fmt: skip
"""Entries of a class that say where it is defined, or that Python adds."""

_GLOBAL_GENERATORS = (getattr(np.random.mtrand, "_rand", None), getattr(random, "_inst", None))

_GENERATORS = (
    np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random,
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64,
)  # fmt: skip
"""Constructors that take a seed from the system if they get no argument."""

SEED_WORDS = frozenset({"random_state", "random_seed", "seed", "rng"})

DRAWING_WORDS = frozenset(
    {"sample", "rvs", "shuffle", "permutation", "permuted", "getrandbits", "randbytes", "urandom", "uuid1", "uuid4"}
)
"""Methods that draw random numbers, on whatever object they are called. Code with one of these and none of `SEED_WORDS`
is assumed to be unseeded; a variable that happens to have such a name only means that its fits are repeated."""

MAKING_WORDS = frozenset({"default_rng", "RandomState"})

DRAWING_MODULES = ("random", "secrets", "numpy.random")
"""Modules that a function imports in order to draw."""


def _draws(reached: Uses) -> bool:
    within = {each.module for each in reached.imports}
    imported = bool(within.intersection(DRAWING_MODULES)) or ("numpy" in within and "random" in reached.words)
    # A generator made from anything but a number or a named seed may be made from None.
    made = any(chain[-1] in MAKING_WORDS and chain not in reached.called_with_number for chain in reached.chains)
    return imported or made or bool(reached.words & DRAWING_WORDS)


def _is_slot(value: Any) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _is_enums_own(name: str) -> bool:
    """Return whether Enum adds this entry to a class: it follows from the members."""
    return name in ("__new__", "__new_member__") or (name[0] == name[-1] == "_" and name[:2] != "__")


class CodeHasher(ModuleHasher):
    """Writes functions, classes, and what Python builds from them."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(origins)
        self._code_digests: dict[int, tuple[Any, Digest]] = {}

    def _write_code_root(self, walk: Walk, value: Any, write: Callable[[Walk, Any], None]) -> None:
        """Write a local function or class found in data: by a digest of its own, computed once."""
        known = self._code_digests.get(id(value))
        if known is None:
            inner = Walk(code=True)
            write(inner, value)
            known = self._code_digests[id(value)] = value, inner.end()
        walk.out.append(b"&" + known[1].value)
        walk.add(known[1])

    def _write_function(self, walk: Walk, value: types.FunctionType) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        elif walk.code:
            self._write_local_function(walk, value)
        else:
            self._write_code_root(walk, value, self._write_local_function)

    def _write_local_function(self, walk: Walk, value: types.FunctionType) -> None:
        if walk.seen(value):
            return
        walk.local = True
        name = f"function `{value.__qualname__}`"
        walk.out.append(b"F" + self._code(value.__code__))
        with naming_holder(name):
            self._write(walk, value.__defaults__)
            self._write(walk, value.__kwdefaults__)
            annotate = getattr(value, "__annotate__", None)  # Python 3.14 evaluates them on access
            self._write(walk, annotate if sys.version_info >= (3, 14) else value.__annotations__)
            self._write(walk, value.__closure__)
            self._write_names(walk, vars(value), name)
            self._write_reached(walk, value.__code__, value.__globals__)

    def _write_cell(self, walk: Walk, value: types.CellType) -> None:
        try:
            content = value.cell_contents
        except ValueError:
            walk.out.append(b"cell-")
        else:
            walk.out.append(b"cell+")
            self._write(walk, content)

    def _write_code(self, walk: Walk, value: types.CodeType) -> None:
        walk.out.append(b"C" + self._code(value))

    def _write_reached(self, walk: Walk, code: types.CodeType, scope: dict[str, Any]) -> None:
        """Write the globals that code uses, as they are now, and what it imports."""
        reached = uses(code)
        walk.out.append(b"u%d:%d:" % (len(reached.chains), len(reached.imports)))
        expects_seed, walk.expects_seed = walk.expects_seed, "random_state" not in reached.words
        if not reached.keywords.intersection(SEED_WORDS) and _draws(reached):
            walk.seeded = False
        walk.asks_for_jobs |= not reached.words.isdisjoint(JOBS_WORDS)
        for chain in reached.chains:
            walk.out.append(encode_text(b"g", ".".join(chain)))
            with naming_holder(f"global `{chain[0]}`"):
                self._write_chain(walk, chain, scope, chain in reached.called_bare)
        for each in reached.imports:
            self._write_import(walk, each, str(scope.get("__package__") or ""))
        self._write_variables(walk, code, scope)
        walk.expects_seed = expects_seed

    def _write_chain(self, walk: Walk, chain: tuple[str, ...], scope: dict[str, Any], bare: bool) -> None:
        name, *attributes = chain
        if name not in scope:
            found = hasattr(builtins, name)
            if name in DYNAMIC and found:
                raise Unidentifiable(f"a use of `{name}`")
            walk.out.append(b"B" if found else b"?")
            return
        value = scope[name]
        holder: types.ModuleType | None = None
        while isinstance(value, types.ModuleType) and attributes:
            holder = value
            try:
                value = getattr(value, attributes.pop(0))
            except AttributeError:
                walk.out.append(b"?")
                return
        if holder is not None and self._origins.library(holder.__name__) is None:
            self._write_current(walk, holder, value)
        if value is importlib.import_module or value is importlib:
            raise Unidentifiable("a use of `importlib`")
        self._note_randomness(walk, value, bare and not attributes)
        library = holder and self._origins.library(holder.__name__)
        if library and holder is not None:
            # Whatever it is, workers have it from that library, under this name.
            walk.out.append(encode_text(b"L", f"{library} {holder.__name__}"))
        else:
            self._write(walk, value)

    def _note_randomness(self, walk: Walk, value: Any, called_bare: bool) -> None:
        """Note code that draws from a global generator, or creates a generator or an estimator without a seed."""
        owner = getattr(value, "__self__", None)
        if owner is not None and any(owner is each for each in _GLOBAL_GENERATORS):
            walk.seeded = False
        if called_bare and any(value is each for each in _GENERATORS):
            walk.seeded = False
        if walk.expects_seed and callable(value) and self._library_token(value) and random_by_default(value):
            walk.seeded = False

    def _write_class(self, walk: Walk, value: type) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        elif walk.code:
            self._write_local_class(walk, value)
        else:
            self._write_code_root(walk, value, self._write_local_class)

    def _write_local_class(self, walk: Walk, value: type) -> None:
        if walk.seen(value):
            return
        walk.local = True
        walk.out.append(encode_text(b"class", value.__name__))
        name = f"class `{value.__qualname__}`"
        self._write_class(walk, type(value))
        walk.out.append(b"%d:" % len(value.__bases__))
        for base in value.__bases__:
            self._write_class(walk, base)
        own = {each: part for each, part in vars(value).items() if each not in NOT_CONTENT and not _is_slot(part)}
        if isinstance(value, enum.EnumMeta):
            members: Mapping[str, enum.Enum] = value.__members__
            own = {each: part for each, part in own.items() if each not in members and not _is_enums_own(each)}
            self._write(walk, [(each, member.value) for each, member in members.items()])
        self._write_names(walk, own, name)

    def _write_method(self, walk: Walk, value: types.MethodType) -> None:
        self._tagged(walk, b"method", value.__func__, value.__self__)

    def _write_builtin(self, walk: Walk, value: Any) -> None:
        """Write a function written in C: a library's, a method of an object, or one of a local extension module."""
        self._note_randomness(walk, value, called_bare=False)
        token = self._library_token(value)
        owner = getattr(value, "__self__", None)
        if token is not None:
            walk.out.append(token)
        elif owner is not None:
            self._tagged(walk, b"bound", value.__name__, owner)
        else:
            raise Unidentifiable(describe_type(value))

    def _write_ufunc(self, walk: Walk, value: np.ufunc) -> None:
        for module in ("numpy", "scipy.special"):
            if getattr(sys.modules.get(module), value.__name__, None) is value:
                walk.out.append(encode_text(b"L", f"{self._origins.library(module)} {module} {value.__name__}"))
                return
        raise Unidentifiable(describe_type(value))

    def _write_descriptor(self, walk: Walk, value: Any) -> None:
        self._tagged(walk, b"descriptor", value.__objclass__, value.__name__)

    def _write_wrapped(self, walk: Walk, value: Any) -> None:
        self._tagged(walk, b"wrapped", type(value), value.__func__)

    def _write_property(self, walk: Walk, value: property) -> None:
        self._tagged(walk, b"property", value.fget, value.fset, value.fdel)

    def _write_cached_property(self, walk: Walk, value: functools.cached_property[Any]) -> None:
        self._tagged(walk, b"cached_property", value.func, value.attrname)

    def _write_lru_cache(self, walk: Walk, value: Any) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        else:
            self._tagged(walk, b"lru_cache", value.__wrapped__, value.cache_parameters())

    def _write_mapping(self, walk: Walk, value: types.MappingProxyType[Any, Any]) -> None:
        self._tagged(walk, b"mapping", dict(value))
