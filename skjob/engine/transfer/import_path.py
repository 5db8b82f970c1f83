"""What a program imports of its own from beyond its folder, sent to where its tasks run before they go there.

A program may put folders on `sys.path`, give a file a name of its own with `importlib.util.spec_from_file_location`,
write a module and import it, be started with `PYTHONPATH`, or do all that between two searches. So it is looked at
before each Parallel call, and what is new is sent. Workers have the folders in the program's order, those before and
those behind all that is installed, so that each name means there what it means here.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from skjob.engine.transfer.local_code import Home, home_of, local_modules
from skjob.engine.transfer.modules import MOST_BYTES, Packed, pack
from skjob.engine.transfer.worker_plugins import (
    NO_EXTRAS,
    SCRIPT_PART,
    Extras,
    NamedModule,
    send_modules,
    unpacked_folders,
)

_EMPTY = b"PK\x05\x06" + bytes(18)
"""A zip file without a file in it."""

KEPT_AS = "skjob-program-code"
"""Where the client has it."""


@dataclass(frozen=True)
class _Place:
    """A folder, or a zip file, of the import path: its archive, and the files that it holds."""

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
        """The later order, with what is not in it any more at the end of its group."""
        have = {*later.ahead, *later.behind, *later.last}
        groups = ((later.ahead, self.ahead), (later.behind, self.behind), (later.last, self.last))
        return Order(*((*new, *(entry for entry in old if entry not in have)) for new, old in groups))


class ProgramCode:
    """The code of one program, on the cluster of one client. Thread-safe.

    `root` is the program's own folder; `note` takes a line about what could not be sent.
    """

    def __init__(self, client: Any, root: Path, note: Callable[[str], None]) -> None:
        self._client = client
        self._root = root
        self._note = note
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._seen: tuple[list[str], list[ModuleType]] | None = None
        self._order = Order()
        self._named: dict[str, NamedModule] = {}
        self._sent = NO_EXTRAS
        self._own = self._place(str(root))

    def begin(self) -> None:
        """Send what stands beside the program, and keep this with the client, for its Parallel calls."""
        send_modules(self._client, SCRIPT_PART, self._own.archive)
        self._client.extensions[KEPT_AS] = self

    def send_new(self) -> None:
        """Send what the program has come to import since the last time. Cheap if there is nothing."""
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
        """What a worker must have beside the program's folder.

        What was sent once stays: a program may take a folder off its path as soon as it has imported what it wants.
        """
        self._order = order = self._order.followed_by(import_order(self._root, modules))
        places = {entry: self._place(entry) for entry in (*order.ahead, str(self._root), *order.behind, *order.last)}
        for module in modules:
            if not hasattr(module, "__file__") or _is_held(module, places):
                self._named.pop(module.__name__, None)
            else:
                self._name(module)

        def archives(entries: Sequence[str]) -> tuple[bytes, ...]:
            return tuple(places[entry].archive for entry in entries if places[entry].files)

        return Extras(archives(order.ahead), archives(order.behind), archives(order.last), tuple(self._named.values()))

    def _place(self, entry: str) -> _Place:
        """Pack an entry of the import path, once."""
        place = self._places.get(entry)
        if place is None:
            packed = _packed(Path(entry))
            with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
                files = frozenset(archive.namelist())
            place = self._places[entry] = _Place(packed.content, files, packed.complete)
            if not packed.complete:
                self._note(f"not all modules in `{entry}` were sent: too much, or not readable")
        return place

    def _name(self, module: ModuleType) -> None:
        """Have workers find a module by its name alone. Not one whose file cannot be read, as one in a zip file."""
        file = Path(str(module.__file__))
        is_package = hasattr(module, "__path__")
        try:
            archive = self._place(str(file.parent)).archive if is_package else _archive_of(file)
        except OSError:
            return
        self._named[module.__name__] = NamedModule(module.__name__, file.name, str(file), is_package, archive)


def _archive_of(file: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def send_new_code(client: Any) -> None:
    """Send what the program of this client has come to import, if skjob has started it."""
    code: ProgramCode | None = client.extensions.get(KEPT_AS)
    if code is not None:
        code.send_new()


def import_order(root: Path, modules: Sequence[ModuleType]) -> Order:
    """Return the entries of the import path that are the program's own, but for its folder.

    Those of `PYTHONPATH` count if one of the local `modules` comes from there: many a user has folders in it that this
    program has no use for.
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
        elif home_of("", f"{entry}{os.sep}__init__.py", root) is not Home.LOCAL:
            group = "last"
        elif entry not in outside or any(_is_from(module, entry) for module in modules):
            groups[group].append(entry)
    return Order(*map(tuple, groups.values()))


def _is_from(module: ModuleType, folder: str) -> bool:
    return Path(_absolute(str(getattr(module, "__file__", "")))).is_relative_to(folder)


def _absolute(entry: str) -> str:
    """Without `..`, and with links as they are: so Python names the files that it imports from there."""
    return os.path.abspath(entry)  # noqa: PTH100


def _packed(entry: Path) -> Packed:
    """The modules of a folder, or a zip file as it is: Python imports from both."""
    if entry.is_dir():
        return pack(entry)
    if not zipfile.is_zipfile(entry):
        return Packed(_EMPTY, True)
    try:
        content = entry.read_bytes()
    except OSError:
        content = b""
    if 0 < len(content) <= MOST_BYTES:
        return Packed(content, True)
    return Packed(_EMPTY, False)


def _is_held(module: ModuleType, places: dict[str, _Place]) -> bool:
    """Whether a worker that imports the module by its name finds the very file in one of the places sent."""
    path = module.__name__.replace(".", "/")
    for entry, place in places.items():
        for name in (f"{path}/__init__.py", f"{path}.py"):
            if name in place.files:
                return str(Path(entry, name)) == _absolute(str(module.__file__))
    return False
