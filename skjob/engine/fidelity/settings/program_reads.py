"""Find out what the program's own code reads of the environment, and whether it seeds a global generator.

The program's own code is the script, and the modules beside it. All of it counts, whichever task runs: what a task
reaches is known only after it is pickled, and an additional variable does no harm.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from skjob.engine.checkpoint.bytecode import Uses, uses
from skjob.engine.fidelity.settings.variables import Reads, aliases_in, is_workers_own, reads
from skjob.engine.transfer.local_code import local_modules


@dataclass(frozen=True)
class ProgramReads:
    """The variables that the program's own code reads on workers.

    `names` travel, `own` are those of which each worker has its own. `dynamic` means that others are read by names
    built at run time, `uses_random` that the program seeds Python's `random` and its functions draw from it,
    `asks_caches` that it asks how often a function's cache was used.
    """

    names: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    dynamic: bool = False
    uses_random: bool = False
    asks_caches: bool = False


@dataclass(frozen=True)
class _Scanned:
    """One scanned module: what its code reads on workers, and how it uses `random`."""

    module: ModuleType
    reads: Reads
    constants: frozenset[str]
    seeds: bool
    draws: bool
    asks_caches: bool


class Scanner:
    """Scans the program's modules, each once."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._modules = -1
        self._scanned: dict[str, _Scanned] = {}

    def scan(self, root: Path | None) -> ProgramReads:
        """Return what the program's code reads, with modules below `root` as its own."""
        self._update(root)
        found = [(each, each.reads.resolved(vars(each.module))) for each in self._scanned.values()]
        names = frozenset().union(*(read.names for _, read in found))
        dynamic = any(read.dynamic for _, read in found)
        if dynamic:  # `def setting(name): return os.environ[name]` is called with constants somewhere
            present = frozenset(os.environ)
            names |= present & frozenset().union(*(each.constants for each, _ in found))
        own = frozenset(filter(is_workers_own, names))
        scanned = self._scanned.values()
        uses_random = any(each.seeds for each in scanned) and any(each.draws for each in scanned)
        asks_caches = any(each.asks_caches for each in scanned)
        return ProgramReads(names - own, own, dynamic, uses_random, asks_caches)

    def _update(self, root: Path | None) -> None:
        if root != self._root:
            self._root, self._modules, self._scanned = root, -1, {}
        main = sys.modules.get("__main__")
        file = getattr(main, "__file__", None)
        count = len(sys.modules)
        if count == self._modules and file is not None and self._is_known("__main__", main):
            return
        if main is not None and (file is None or not self._is_known("__main__", main)):
            self._scanned["__main__"] = _scan_main(main, file)
        for module in local_modules(root):
            if not self._is_known(module.__name__, module):
                file = getattr(module, "__file__", None)  # a module made by code has none
                self._scanned[module.__name__] = _scan_file(module, file) if file else _scan_objects(module)
        self._modules = count

    def _is_known(self, name: str, module: ModuleType | None) -> bool:
        return name in self._scanned and self._scanned[name].module is module


def _scan_main(module: ModuleType, file: str | None) -> _Scanned:
    code = _code_of_file(file) if file is not None else None
    if code is not None:  # top-level code has run here, and runs nowhere else
        inner = [each for each in code.co_consts if isinstance(each, CodeType)]
        return _scanned(module, inner, uses(code))
    return _scan_objects(module)  # a notebook


def _scan_objects(module: ModuleType) -> _Scanned:
    return _scanned(module, list(_codes_in(vars(module).values())), None)


def _scan_file(module: ModuleType, file: str) -> _Scanned:
    code = _code_of_file(file)
    return _scanned(module, [code] if code is not None else [], uses(code) if code is not None else None)


def _scanned(module: ModuleType, codes: list[CodeType], whole: Uses | None) -> _Scanned:
    aliases = aliases_in(vars(module))
    found = Reads()
    for code in codes:
        found |= reads(code, aliases)
    constants = frozenset().union(*map(_texts, codes)) if found.dynamic else frozenset()
    used = [whole] if whole is not None else [uses(code) for code in codes]
    seeds = any(("random", "seed") in each.chains for each in used)
    inner = [each for code in codes for each in _functions(code)]
    draws = any(
        chain[0] == "random" and len(chain) == 2 and chain[1] != "seed"
        for code in inner for chain in uses(code).chains
    )  # fmt: skip
    asks_caches = any("cache_info" in each.words for each in used)
    return _Scanned(module, found, constants, seeds, draws, asks_caches)


def _functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the code itself if it is that of a function, otherwise the functions in it."""
    if code.co_name != "<module>":
        yield code
        return
    yield from (each for each in code.co_consts if isinstance(each, CodeType))


def _texts(code: CodeType) -> frozenset[str]:
    found = {each for each in code.co_consts if isinstance(each, str)}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _texts(each)
        elif isinstance(each, tuple):
            found.update(text for text in each if isinstance(text, str))
    return frozenset(found)


def _codes_in(values: Iterable[object]) -> Iterator[CodeType]:
    for value in list(values):
        if isinstance(value, FunctionType) and value.__module__ == "__main__":
            yield value.__code__
        elif isinstance(value, type) and value.__module__ == "__main__":
            yield from _codes_in_class(value)


def _codes_in_class(kind: type) -> Iterator[CodeType]:
    for part in vars(kind).values():
        function = getattr(part, "__func__", getattr(part, "fget", part))
        if isinstance(function, FunctionType):
            yield function.__code__


@lru_cache(maxsize=1024)
def _code_of_file(file: str) -> CodeType | None:
    """Return the code of a source file; None for compiled modules and files that cannot be read."""
    if not file.endswith(".py") and Path(file).suffix:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python issued them when it read the file
            return compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None
