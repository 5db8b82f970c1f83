"""Send the user's own modules to workers, with the state that they have in the client.

Workers get two things. The source files, once, through a worker plugin that new workers get too: it makes
`import features` work anywhere. And the state: functions and classes of these modules are pickled by value with the
globals they use, so that a task sees what the script has changed since the import; a module object is imported on the
worker and given the plain data of the client's module. A module that the program loaded from a file, so that no import
finds it, is rebuilt there from its source.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib
import io
import os
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from skjob.engine.fidelity.effects.code_identity import note_received
from skjob.engine.transfer.local_code import NOT_SOURCE

MAX_FOLDERS = 2000
MAX_FILES = 2000
MAX_BYTES = 50 * 2**20
MAX_DATA_FILE_BYTES = 2**20
ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})
"""Files that mark a virtual environment, or one of conda."""


@dataclass(frozen=True)
class Sources:
    """The files to send, relative to the script's folder, and whether these are all."""

    files: tuple[Path, ...]
    complete: bool


def find_sources(root: Path) -> Sources:
    """Return the modules and packages that `import` finds in `root`, the folder of a script.

    Packages are complete, with their small data files. Hidden folders, virtual environments and what cannot be read are
    left out. The folder may also contain a lot of data, or be somebody's home, so everything is limited: modules come
    before data files, near ones before distant ones. Unopened folders below one without Python count as data, and are
    not missing.
    """
    found: list[_File] = []
    waiting = [_Folder(0, 0, Path(), frozenset())]
    complete = True
    for _ in range(MAX_FOLDERS):
        if not waiting:
            break
        folder = heapq.heappop(waiting)
        inside = _scan(root / folder.path)
        is_root = folder.path == Path()
        if inside is None or inside.identity in folder.above or (inside.is_environment and not is_root):
            continue
        files, fits = inside.files(folder.path)
        found += files
        complete = complete and fits
        subfolders = [name for name in inside.folders if name.isidentifier() or not is_root]
        for name in subfolders:
            barren = 0 if inside.python else folder.barren + 1
            above = folder.above | {inside.identity}
            heapq.heappush(waiting, _Folder(barren, len(subfolders), folder.path / name, above))
    complete = complete and all(folder.barren for folder in waiting)
    chosen: list[Path] = []
    size = 0
    for file in sorted(found):
        if len(chosen) == MAX_FILES or size + file.size > MAX_BYTES:
            complete = False
        else:
            chosen.append(file.path)
            size += file.size
    return Sources(tuple(chosen), complete)


@dataclass(frozen=True, order=True)
class _File:
    """A file to send. They sort in the order in which they are chosen."""

    is_data: bool
    depth: int
    path: Path
    size: int


@dataclass(frozen=True, order=True)
class _Folder:
    """A folder to scan. They sort in the order in which they are scanned: source before data.

    `barren` is the number of consecutive folders above it without Python, `crowd` the number of its siblings. `above`
    are the identities of the folders above it: a link to one of them is a loop.
    """

    barren: int
    crowd: int
    path: Path
    above: frozenset[tuple[int, int]] = field(compare=False)


@dataclass
class _Inside:
    """The entries of a folder that may be source."""

    identity: tuple[int, int]
    folders: list[str] = field(default_factory=list)
    python: list[os.DirEntry[str]] = field(default_factory=list)
    others: list[os.DirEntry[str]] = field(default_factory=list)
    is_environment: bool = False

    def files(self, folder: Path) -> tuple[list[_File], bool]:
        """Return the files to send, and whether they are complete."""
        depth = len(folder.parts)
        files = [_File(False, depth, folder / entry.name, _size(entry)) for entry in self.python]
        in_package = folder.parts and any(entry.name == "__init__.py" for entry in self.python)
        if not in_package:
            return files, True
        if len(self.others) > MAX_FILES:
            return files, False  # which of them were listed is arbitrary
        data = [_File(True, depth, folder / entry.name, _size(entry)) for entry in self.others]
        return files + [file for file in data if file.size <= MAX_DATA_FILE_BYTES], True


