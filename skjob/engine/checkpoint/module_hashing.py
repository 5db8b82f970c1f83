"""Write modules into a digest: a library's by its version, local ones by their source and state."""

from __future__ import annotations

import hashlib
import os
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.engine.checkpoint.bytecode import Import, uses
from skjob.engine.checkpoint.walk import Unidentifiable, Walk, Writer, encode_text, naming_holder
from skjob.engine.fidelity.settings.variables import SECRET_NAMES, aliases_in, is_workers_own, reads
from skjob.engine.transfer.code_origin import Origins, locate

DYNAMIC = frozenset({"exec", "eval", "__import__", "globals", "compile"})
"""Builtins by which code reaches what its instructions do not name."""

JOBS_WORDS = frozenset({"n_jobs", "effective_n_jobs", "Parallel", "parallel_config", "parallel_backend"})
"""Names in code that may ask for jobs."""


@dataclass(frozen=True)
class _Source:
    """A file of local code: the digests of all its instructions, and of each function and class body in it."""

    digest: bytes
    code: types.CodeType | None
    codes: frozenset[bytes]


def _file(module: types.ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    if file:
        return Path(file)
    folders = list(getattr(module, "__path__", ()))
    if not folders:
        raise Unidentifiable(f"the module `{module.__name__}`, which has no file,")
    return Path(folders[0])


class ModuleHasher(Writer):
    """Writes modules, the imports of code, and the environment variables that it reads."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(origins)
        self._codes: dict[int, tuple[types.CodeType, bytes]] = {}
        self._sources: dict[Path, _Source] = {}

    def _code(self, code: types.CodeType) -> bytes:
        """Return the digest of the instructions alone, without file names and line numbers."""
        known = self._codes.get(id(code))
        if known is None:
            walk = Walk(code=True)
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

    def _write_import(self, walk: Walk, each: Import, package: str) -> None:
        """Write an import within a function, by the module's file: that is what a worker imports, too."""
        name = each.module
        if each.level:
            above = package.split(".")[: len(package.split(".")) - each.level + 1]
            name = ".".join([*above, name] if name else above)
        if name == "importlib":
            raise Unidentifiable("a use of `importlib`")
        parts = name.split(".")
        names = [".".join(parts[: end + 1]) for end in range(len(parts))]
        for module_name in names:
            self._write_module_named(walk, module_name)
        if self._origins.library(name) is None:
            for submodule in each.names:
                if f"{name}.{submodule}" in sys.modules or locate(f"{name}.{submodule}"):
                    self._write_module_named(walk, f"{name}.{submodule}")

    def _write_module_named(self, walk: Walk, name: str) -> None:
        library = self._origins.library(name)
        module = sys.modules.get(name)
        if library:
            walk.out.append(encode_text(b"L", f"{library} {name}"))
        elif module is not None:
            self._write_module(walk, module)
        else:
            place = locate(name)
            walk.out.append(encode_text(b"m", name))
            if place is not None:
                self._write_source(walk, place, name)

    def _write_module(self, walk: Walk, value: types.ModuleType) -> None:
        """Write a whole module: a library's by version, a local one by its source and state."""
        library = self._origins.library(value.__name__)
        if library:
            walk.out.append(encode_text(b"L", f"{library} {value.__name__}"))
            return
        if walk.seen(value):
            return
        walk.out.append(encode_text(b"m", value.__name__))
        self._write_source(walk, _file(value), value.__name__)
        for name, each in sorted(vars(value).items()):
            if not name.startswith("__") and not isinstance(each, types.ModuleType | types.FunctionType):
                self._write_state(walk, name, each)

    def _write_state(self, walk: Walk, name: str, value: Any) -> None:
        """Write one global of a module. What cannot be identified is left out: it is not sent either (`module_state`).

        A worker then has its own, from the module's source.
        """
        written, numbered, seeded = len(walk.out), len(walk.numbers), walk.seeded
        walk.out.append(encode_text(b"s", name))
        try:
            self._write(walk, value)
        except Unidentifiable:
            del walk.out[written:]
            for key in list(walk.numbers)[numbered:]:
                del walk.numbers[key]
            walk.seeded = seeded

    def _write_current(self, walk: Walk, module: types.ModuleType, value: Any) -> None:
        """Write a module's file if it no longer contains the code in memory.

        A worker imports a local module from its file, which may have changed since it was imported here.
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

    def _write_source(self, walk: Walk, file: Path, name: str) -> None:
        """Write a file of local code, and the local modules that it imports."""
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
            with naming_holder(f"module `{name}`"):
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

    def _write_variables(self, walk: Walk, code: types.CodeType, scope: Mapping[str, Any]) -> None:
        """Write the environment variables that code reads, as they are now."""
        found = reads(code, aliases_in(scope)).resolved(scope)
        if found.dynamic:
            raise Unidentifiable("a use of `os.environ` by a name made at run time")
        for name in sorted(found.names):
            if is_workers_own(name):
                raise Unidentifiable(f"a use of the variable `{name}`, of which workers have their own,")
            if name in SECRET_NAMES:
                raise Unidentifiable(f"a use of the secret variable `{name}`, of which no trace is kept,")
            walk.out.append(encode_text(b"v", name))
            self._write(walk, os.environ.get(name))
