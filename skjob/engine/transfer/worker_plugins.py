"""Make the user's own modules importable on scheduler and workers, also on workers that join later.

Dask's scheduler gives its plugins to each worker that joins. A restarted scheduler has none: a client keeps its own
plugins, and registers them again when it has connected to another scheduler. The scheduler gets the modules too: it
reads the graphs of Dask's collections, and with them the functions in them.

A cluster that serves several runs may have an older version of a module already. The module is then imported again. If
that is not possible, because of compiled code or data of its old classes, the worker is restarted.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from dask import config
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from skjob.engine.cancellation import ENDED_BY_SKJOB
from skjob.utils.dask_client import call_method, wait_result

REGISTERED = "skjob-plugins"
PACKAGES_PART, SCRIPT_PART = "packages", "script"
"""The parts of the user's code: local distributions, and the modules of the script."""

_CHECK_TIMEOUT = 10.0
REGISTER_TIMEOUT = 300.0
"""Seconds that registering may take: local packages may be large, and the connection to the cluster slow."""

HAS_SKJOB = "__import__('importlib.util').util.find_spec('skjob') is not None"
CHECKED = "skjob-workers-checked"


@dataclass(frozen=True)
class NamedModule:
    """A module that the program named, whatever its path. The archive contains its file or package.

    `file` is its name in the archive, `origin` its file in the program's process.
    """

    name: str
    file: str
    origin: str
    is_package: bool
    archive: bytes