def _scan(folder: Path) -> _Inside | None:
    """Return the entries of a folder; None if it cannot be read."""
    try:
        status = folder.stat()
        inside = _Inside((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                _add(inside, entry)
    except OSError:
        return None
    return inside


def _add(inside: _Inside, entry: os.DirEntry[str]) -> None:
    name = entry.name
    if name in ENVIRONMENT_MARKS:
        inside.is_environment = True
    if name.startswith(".") or name in NOT_SOURCE:
        return
    with suppress(OSError, UnicodeError):  # a broken link; a name that a zip file cannot have
        name.encode()
        if entry.is_dir():
            inside.folders.append(name)
        elif not entry.is_file():
            return
        elif name.endswith(".py"):
            inside.python.append(entry)
        elif len(inside.others) <= MAX_FILES:
            inside.others.append(entry)


def _size(entry: os.DirEntry[str]) -> int:
    with suppress(OSError):
        return entry.stat().st_size
    return 0  # it is gone, as reading it will show


@dataclass(frozen=True)
class PackedModules:
    """A zip file of source files, and whether it is complete."""

    content: bytes
    complete: bool


def pack_modules(root: Path) -> PackedModules:
    """Return the source files beside a script, packed: the same bytes for the same content."""
    sources = find_sources(root)
    complete = sources.complete
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for file in sources.files:
            try:
                content = (root / file).read_bytes()
            except OSError:
                complete = False
            else:
                target.writestr(zipfile.ZipInfo(file.as_posix()), content, zipfile.ZIP_DEFLATED)
    return PackedModules(buffer.getvalue(), complete)


def module_state(module: ModuleType) -> dict[str, bytes]:
    """Return the plain data among a module's globals, each pickled separately, without what cannot be pickled.

    It includes the module's own classes: objects are pickled with their class, and must find the same one there.
    """
    from skjob.engine.transfer.pickling import MarkingPickler, dumps

    state = {}
    for name, value in list(vars(module).items()):
        if name.startswith("__") or isinstance(value, ModuleType | FunctionType):
            continue
        if isinstance(value, type) and value.__module__ != module.__name__:
            continue
        with suppress(Exception):
            state[name] = dumps(value, MarkingPickler)
    return state


def reduce_module(module: ModuleType) -> Any:
    """Return how a local module is pickled: the function that gives a worker its counterpart, and what it needs.

    Return NotImplemented if its content is in no file.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        return NotImplemented
    if sys.modules.get(module.__name__) is module:
        return restore_module, (module.__name__, module_state(module))
    path = Path(str(file))
    if path.suffix != ".py":
        return NotImplemented
    try:
        source = path.read_bytes()
    except OSError:
        return NotImplemented
    return rebuild_module, (module.__name__, str(path), source, module_state(module))


def restore_module(name: str, state: dict[str, bytes]) -> ModuleType:
    """Return the module of that name with the state it has in the client. Runs on a worker."""
    import cloudpickle

    module = importlib.import_module(name)
    for key, value in state.items():
        setattr(module, key, cloudpickle.loads(value))
    note_received(module)
    return module


_rebuilt: dict[tuple[str, str], ModuleType] = {}
"""Modules that were rebuilt in this process, by name and digest of the source."""


def rebuild_module(name: str, file: str, source: bytes, state: dict[str, bytes]) -> ModuleType:
    """Return a module of that source, which no import finds, with the client's state. Runs on a worker."""
    import cloudpickle

    key = name, hashlib.sha256(source).hexdigest()
    module = _rebuilt.get(key)
    if module is None:
        module = ModuleType(name)
        module.__file__ = file
        module.__package__ = name.rpartition(".")[0]
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))  # noqa: S102 - the program did the same
        _rebuilt[key] = module
    for each, value in state.items():
        setattr(module, each, cloudpickle.loads(value))
    note_received(module)
    return module
