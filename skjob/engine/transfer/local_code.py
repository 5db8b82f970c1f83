"""Decide which code is the user's own: every module whose file is in no environment, or that has none.

Workers have Python, the distributions that are installed here, and those in editable mode. A module from anywhere else
is local, however the program found it: beside the script, in a folder on `sys.path`, or by the path of a file. Local
code travels with the tasks, and the keys of finished fits contain its source.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, lru_cache
from importlib import metadata
from operator import is_
from pathlib import Path
from types import FunctionType, ModuleType

NOT_SOURCE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
INSTALLED_IN = frozenset({"site-packages", "dist-packages"})
SCRIPT = frozenset({"__main__", "__mp_main__"})
OF_THE_START = frozenset({"sitecustomize", "usercustomize"})
"""Modules that Python runs at startup. They belong to this machine, wherever they are."""


class CodeOrigin(Enum):
    """Where code comes from: Python, an installed distribution, one in editable mode, or the user's own files.

    Workers have EDITABLE code as they have INSTALLED, but its source may change while its version stays.
    """

    PYTHON = auto()
    INSTALLED = auto()
    EDITABLE = auto()
    LOCAL = auto()


def origin_of(name: str, file: str, root: Path | None) -> CodeOrigin:
    """Return where the module of this name and file comes from, for a program whose own folder is `root`."""
    if ".." in file:
        file = os.path.normpath(file)  # for a folder that was put on `sys.path` as `../lib`
    if root is not None and _is_below(file, str(root)):
        # Not an environment that is there too, nor Python's own modules if it is installed below the script's folder:
        # ~/.pyenv, a conda environment.
        inside = Path(file[len(str(root)) :]).parts
        if not NOT_SOURCE.intersection(inside) and not _is_in_python(file, root):
            return CodeOrigin.EDITABLE if _is_skjob(file) else CodeOrigin.LOCAL
    elif _is_skjob(file):
        return CodeOrigin.INSTALLED if INSTALLED_IN.intersection(Path(file).parts) else CodeOrigin.EDITABLE
    if INSTALLED_IN.intersection(Path(file).parts):
        return CodeOrigin.INSTALLED
    if _is_below(file, _standard_library()):
        return CodeOrigin.PYTHON
    if _is_in_python(file, root) or NOT_SOURCE.intersection(Path(file).parts):
        return CodeOrigin.INSTALLED
    return CodeOrigin.EDITABLE if any(source.has(name, file) for source in _editable_sources()) else CodeOrigin.LOCAL


def is_installed_beside(name: str, file: str) -> bool:
    """Return whether a module is of a distribution beside the user's own code, as of `pip install --target`.

    It travels as the user's own code does, but the user has not written it.
    """
    place = Path(file)
    depth = name.count(".") + (place.stem == "__init__")
    return depth < len(place.parents) and name.partition(".")[0] in _recorded_in(str(place.parents[depth]))


@lru_cache(maxsize=256)
def _recorded_in(folder: str) -> frozenset[str]:
    """Return the modules and packages that distributions in a folder have recorded as theirs."""
    records = [each.read_text("RECORD") or "" for each in metadata.distributions(path=[folder])]
    files = [line.partition(",")[0] for record in records for line in record.splitlines()]
    return frozenset(file.partition("/")[0].partition(".")[0] for file in files)


def is_local(module: ModuleType, root: Path | None) -> bool:
    """Return whether a module is the user's own, and not part of an environment. Without a root, none is."""
    if root is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return _is_made_by_code(module, root)
    return isinstance(file, str) and origin_of(module.__name__, file, root) is CodeOrigin.LOCAL


def _is_made_by_code(module: ModuleType, root: Path) -> bool:
    """Return whether a program made a module without a file: `ModuleType`, `exec`, and an entry in `sys.modules`.

    Libraries do so too, within their packages; modules made by compiled code have no Python functions.
    """
    if getattr(module, "__spec__", None) is not None or getattr(module, "__path__", None) is not None:
        return False
    top, _, below = module.__name__.partition(".")
    if top in sys.stdlib_module_names:
        return False
    parent = sys.modules.get(top) if below else None
    if parent is not None and not is_local(parent, root):
        return False
    scope = vars(module)
    return any(isinstance(each, FunctionType) and each.__globals__ is scope for each in _parts(scope))


