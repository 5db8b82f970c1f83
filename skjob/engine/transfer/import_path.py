"""Send code of the program that lies outside of its folder to workers, before the tasks that need it.

A program may put folders on `sys.path`, give a file a name of its own with `importlib.util.spec_from_file_location`,
write a module and import it, be started with `PYTHONPATH`, or do all that between two searches. So this is checked
before each Parallel call, and what is new is sent. Workers have the folders in the program's order, before and after
all that is installed, so that each name means the same there.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from skjob.engine.transfer.local_code import CodeOrigin, local_modules, origin_of
from skjob.engine.transfer.modules import MAX_BYTES, PackedModules, pack_modules
from skjob.engine.transfer.worker_plugins import (
    NO_EXTRAS,
    SCRIPT_PART,
    Extras,
    NamedModule,
    send_modules,
    unpacked_folders,
)
from skjob.utils.notify import Notify

_EMPTY = b"PK\x05\x06" + bytes(18)
"""A zip file without a file in it."""

EXTENSION = "skjob-program-code"
"""The key in a client's extensions of its `ProgramCode`."""


@dataclass(frozen=True)
class _PathEntry:
    """A folder or a zip file on the import path: its archive, and the files in it."""

    archive: bytes
    files: frozenset[str]
    complete: bool


@dataclass(frozen=True)
class Order:
    """Folders and zip files of the import path: before the program's own folder, behind it, behind all installed."""

    ahead: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    def followed_by(self, later: Order) -> Order:
        """Return the later order, with entries that are no longer in it at the end of their group."""
        have = {*later.ahead, *later.behind, *later.last}
        groups = ((later.ahead, self.ahead), (later.behind, self.behind), (later.last, self.last))
        return Order(*((*new, *(entry for entry in old if entry not in have)) for new, old in groups))


class ProgramCode:
    """The code of one program, on the cluster of one client. Thread-safe.

    `root` is the program's own folder; `notify` reports a line about what could not be sent.
    """

    def __init__(self, client: Any, root: Path, notify: Notify) -> None:
        self._client = client
        self._root = root
        self._notify = notify
        self._lock = threading.Lock()
        self._entries: dict[str, _PathEntry] = {}
        self._seen: tuple[list[str], list[ModuleType]] | None = None
        self._order = Order()
        self._named: dict[str, NamedModule] = {}
        self._sent = NO_EXTRAS
        self._own = self._pack(str(root))

    def begin(self) -> None:
        """Send the modules beside the program, and keep this with the client, for its Parallel calls."""
        send_modules(self._client, SCRIPT_PART, self._own.archive)
        self._client.extensions[EXTENSION] = self

    def send_new(self) -> None:
        """Send what the program has imported since the last time. Cheap if there is nothing."""
        with self._lock:
            modules = local_modules(self._root)
            if self._seen is not None and self._seen[1] is modules and self._seen[0] == sys.path:
                return
            now = list(sys.path), modules
            extras = self._extras(modules)
            if extras != self._sent:
                send_modules(self._client, SCRIPT_PART, self._own.archive, extras)
                self._sent = extras
            self._seen = now

    def _extras(self, modules: list[ModuleType]) -> Extras:
        """Return what a worker needs besides the program's folder.

        What was sent once stays: a program may remove a folder from its path as soon as it has imported from it.
        """
        self._order = order = self._order.followed_by(import_order(self._root, modules))
        entries = {entry: self._pack(entry) for entry in (*order.ahead, str(self._root), *order.behind, *order.last)}
        for module in modules:
            if not hasattr(module, "__file__") or _is_in_entries(module, entries):
                self._named.pop(module.__name__, None)
            else:
                self._name(module)

        def archives(names: Sequence[str]) -> tuple[bytes, ...]:
            return tuple(entries[name].archive for name in names if entries[name].files)

        return Extras(archives(order.ahead), archives(order.behind), archives(order.last), tuple(self._named.values()))

    def _pack(self, entry: str) -> _PathEntry:
        """Pack an entry of the import path, once."""
        packed_entry = self._entries.get(entry)
        if packed_entry is None:
            packed = _packed(Path(entry))
            with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
                files = frozenset(archive.namelist())
            packed_entry = self._entries[entry] = _PathEntry(packed.content, files, packed.complete)
            if not packed.complete:
                self._notify(f"not all modules in `{entry}` were sent: too much, or not readable")
        return packed_entry

    def _name(self, module: ModuleType) -> None:
        """Let workers find a module by its name alone. Not if its file cannot be read, for example in a zip file."""
        file = Path(str(module.__file__))
        is_package = hasattr(module, "__path__")
        try:
            archive = self._pack(str(file.parent)).archive if is_package else _archive_of(file)
        except OSError:
            return
        self._named[module.__name__] = NamedModule(module.__name__, file.name, str(file), is_package, archive)


def _archive_of(file: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def send_new_code(client: Any) -> None:
    """Send what the program of this client has newly imported, if skjob started the program."""
    code: ProgramCode | None = client.extensions.get(EXTENSION)
    if code is not None:
        code.send_new()


def import_order(root: Path, modules: Sequence[ModuleType]) -> Order:
    """Return the entries of the import path that are the program's own, without its folder.

    Those of `PYTHONPATH` count if one of the local `modules` comes from there: users often have folders in it that this
    program does not use.
    """
    outside = {_absolute(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    made_here = unpacked_folders()
    groups: dict[str, list[str]] = {"ahead": [], "behind": [], "last": []}
    group = "ahead"
    for entry in dict.fromkeys(_absolute(entry) for entry in sys.path if isinstance(entry, str)):
        if entry in made_here or not Path(entry).exists():
            continue
        if entry == str(root):
            group = "behind" if group == "ahead" else group
        elif origin_of("", f"{entry}{os.sep}__init__.py", root) is not CodeOrigin.LOCAL:
            group = "last"
        elif entry not in outside or any(_is_from(module, entry) for module in modules):
            groups[group].append(entry)
    return Order(*map(tuple, groups.values()))


def _is_from(module: ModuleType, folder: str) -> bool:
    return Path(_absolute(str(getattr(module, "__file__", "")))).is_relative_to(folder)


def _absolute(entry: str) -> str:
    """Return a path without `..` and with unresolved links, as Python names the files that it imports."""
    return os.path.abspath(entry)  # noqa: PTH100


def _packed(entry: Path) -> PackedModules:
    """Return the modules of a folder, or a zip file as it is: Python imports from both."""
    if entry.is_dir():
        return pack_modules(entry)
    if not zipfile.is_zipfile(entry):
        return PackedModules(_EMPTY, True)
    try:
        content = entry.read_bytes()
    except OSError:
        content = b""
    if 0 < len(content) <= MAX_BYTES:
        return PackedModules(content, True)
    return PackedModules(_EMPTY, False)


def _is_in_entries(module: ModuleType, entries: dict[str, _PathEntry]) -> bool:
    """Return whether a worker that imports the module by its name finds the same file in one of the entries."""
    path = module.__name__.replace(".", "/")
    for entry, packed in entries.items():
        for name in (f"{path}/__init__.py", f"{path}.py"):
            if name in packed.files:
                return str(Path(entry, name)) == _absolute(str(module.__file__))
    return False