@dataclass(frozen=True)
class Extras:
    """What a program imports of its own besides the modules of its folder: archives of folders of its import path.

    Those `ahead` of that folder and `behind` it come before all that is installed, the `last` ones after it.
    """

    ahead: tuple[bytes, ...] = ()
    behind: tuple[bytes, ...] = ()
    last: tuple[bytes, ...] = ()
    named: tuple[NamedModule, ...] = ()


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class _Unpacked:
    """A part of the user's code in this process: folders before and behind all that is installed, and named modules."""

    digest: str
    first: tuple[str, ...]
    last: tuple[str, ...] = ()
    named: dict[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def folders(self) -> set[str]:
        """All folders that were unpacked for this part."""
        return {*self.first, *self.last, *(str(Path(file).parent) for file, _ in self.named.values())}


_unpacked: dict[str, _Unpacked] = {}
"""What this process has unpacked, by part of the user's code."""


class _NamedModules(MetaPathFinder):
    """Finds the modules that the program named."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a named module. Python calls it for each module."""
        for part in _unpacked.values():
            if fullname in part.named:
                file, is_package = part.named[fullname]
                places = [str(Path(file).parent)] if is_package else None
                return spec_from_file_location(fullname, file, submodule_search_locations=places)
            if any(name.startswith(f"{fullname}.") for name in part.named):
                # Its package without `__init__.py`, if there is no other: its folder is no longer on the path.
                return PathFinder.find_spec(fullname, path) or _empty_package(fullname)
        return None


def _empty_package(name: str) -> ModuleSpec:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = []
    return spec


def unpacked_folders() -> set[str]:
    """Return the folders on the import path of this process that plugins created: it may run a worker."""
    return {folder for part in _unpacked.values() for folder in (*part.first, *part.last)}


class WorkerModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks source files into the worker's own folder and puts that on the import path.

    A later archive of the same `part` replaces an earlier one.
    """

    def __init__(self, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive
        self.extras = extras

    def setup(self, worker: Any) -> None:
        """Unpack the files. Each worker calls it as it joins, and again when an archive replaces another."""
        replaced = _unpack(self.part, self.archive, self.extras, Path(worker.local_directory))
        if replaced and not _forget_modules(replaced, worker.data.values()):
            # Kubernetes or a nanny restarts it, and it has the new code from the start.
            worker.loop.call_later(0.1, os._exit, ENDED_BY_SKJOB)


class SchedulerModules(SchedulerPlugin):  # type: ignore[misc]
    """Unpacks source files on the scheduler, which holds no data; compiled modules stay as they are."""

    def __init__(self, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive
        self.extras = extras

    async def start(self, scheduler: Any) -> None:
        """Unpack the files. The scheduler calls it when it gets the plugin."""
        if replaced := _unpack(self.part, self.archive, self.extras, _own_folder()):
            _forget_modules(replaced, ())


def send_modules(client: Any, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
    """Make the modules in the archive importable wherever this client's tasks run."""
    register_plugin(client, SchedulerModules(part, archive, extras))
    register_plugin(client, WorkerModules(part, archive, extras))


def _unpack(part: str, archive: bytes, extras: Extras, folder: Path) -> set[str]:
    """Make a part of the user's code importable in this process. Return the folders that were replaced."""
    before = _unpacked.get(part)
    digest = _digest_of_all(archive, extras)
    if before is not None and before.digest == digest:
        return set()

    def unpack(content: bytes) -> str:
        target = folder / f"skjob-{part}-{_digest(content)}"
        if before is None or str(target) not in before.folders:
            with zipfile.ZipFile(io.BytesIO(content)) as opened:
                opened.extractall(target)
        return str(target)

    first = tuple(dict.fromkeys(unpack(each) for each in (*extras.ahead, archive, *extras.behind)))
    last = tuple(dict.fromkeys(unpack(each) for each in extras.last))
    named = {each.name: (str(Path(unpack(each.archive), each.file)), each.is_package) for each in extras.named}
    _put_on_path(before, first, last)
    if not any(isinstance(finder, _NamedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NamedModules())
    importlib.invalidate_caches()
    _forget_namesakes({each.name: {each.origin, named[each.name][0]} for each in extras.named})
    now = _unpacked[part] = _Unpacked(digest, first, last, named)
    if before is None:
        return set()
    # Modules that imported from a name which now has another file stay, as in plain Python.
    gone = {str(Path(file).parent) for name, (file, _) in before.named.items() if name not in named}
    return {*before.first, *before.last, *gone} - now.folders


def _put_on_path(before: _Unpacked | None, first: tuple[str, ...], last: tuple[str, ...]) -> None:
    """Put folders on the path in place of the previous ones: the script's modules stay before those of packages."""
    place = 0
    if before is not None:
        place = min((sys.path.index(folder) for folder in before.first if folder in sys.path), default=0)
    old = {*first, *last, *(() if before is None else (*before.first, *before.last))}
    place -= sum(entry in old for entry in sys.path[:place])
    others = [entry for entry in sys.path if entry not in old]
    sys.path[:] = [*others[:place], *first, *others[place:], *last]  # in one step: a task may be importing something


def _forget_namesakes(named: dict[str, set[str]]) -> None:
    """Forget modules that were imported under a name that now means another file.

    The program's own module stays, if the program runs in this very process.
    """
    for name, files in named.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__file__", None) not in files:
            del sys.modules[name]


def _digest_of_all(archive: bytes, extras: Extras) -> str:
    if extras == NO_EXTRAS:
        return _digest(archive)
    folders = [[_digest(each) for each in group] for group in (extras.ahead, extras.behind, extras.last)]
    named = [(each.name, each.file, each.origin, each.is_package, _digest(each.archive)) for each in extras.named]
    return _digest(repr((_digest(archive), folders, named)).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def _own_folder() -> Path:
    """Return a folder that is removed with this process: a scheduler has none, unlike workers."""
    folder = Path(tempfile.mkdtemp(prefix="skjob-", dir=config.get("temporary-directory", None)))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _forget_modules(replaced: set[str], data: Iterable[Any]) -> bool:
    """Forget the user's modules, so that they are imported from the new folders. Return whether that is safe.

    All of them are forgotten, not only those of the replaced folders: others may have imported functions from those.
    It is not safe, and nothing is done, if some are compiled, or if data on the worker is of their classes.
    """
    current = {folder for part in _unpacked.values() for folder in part.folders}
    folders = tuple(f"{folder}{os.sep}" for folder in replaced | current)
    old = {name: module for name, module in list(sys.modules.items()) if is_from(module, folders)}
    if any(str(getattr(module, "__file__", None)).endswith((".so", ".pyd")) for module in old.values()):
        return False
    if any(type(value).__module__ in old for value in data):
        return False
    for name in old:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if parent and parent not in old and parent in sys.modules:
            vars(sys.modules[parent]).pop(child, None)
    return True


def is_from(module: object, folders: tuple[str, ...]) -> bool:
    """Return whether a module lies in one of these folders.

    A package without `__init__.py` has no file, and may lie in several folders.
    """
    file = getattr(module, "__file__", None)
    if file is not None:
        return str(file).startswith(folders)
    try:
        return any(f"{place}{os.sep}".startswith(folders) for place in getattr(module, "__path__", ()))
    except Exception:  # whatever a module puts there
        return False


def register_plugin(client: Any, plugin: WorkerPlugin | SchedulerPlugin) -> None:
    """Give this plugin to the scheduler, or to all workers of this client, now and later."""
    registered = client.extensions.setdefault(REGISTERED, {"scheduler": _scheduler(client), "plugins": {}})
    registered["plugins"][type(plugin), plugin.name] = plugin
    call_method(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)


def register_plugins_again(client: Any) -> None:
    """Register the client's plugins again, if it has connected to another scheduler."""
    registered = client.extensions.get(REGISTERED)
    if registered is None or registered["scheduler"] == (scheduler := _scheduler(client)):
        return
    for plugin in registered["plugins"].values():
        call_method(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)
    registered["scheduler"] = scheduler


def check_workers(client: Any) -> None:
    """Check once for each client that its workers have skjob, without which they cannot read tasks.

    Raises
    ------
    ModuleNotFoundError
        They do not have it.
    """
    if client.extensions.get(CHECKED):
        return
    workers = list(client.scheduler_info(n_workers=1)["workers"])
    if not workers:
        return  # a later call checks a worker that joins
    # Nothing of skjob itself can be sent for that: a worker that cannot read its message ends.
    check = client.run(eval, HAS_SKJOB, workers=workers, on_error="return", asynchronous=True)
    try:
        [found] = wait_result(client, check, _CHECK_TIMEOUT).values()
    except (TimeoutError, OSError, ValueError):
        return  # it may be busy, or shutting down
    if found is False or isinstance(found, ModuleNotFoundError):
        raise ModuleNotFoundError(
            "the Dask workers have no `skjob`: install it in their environment, in the version that is here"
        )
    client.extensions[CHECKED] = found is True


def _scheduler(client: Any) -> str:
    return str(client.scheduler_info(n_workers=0)["id"])