def _parts(scope: Mapping[str, object]) -> Iterator[object]:
    """Yield the values of a module's globals, and those in its classes."""
    for each in list(scope.values()):
        yield each
        if isinstance(each, type):
            yield from list(vars(each).values())


class LocalModules:
    """Finds the local ones among the imported modules. It is called for every task, and checks each module once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ModuleType, bool]] = {}
        self._last: tuple[Path | None, list[ModuleType], list[ModuleType]] = None, [], []

    def find(self, root: Path | None) -> list[ModuleType]:
        """Return the local modules in the order in which they were imported, without the script itself."""
        if root is None:
            return []
        last_root, last, found = self._last
        imported = list(sys.modules.values())
        if root == last_root and len(imported) == len(last) and all(map(is_, imported, last)):
            return found
        before = self._known if root == last_root else {}
        known: dict[str, tuple[ModuleType, bool]] = {}  # a new dictionary each time: several threads send tasks
        found = []
        for name, module in list(sys.modules.items()):
            entry = before.get(name)
            if entry is None or entry[0] is not module:
                local = name not in SCRIPT | OF_THE_START and isinstance(module, ModuleType) and is_local(module, root)
                entry = module, local
            known[name] = entry
            if entry[1]:
                found.append(module)
        self._known, self._last = known, (root, imported, found)
        return found


_modules = LocalModules()


def local_modules(root: Path | None) -> list[ModuleType]:
    """Return the imported modules that are the user's own, for a program whose own folder is `root`."""
    return _modules.find(root)


def _is_below(file: str, folder: str) -> bool:
    return file.startswith(folder) and (file == folder or file[len(folder)] == os.sep or folder.endswith(os.sep))


def _is_skjob(file: str) -> bool:
    """Return whether a file belongs to skjob, which every worker has."""
    return _is_below(file, _own_folder())


def _is_in_python(file: str, root: Path | None) -> bool:
    """Return whether a file is in the folder of an environment, or of the Python that it was made with.

    The program itself may be in there: an image may have Python in /usr and the program in /usr/src/app. Then only
    files in a known library folder count.
    """
    return any(
        _is_below(file, prefix) and not (root is not None and _is_below(str(root), prefix))
        for prefix in (sys.prefix, sys.base_prefix)
    )


@cache
def _own_folder() -> str:
    return str(Path(__file__).parents[2])


@cache
def _standard_library() -> str:
    return sysconfig.get_path("stdlib")


@dataclass(frozen=True)
class _Source:
    """The folder or file of one module, or, without a module, a folder of the import path."""

    module: str
    place: str

    def has(self, name: str, file: str) -> bool:
        """Return whether the module of this name and file comes from here: a project may have other files."""
        if not _is_below(file, self.place):
            return False
        if self.module:
            return f"{name}.".startswith(f"{self.module}.")
        parts = Path(file).relative_to(self.place).parts
        stem = parts[-1].partition(".")[0]
        return name == ".".join(parts[:-1] if stem == "__init__" else (*parts[:-1], stem))


def _editable_sources() -> tuple[_Source, ...]:
    """Return what is installed in editable mode."""
    return _editable_in(tuple(entry for entry in sys.path if INSTALLED_IN.intersection(Path(entry).parts)))


@lru_cache(maxsize=8)
def _editable_in(sites: tuple[str, ...]) -> tuple[_Source, ...]:
    from skjob.engine.transfer.editable import resolve_editable

    found: list[_Source] = []
    for distribution in metadata.distributions(path=list(sites)):
        text = distribution.read_text("direct_url.json")
        if text is None or not _says_editable(text):
            continue
        record = [str(file) for file in distribution.files or ()]
        sources = resolve_editable(Path(str(distribution.locate_file(""))), record).sources
        found += [_Source("", str(folder)) for folder in sources.folders]
        found += [_Source(module, str(place)) for module, place in sources.modules]
    return tuple(found)


def _says_editable(text: str) -> bool:
    try:
        direct = json.loads(text)
        return bool(direct.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return False
