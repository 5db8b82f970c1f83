"""A digest of what an object is, the same in every process: the ground on which two fits are called the same.

Pickles are no such ground: a set's order depends on the hash seed, a class of the script is pickled by value with its
line numbers, and equal objects have different pickles as their parts are shared or not. Here an object is walked:
plain values by type and exact bits, containers in order, sets sorted by the digests of their elements, other objects
by what they give to pickle, library code by name and version, local code by its instructions and whatever it reaches.
Objects that may hold themselves are numbered as they are met, and a second meeting is the number.

What can't be walked raises `Unidentifiable`: no digest is better than a wrong one. What code reads from outside, a
file or the clock, is not seen.
"""

from __future__ import annotations

import builtins
import copyreg
import enum
import functools
import hashlib
import importlib
import os
import random
import struct
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from joblib.memory import MemorizedFunc, Memory, NotMemorizedFunc

from skjob.engine.code_uses import Import, Uses, uses
from skjob.engine.data import SMALL, large_size
from skjob.engine.fidelity.indifferent import Cached, cache_of, of_importance
from skjob.engine.fidelity.variables import aliases_in, is_workers_own, reads
from skjob.engine.origin import Origins, locate
from skjob.engine.randomness import random_by_default, unseeded

DYNAMIC = frozenset({"exec", "eval", "__import__", "globals", "compile"})
"""Builtins by which code reaches what its instructions don't name."""

JOBS_WORDS = frozenset({"n_jobs", "effective_n_jobs", "Parallel", "parallel_config", "parallel_backend"})
"""Words of code that may ask for jobs."""

NOT_CONTENT = frozenset(
    {
        "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
        "__slotnames__", "__annotations_cache__", "_abc_impl",
    }
)  # fmt: skip
"""Entries of a class that say where it stands, or that Python fills in."""

OBSERVERS = ("_skl_callbacks", "_parent_callback_ctx")
"""Attributes in which scikit-learn 1.9 keeps the callbacks of an estimator: they watch a fit and don't change it."""

SPARSE_CACHES = frozenset({"maxprint", "_has_sorted_indices", "_has_canonical_format", "has_canonical_format"})
"""What a sparse matrix holds beside its content."""

REMEMBERED = 256
"""Bytes above which the digest of an array is remembered for as long as the array lives."""


class Unidentifiable(Exception):
    """An object whose content can't be told. The message names it, and what holds it."""

    def __init__(self, what: str, holder: str = "") -> None:
        super().__init__(what, holder)
        self.what = what
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.what} in {self.holder}" if self.holder else self.what


def asks_for_jobs(name: str, value: Any) -> bool:
    """Return whether a parameter, also of a part such as `model__n_jobs`, asks for other than one job."""
    return name.endswith("n_jobs") and isinstance(value, int | np.integer) and value != 1


@contextmanager
def _held_by(holder: str) -> Iterator[None]:
    try:
        yield
    except Unidentifiable as error:
        if not error.holder:
            error.holder = holder
        raise


@dataclass(frozen=True)
class Digest:
    """What an object is, as bytes.

    `seeded` is False if the object reaches code that draws random numbers from no seed. `asks_for_jobs` is True if it
    holds an estimator, or reaches local code, whose result may depend on how many jobs plain Python has for it.
    """

    value: bytes
    seeded: bool = True
    asks_for_jobs: bool = False


@dataclass
class _Walk:
    """One digest on its way. `code` is True within a function or class, where everything is walked in one go."""

    code: bool
    out: list[bytes] = field(default_factory=list)
    numbers: dict[int | str, int] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    seeded: bool = True
    expects_seed: bool = True
    asks_for_jobs: bool = False

    def note_jobs(self, name: Any, value: Any) -> None:
        """Note a parameter `n_jobs` that asks for other than one job."""
        self.asks_for_jobs |= type(name) is str and asks_for_jobs(name, value)

    def add(self, digest: Digest) -> None:
        """Note what holds of a part that has a digest of its own."""
        self.seeded &= digest.seeded
        self.asks_for_jobs |= digest.asks_for_jobs

    def met(self, value: Any) -> bool:
        """Whether this mutable object was met before; its number is written then. It is kept alive, for its id."""
        number = self.numbers.get(id(value))
        if number is not None:
            self.out.append(b"@%d;" % number)
            return True
        self.numbers[id(value)] = len(self.numbers)
        self.kept.append(value)
        return False

    def end(self) -> Digest:
        return Digest(hashlib.blake2b(b"".join(self.out), digest_size=20).digest(), self.seeded, self.asks_for_jobs)


class Contents:
    """Digests of objects. One lives as long as a Parallel call: it takes functions, classes and arrays as unchanged.

    Parameters
    ----------
    origins : Origins
        Tells libraries from local code.
    array_key : callable
        The content key of a large array or frame.
    """

    def __init__(self, origins: Origins, array_key: Callable[[Any], str]) -> None:
        self._origins = origins
        self._array_key = array_key
        self._tokens: dict[int, tuple[Any, bytes]] = {}
        self._code_digests: dict[int, tuple[Any, Digest]] = {}
        self._arrays: dict[int, tuple[weakref.ref[Any], bytes]] = {}
        self._codes: dict[int, tuple[types.CodeType, bytes]] = {}
        self._sources: dict[Path, _Source] = {}
        self._under_way: set[int] = set()

    def digest(self, value: Any) -> Digest:
        """The digest of `value`.

        Raises:
            Unidentifiable: it holds something whose content can't be told.
        """
        walk = _Walk(code=False)
        try:
            self._write(walk, value)
        except RecursionError:
            raise Unidentifiable("something nested too deeply") from None
        return walk.end()

    # Values

    def _write(self, walk: _Walk, value: Any) -> None:
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

    def _write_other(self, walk: _Walk, value: Any, kind: type) -> None:
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
            # By its arrays: the object also keeps what it has found out about them, which changes as it is used.
            state = {name: part for name, part in vars(value).items() if name not in SPARSE_CACHES}
            self._tagged(walk, b"sparse", kind, state)
        elif kind.__module__.startswith("pandas") and large_size(value) > SMALL:
            walk.out.append(_text(b"K", self._array_key(value)))
        else:
            self._write_object(walk, value, kind)

    def _tagged(self, walk: _Walk, tag: bytes, *parts: Any) -> None:
        walk.out.append(b"<%b%d:" % (tag, len(parts)))
        for part in parts:
            self._write(walk, part)

    def _write_tuple(self, walk: _Walk, value: tuple[Any, ...]) -> None:
        walk.out.append(b"(%d:" % len(value))
        for each in value:
            self._write(walk, each)

    def _write_list(self, walk: _Walk, value: list[Any]) -> None:
        if not walk.met(value):
            walk.out.append(b"[%d:" % len(value))
            for each in value:
                self._write(walk, each)

    def _write_dict(self, walk: _Walk, value: dict[Any, Any]) -> None:
        if not walk.met(value):
            walk.out.append(b"{%d:" % len(value))
            for key, each in value.items():
                walk.note_jobs(key, each)
                self._write(walk, key)
                self._write(walk, each)

    def _write_names(self, walk: _Walk, values: Mapping[str, Any], holder: str) -> None:
        """Attributes and the like, whose order is of no importance."""
        walk.out.append(b"n%d:" % len(values))
        for name in sorted(values):
            walk.out.append(_text(b"s", name))
            walk.note_jobs(name, values[name])
            try:
                self._write(walk, values[name])
            except Unidentifiable as error:
                error.holder = error.holder or f"`{name}` of {holder}"
                raise

    def _write_set(self, walk: _Walk, value: Any) -> None:
        if type(value) is not frozenset and walk.met(value):
            return
        if id(value) in self._under_way:
            walk.out.append(b"@set;")
            return
        self._under_way.add(id(value))
        try:
            elements = []
            for each in value:
                inner = _Walk(walk.code, expects_seed=walk.expects_seed)
                self._write(inner, each)
                digest = inner.end()
                elements.append(digest.value)
                walk.add(digest)
        finally:
            self._under_way.discard(id(value))
        self._tagged(walk, b"set", type(value).__name__, getattr(value, "__dict__", None))
        walk.out.append(b"%d:" % len(elements))
        walk.out += sorted(elements)

    def _write_array(self, walk: _Walk, value: Any) -> None:
        if value.dtype.hasobject:
            if not walk.met(value):
                self._tagged(walk, b"objects", value.dtype, value.shape, _is_fortran(value), value.ravel().tolist())
            return
        reference, token = self._arrays.get(id(value), (None, b""))
        if reference is None or reference() is not value:
            token = self._array_token(value)
            if value.nbytes > REMEMBERED:
                forget, identity = self._arrays.pop, id(value)
                self._arrays[identity] = weakref.ref(value, lambda _: forget(identity, None)), token
        walk.out.append(token)

    def _array_token(self, value: Any) -> bytes:
        if value.nbytes > SMALL:  # told by its content key, which the call knows already
            return _text(b"K", self._array_key(value))
        dtype = value.dtype
        inner = _Walk(code=False)
        self._tagged(inner, b"array", type(value).__name__, value.shape, _is_fortran(value))
        if dtype.names is None and dtype.metadata is None and dtype.kind in "biufcSUmM":
            inner.out.append(_text(b"s", dtype.str))
        else:
            self._write_object(inner, dtype, type(dtype))
        inner.out.append(value.tobytes(order="A"))
        return b"A" + inner.end().value

    def _write_numpy_scalar(self, walk: _Walk, value: Any) -> None:
        if value.dtype.hasobject:
            self._write_object(walk, value, type(value))
        else:
            self._tagged(walk, b"scalar", value.dtype, value.tobytes())

    def _write_generator(self, walk: _Walk, value: Any) -> None:
        bits = value.bit_generator
        source = getattr(bits, "seed_seq", None)
        self._tagged(walk, b"rng", type(bits), bits.state, getattr(source, "state", None))

    def _write_object(self, walk: _Walk, value: Any, kind: type) -> None:
        """Any other object: its class, and what it gives to pickle."""
        if callable(value):
            token = self._library_token(value)
            if token is not None:
                walk.out.append(token)
                return
        if walk.met(value):
            return
        walk.out.append(b"o")
        self._write_class(walk, kind)
        if walk.code and walk.expects_seed and unseeded(value):
            walk.seeded = False
        name = _named(value)
        if _pickles_its_attributes(kind):
            state = {each: part for each, part in vars(value).items() if each not in OBSERVERS}
            self._write_names(walk, self._of_importance(value, kind, state), name)
            return
        reducer = copyreg.dispatch_table.get(kind)
        try:
            reduced: Any = reducer(value) if reducer else value.__reduce_ex__(4)
        except RecursionError:
            raise
        except Exception as error:
            raise Unidentifiable(name) from error
        walk.kept.append(reduced)  # parts of it are met by their id, which must stay theirs
        if isinstance(reduced, str):
            self._write_global(walk, value, reduced, name)
            return
        with _held_by(name):
            self._write_reduced(walk, reduced, kind, name)

    def _of_importance(self, value: Any, kind: type, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """What counts of the attributes of an object. Of a class that is not a library's, all do."""
        if self._library_token(kind) is None:
            return state
        return of_importance(value, kind, state, lambda code: self._library_token(code) is not None)

    def _write_memory(self, walk: _Walk, value: Memory) -> None:
        """Where a cache is does not matter, nor how it is kept."""
        self._write(walk, cache_of(value))

    def _write_cached(self, walk: _Walk, _: Cached) -> None:
        walk.out.append(b"cached;")

    def _write_memorized(self, walk: _Walk, value: Any) -> None:
        """A function whose results are cached: itself, and what tells whether a result is taken from the cache."""
        ignored, valid = getattr(value, "ignore", None), getattr(value, "cache_validation_callback", None)
        self._tagged(walk, b"memorized", value.func, ignored, valid)

    def _write_reduced(self, walk: _Walk, reduced: tuple[Any, ...], kind: type, name: str) -> None:
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        self._write(walk, function)
        self._write(walk, arguments)
        if kind.__module__.startswith("scipy.stats") and isinstance(state, dict):
            # Distributions hold the global generator as long as they have no other; a search gives them its own.
            state = {each: part for each, part in state.items() if each != "_random_state"}
        if type(state) is dict and all(type(each) is str for each in state):
            self._write_names(walk, state, name)
        else:
            self._write(walk, state)
        for more in (items, pairs):
            self._write(walk, None if more is None else list(more))

    def _write_global(self, walk: _Walk, value: Any, qualified: str, name: str) -> None:
        """An object that is pickled as the name of a global."""
        for module in (getattr(value, "__module__", None), type(value).__module__):
            library = module and self._origins.library(module)
            if library:
                walk.out.append(_text(b"L", f"{library} {module} {qualified}"))
                return
        if type(value).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):
            self._tagged(walk, b"typevar", value.__name__, getattr(value, "__bound__", None))
            return
        raise Unidentifiable(name)

    # Code

    def _library_token(self, value: Any) -> bytes | None:
        """Name and version of what an installed library defines; None where it is local or has no name of its own."""
        known = self._tokens.get(id(value))
        if known is not None:
            return known[1]
        module = getattr(value, "__module__", None)
        qualified = getattr(value, "__qualname__", None)
        if type(module) is not str or type(qualified) is not str:
            return None
        library = self._origins.library(module)
        if library is None or not _found_by_name(value, module, qualified):
            return None
        token = _text(b"L", f"{library} {module} {qualified}")
        self._tokens[id(value)] = value, token
        return token

    def _write_code_root(self, walk: _Walk, value: Any, write: Callable[[_Walk, Any], None]) -> None:
        """A local function or class met in data: a digest of its own, found once."""
        known = self._code_digests.get(id(value))
        if known is None:
            inner = _Walk(code=True)
            write(inner, value)
            known = self._code_digests[id(value)] = value, inner.end()
        walk.out.append(b"&" + known[1].value)
        walk.add(known[1])

    def _write_function(self, walk: _Walk, value: types.FunctionType) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        elif walk.code:
            self._write_local_function(walk, value)
        else:
            self._write_code_root(walk, value, self._write_local_function)

    def _write_local_function(self, walk: _Walk, value: types.FunctionType) -> None:
        if walk.met(value):
            return
        name = f"function `{value.__qualname__}`"
        walk.out.append(b"F" + self._code(value.__code__))
        with _held_by(name):
            self._write(walk, value.__defaults__)
            self._write(walk, value.__kwdefaults__)
            annotate = getattr(value, "__annotate__", None)  # Python 3.14 runs them when they are asked for
            self._write(walk, annotate if sys.version_info >= (3, 14) else value.__annotations__)
            self._write(walk, value.__closure__)
            self._write_names(walk, vars(value), name)
            self._write_reached(walk, value.__code__, value.__globals__)

    def _write_cell(self, walk: _Walk, value: types.CellType) -> None:
        try:
            content = value.cell_contents
        except ValueError:
            walk.out.append(b"cell-")
        else:
            walk.out.append(b"cell+")
            self._write(walk, content)

    def _code(self, code: types.CodeType) -> bytes:
        """The digest of the instructions alone, without file names and line numbers."""
        known = self._codes.get(id(code))
        if known is None:
            walk = _Walk(code=True)
            self._tagged(
                walk, b"code", code.co_name, code.co_flags, code.co_argcount, code.co_posonlyargcount,
                code.co_kwonlyargcount, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_names,
                code.co_code, code.co_exceptiontable,
            )  # fmt: skip
            for constant in code.co_consts:
                if isinstance(constant, types.CodeType):
                    walk.out.append(b"C" + self._code(constant))
                else:
                    self._write(walk, constant)
            known = self._codes[id(code)] = code, walk.end().value
        return known[1]

    def _write_code(self, walk: _Walk, value: types.CodeType) -> None:
        walk.out.append(b"C" + self._code(value))

    def _write_reached(self, walk: _Walk, code: types.CodeType, scope: dict[str, Any]) -> None:
        """The globals that code uses, as they are now, and what it imports."""
        reached = uses(code)
        walk.out.append(b"u%d:%d:" % (len(reached.chains), len(reached.imports)))
        expects_seed, walk.expects_seed = walk.expects_seed, "random_state" not in reached.words
        if not reached.keywords.intersection(SEED_WORDS) and _draws(reached):
            walk.seeded = False
        walk.asks_for_jobs |= not reached.words.isdisjoint(JOBS_WORDS)
        for chain in reached.chains:
            walk.out.append(_text(b"g", ".".join(chain)))
            with _held_by(f"global `{chain[0]}`"):
                self._write_chain(walk, chain, scope, chain in reached.called_bare)
        for each in reached.imports:
            self._write_import(walk, each, str(scope.get("__package__") or ""))
        self._write_variables(walk, code, scope)
        walk.expects_seed = expects_seed

    def _write_variables(self, walk: _Walk, code: types.CodeType, scope: Mapping[str, Any]) -> None:
        """The environment variables that code reads, as they are now."""
        found = reads(code, aliases_in(scope)).resolved(scope)
        if found.dynamic:
            raise Unidentifiable("a use of `os.environ` by a name made at run time")
        for name in sorted(found.names):
            if is_workers_own(name):
                raise Unidentifiable(f"a use of the variable `{name}`, of which workers have their own,")
            walk.out.append(_text(b"v", name))
            self._write(walk, os.environ.get(name))

    def _write_chain(self, walk: _Walk, chain: tuple[str, ...], scope: dict[str, Any], bare: bool) -> None:
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
            # Whatever it is, the workers have it from that library, under this name.
            walk.out.append(_text(b"L", f"{library} {holder.__name__}"))
        else:
            self._write(walk, value)

    def _note_randomness(self, walk: _Walk, value: Any, called_bare: bool) -> None:
        """Code that draws from a global generator, or makes one or an estimator without a seed."""
        owner = getattr(value, "__self__", None)
        if owner is not None and any(owner is each for each in _GLOBAL_GENERATORS):
            walk.seeded = False
        if called_bare and any(value is each for each in _GENERATORS):
            walk.seeded = False
        if walk.expects_seed and callable(value) and self._library_token(value) and random_by_default(value):
            walk.seeded = False

    def _write_import(self, walk: _Walk, each: Import, package: str) -> None:
        """An import within a function: there it is the module's file that counts, on a worker as here."""
        name = each.module
        if each.level:
            above = package.split(".")[: len(package.split(".")) - each.level + 1]
            name = ".".join([*above, name] if name else above)
        if name == "importlib":
            raise Unidentifiable("a use of `importlib`")
        parts = name.split(".")
        wanted = [".".join(parts[: end + 1]) for end in range(len(parts))]
        for module_name in wanted:
            self._write_module_named(walk, module_name)
        if self._origins.library(name) is None:
            for submodule in each.names:
                if f"{name}.{submodule}" in sys.modules or locate(f"{name}.{submodule}"):
                    self._write_module_named(walk, f"{name}.{submodule}")

    def _write_module_named(self, walk: _Walk, name: str) -> None:
        library = self._origins.library(name)
        module = sys.modules.get(name)
        if library:
            walk.out.append(_text(b"L", f"{library} {name}"))
        elif module is not None:
            self._write_module(walk, module)
        else:
            place = locate(name)
            walk.out.append(_text(b"m", name))
            if place is not None:
                self._write_source(walk, place, name)

    def _write_module(self, walk: _Walk, value: types.ModuleType) -> None:
        """A module as a whole: a library's by version, a local one by its source and the state it has."""
        library = self._origins.library(value.__name__)
        if library:
            walk.out.append(_text(b"L", f"{library} {value.__name__}"))
            return
        if walk.met(value):
            return
        walk.out.append(_text(b"m", value.__name__))
        self._write_source(walk, _file(value), value.__name__)
        for name, each in sorted(vars(value).items()):
            if not name.startswith("__") and not isinstance(each, types.ModuleType | types.FunctionType):
                self._write_state(walk, name, each)

    def _write_state(self, walk: _Walk, name: str, value: Any) -> None:
        """One global of a module. What has no content that could be told has none to send either: see `module_state`.

        A worker then has its own, from the module's source.
        """
        written, met, seeded = len(walk.out), len(walk.numbers), walk.seeded
        walk.out.append(_text(b"s", name))
        try:
            self._write(walk, value)
        except Unidentifiable:
            del walk.out[written:]
            for key in list(walk.numbers)[met:]:
                del walk.numbers[key]
            walk.seeded = seeded

    def _write_current(self, walk: _Walk, module: types.ModuleType, value: Any) -> None:
        """A worker imports a local module from its file, which may have changed since it was imported here.

        Where the code in memory is not in the file, the file is content too.
        """
        if isinstance(value, types.FunctionType):
            codes = [value.__code__]
        elif isinstance(value, type):
            own = [each.__code__ for each in vars(value).values() if isinstance(each, types.FunctionType)]
            codes = [code for code in own if code.co_filename == module.__file__]
        else:
            return
        file = _file(module)
        source = self._source(file)
        if not all(self._code(code) in source.codes for code in codes):
            self._write_source(walk, file, module.__name__)

    def _write_source(self, walk: _Walk, file: Path, name: str) -> None:
        """A file of local code, and the local modules that it imports."""
        if str(file) in walk.numbers:
            walk.out.append(b"@%d;" % walk.numbers[str(file)])
            return
        walk.numbers[str(file)] = len(walk.numbers)
        source = self._source(file)
        walk.out.append(source.digest)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        if source.code is not None:
            reached = uses(source.code)
            walk.asks_for_jobs |= not reached.words.isdisjoint(JOBS_WORDS)
            with _held_by(f"module `{name}`"):
                if any(chain[0] in DYNAMIC for chain in reached.chains):
                    raise Unidentifiable("a use of `exec` or `eval`")
                for each in reached.imports:
                    self._write_import(walk, each, package)
                module = sys.modules.get(name)
                self._write_variables(walk, source.code, {} if module is None else vars(module))

    def _source(self, file: Path) -> _Source:
        known = self._sources.get(file)
        if known is None:
            known = self._sources[file] = self._read_source(file)
        return known

    def _read_source(self, file: Path) -> _Source:
        if file.is_dir():  # a namespace package
            return _Source(b"package", None, frozenset())
        try:
            content = file.read_bytes()
            if file.suffix != ".py":
                return _Source(hashlib.blake2b(content, digest_size=20).digest(), None, frozenset())
            code = compile(content, str(file), "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as error:
            raise Unidentifiable(f"the source file `{file}`") from error
        return _Source(self._code(code), code, frozenset(self._codes_within(code)))

    def _codes_within(self, code: types.CodeType) -> Iterator[bytes]:
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield self._code(constant)
                yield from self._codes_within(constant)

    def _write_class(self, walk: _Walk, value: type) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        elif walk.code:
            self._write_local_class(walk, value)
        else:
            self._write_code_root(walk, value, self._write_local_class)

    def _write_local_class(self, walk: _Walk, value: type) -> None:
        if walk.met(value):
            return
        walk.out.append(_text(b"class", value.__name__))
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

    def _write_method(self, walk: _Walk, value: types.MethodType) -> None:
        self._tagged(walk, b"method", value.__func__, value.__self__)

    def _write_builtin(self, walk: _Walk, value: Any) -> None:
        """A function written in C: a library's, a method of some object, or of a local extension module."""
        self._note_randomness(walk, value, called_bare=False)
        token = self._library_token(value)
        owner = getattr(value, "__self__", None)
        if token is not None:
            walk.out.append(token)
        elif owner is not None:
            self._tagged(walk, b"bound", value.__name__, owner)
        else:
            raise Unidentifiable(_named(value))

    def _write_ufunc(self, walk: _Walk, value: np.ufunc) -> None:
        for module in ("numpy", "scipy.special"):
            if getattr(sys.modules.get(module), value.__name__, None) is value:
                walk.out.append(_text(b"L", f"{self._origins.library(module)} {module} {value.__name__}"))
                return
        raise Unidentifiable(_named(value))

    def _write_descriptor(self, walk: _Walk, value: Any) -> None:
        self._tagged(walk, b"descriptor", value.__objclass__, value.__name__)

    def _write_wrapped(self, walk: _Walk, value: Any) -> None:
        self._tagged(walk, b"wrapped", type(value), value.__func__)

    def _write_property(self, walk: _Walk, value: property) -> None:
        self._tagged(walk, b"property", value.fget, value.fset, value.fdel)

    def _write_cached_property(self, walk: _Walk, value: functools.cached_property[Any]) -> None:
        self._tagged(walk, b"cached_property", value.func, value.attrname)

    def _write_lru_cache(self, walk: _Walk, value: Any) -> None:
        token = self._library_token(value)
        if token is not None:
            walk.out.append(token)
        else:
            self._tagged(walk, b"lru_cache", value.__wrapped__, value.cache_parameters())

    def _write_mapping(self, walk: _Walk, value: types.MappingProxyType[Any, Any]) -> None:
        self._tagged(walk, b"mapping", dict(value))


_GLOBAL_GENERATORS = (getattr(np.random.mtrand, "_rand", None), getattr(random, "_inst", None))
_GENERATORS = (
    np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random,
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64,
)  # fmt: skip
"""Without an argument they take a seed from the system."""

SEED_WORDS = frozenset({"random_state", "random_seed", "seed", "rng"})
DRAWING_WORDS = frozenset(
    {"sample", "rvs", "shuffle", "permutation", "permuted", "getrandbits", "randbytes", "urandom", "uuid1", "uuid4"}
)
"""Methods that draw random numbers, whatever object they are called on. Code that says none of `SEED_WORDS` beside them
is taken to draw from no seed; a variable of such a name costs no more than that its fits are done again."""

MAKING_WORDS = frozenset({"default_rng", "RandomState"})

DRAWING_MODULES = ("random", "secrets", "numpy.random")
"""What an import of these within a function is for."""


def _draws(reached: Uses) -> bool:
    within = {each.module for each in reached.imports}
    imported = bool(within.intersection(DRAWING_MODULES)) or ("numpy" in within and "random" in reached.words)
    # A generator that is made from something else than a number or a seed by its name: from None, it may be.
    made = any(chain[-1] in MAKING_WORDS and chain not in reached.called_with_number for chain in reached.chains)
    return imported or made or bool(reached.words & DRAWING_WORDS)


@dataclass(frozen=True)
class _Source:
    """A file of local code: the digest of all its instructions, and of each function and class body in it."""

    digest: bytes
    code: types.CodeType | None
    codes: frozenset[bytes]


def _text(tag: bytes, text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return b"%b%d:%b" % (tag, len(content), content)


def _is_fortran(value: Any) -> bool:
    """The order matters: sums over the other axis may differ in the last bit."""
    return bool(value.flags.f_contiguous and not value.flags.c_contiguous)


def _named(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"a `{module}{kind.__qualname__}`"


def _file(module: types.ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    if file:
        return Path(file)
    folders = list(getattr(module, "__path__", ()))
    if not folders:
        raise Unidentifiable(f"the module `{module.__name__}`, which has no file,")
    return Path(folders[0])


def _found_by_name(value: Any, module: str, qualified: str) -> bool:
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_slot(value: Any) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _is_enums_own(name: str) -> bool:
    """What Enum keeps in a class: follows from its members."""
    return name in ("__new__", "__new_member__") or (name[0] == name[-1] == "_" and name[:2] != "__")


@functools.lru_cache(maxsize=1024)
def _pickles_its_attributes(kind: type) -> bool:
    """Whether what pickle takes of its objects is their `__dict__`, and nothing besides."""
    if kind in copyreg.dispatch_table or not kind.__dictoffset__ or kind.__basicsize__ > _PLAIN_SIZE:
        return False
    own_reduce = any(_defines(kind, name, ("builtins",)) for name in ("__reduce_ex__", "__reduce__"))
    own_state = _defines(kind, "__getstate__", ("builtins", "sklearn.base"))
    new = hasattr(kind, "__getnewargs__") or hasattr(kind, "__getnewargs_ex__")
    return not (own_reduce or own_state or new)


class _Plain:
    pass


_PLAIN_SIZE = _Plain.__basicsize__
"""Of an object with attributes alone. One with slots, or with something that C code keeps, is larger."""


def _defines(kind: type, name: str, elsewhere: tuple[str, ...]) -> bool:
    """Whether a method comes from a class that is not in these modules."""
    owner = next(each for each in kind.__mro__ if name in vars(each))
    return owner.__module__ not in elsewhere


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%b;" % hex(value).encode(),
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: lambda value: _text(b"s", value),
    bytes: lambda value: b"b%d:%b" % (len(value), value),
    type(...): lambda _: b"E",
    type(NotImplemented): lambda _: b"I",
}

_WRITERS: dict[type, Callable[[Contents, _Walk, Any], None]] = {
    tuple: Contents._write_tuple,
    list: Contents._write_list,
    dict: Contents._write_dict,
    set: Contents._write_set,
    frozenset: Contents._write_set,
    np.ndarray: Contents._write_array,
    np.memmap: Contents._write_array,
    np.ufunc: Contents._write_ufunc,
    np.random.Generator: Contents._write_generator,
    type: Contents._write_class,
    types.FunctionType: Contents._write_function,
    types.CellType: Contents._write_cell,
    types.CodeType: Contents._write_code,
    types.ModuleType: Contents._write_module,
    types.MethodType: Contents._write_method,
    types.BuiltinFunctionType: Contents._write_builtin,
    types.MethodDescriptorType: Contents._write_descriptor,
    types.WrapperDescriptorType: Contents._write_descriptor,
    types.ClassMethodDescriptorType: Contents._write_descriptor,
    types.MappingProxyType: Contents._write_mapping,
    type(functools.lru_cache(maxsize=None)(lambda: None)): Contents._write_lru_cache,
    functools.cached_property: Contents._write_cached_property,
    Memory: Contents._write_memory,
    MemorizedFunc: Contents._write_memorized,
    NotMemorizedFunc: Contents._write_memorized,
    Cached: Contents._write_cached,
    property: Contents._write_property,
    staticmethod: Contents._write_wrapped,
    classmethod: Contents._write_wrapped,
}
