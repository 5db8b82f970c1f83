"""Makes the user's own modules importable on scheduler and workers, also on workers that join later.

Dask's scheduler gives a worker that joins the plugins that it knows. One that has been started again knows none: those
of a client are noted with the client, and registered again where it has connected to another scheduler. The scheduler
gets the modules too: it reads the graphs of Dask's collections, and with them the functions they are made of.

A cluster that serves one run after the other may have an older version of a module already. It is imported anew,
unless it can't be: compiled code, or data held here that is made of the old classes. Such a worker is started again.
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

NOTED = "skjob-plugins"
PACKAGES_PART, SCRIPT_PART = "packages", "script"
"""The parts of the user's code: distributions that are local here, and what the script imports of its own."""

CHECK_SECONDS = 10.0
REGISTER_TIMEOUT = 300.0
"""Seconds; packages that are local here may be large, and the way to the cluster slow."""

HAS_SKJOB = "__import__('importlib.util').util.find_spec('skjob') is not None"
CHECKED = "skjob-workers-checked"


@dataclass(frozen=True)
class NamedModule:
    """A module that has its name from the program, not from its place: the archive holds its file, or its package.

    `file` is the name in the archive, `origin` the file where the program runs.
    """

    name: str
    file: str
    origin: str
    is_package: bool
    archive: bytes


@dataclass(frozen=True)
class Extras:
    """What a program imports of its own beside the modules of its folder: archives of folders of its import path.

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
        """All that was unpacked for it."""
        return {*self.first, *self.last, *(str(Path(file).parent) for file, _ in self.named.values())}


_unpacked: dict[str, _Unpacked] = {}
"""What this process has unpacked, by the part of the user's code that it is."""


class _NamedModules(MetaPathFinder):
    """Finds the modules that have their names from the program."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python for each module that is imported."""
        for part in _unpacked.values():
            if fullname in part.named:
                file, is_package = part.named[fullname]
                places = [str(Path(file).parent)] if is_package else None
                return spec_from_file_location(fullname, file, submodule_search_locations=places)
            if any(name.startswith(f"{fullname}.") for name in part.named):
                # A package without `__init__.py`, if there is none: its folder is not on the path any more.
                return PathFinder.find_spec(fullname, path) or _empty_package(fullname)
        return None


def _empty_package(name: str) -> ModuleSpec:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = []
    return spec


def unpacked_folders() -> set[str]:
    """Return the folders of the import path of this process that plugins have made: it may run a worker of its own."""
    return {folder for part in _unpacked.values() for folder in (*part.first, *part.last)}


class LocalModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks source files into the worker's own folder and puts that on the import path.

    `part` tells one archive from another: a later one of the same part takes the place of the earlier one.
    """

    def __init__(self, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive
        self.extras = extras

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins, and again when an archive takes the place of another."""
        replaced = _unpack(self.part, self.archive, self.extras, Path(worker.local_directory))
        if replaced and not _import_anew(replaced, worker.data.values()):
            # Whoever started it starts it again (Kubernetes, or a nanny), and it has the new code from the first.
            worker.loop.call_later(0.1, os._exit, ENDED_BY_SKJOB)


class SchedulerModules(SchedulerPlugin):  # type: ignore[misc]
    """The same on the scheduler, which holds no data; what is compiled there is not looked at again."""

    def __init__(self, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive
        self.extras = extras

    async def start(self, scheduler: Any) -> None:
        """Called as the scheduler takes the plugin."""
        if replaced := _unpack(self.part, self.archive, self.extras, _own_folder()):
            _import_anew(replaced, ())


def send_modules(client: Any, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
    """Make what is in the archive importable wherever this client's work goes."""
    register(client, SchedulerModules(part, archive, extras))
    register(client, LocalModules(part, archive, extras))


def _unpack(part: str, archive: bytes, extras: Extras, folder: Path) -> set[str]:
    """Make a part of the user's code importable in this process; the folders whose place was taken by others."""
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
    # A name that has got another file is no reason to forget what took from the first: plain Python does not either.
    gone = {str(Path(file).parent) for name, (file, _) in before.named.items() if name not in named}
    return {*before.first, *before.last, *gone} - now.folders


def _put_on_path(before: _Unpacked | None, first: tuple[str, ...], last: tuple[str, ...]) -> None:
    """In the place of those before: the script's own modules stay before those of packages."""
    place = 0
    if before is not None:
        place = min((sys.path.index(folder) for folder in before.first if folder in sys.path), default=0)
    old = {*first, *last, *(() if before is None else (*before.first, *before.last))}
    place -= sum(entry in old for entry in sys.path[:place])
    others = [entry for entry in sys.path if entry not in old]
    sys.path[:] = [*others[:place], *first, *others[place:], *last]  # at once: a task may just import something


def _forget_namesakes(named: dict[str, set[str]]) -> None:
    """Forget what was imported here under a name that now means another file, whosever it was.

    Not the program's own module, where the program runs in this very process.
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
    """A folder of this process's own, which goes with it: a scheduler has none, as workers have."""
    folder = Path(tempfile.mkdtemp(prefix="skjob-", dir=config.get("temporary-directory", None)))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _import_anew(replaced: set[str], held: Iterable[Any]) -> bool:
    """Forget the modules of the user's, so that they are imported from where they are now.

    All of them, not only those of the folders that were replaced: others may have taken functions from those. False,
    and nothing is done, where that is not safe: some are compiled, or something held is of their classes.
    """
    current = {folder for part in _unpacked.values() for folder in part.folders}
    folders = tuple(f"{folder}{os.sep}" for folder in replaced | current)
    old = {name: module for name, module in list(sys.modules.items()) if is_from(module, folders)}
    if any(str(getattr(module, "__file__", None)).endswith((".so", ".pyd")) for module in old.values()):
        return False
    if any(type(value).__module__ in old for value in held):
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
    except Exception:  # whatever a module of somebody's puts there
        return False


def register(client: Any, plugin: WorkerPlugin | SchedulerPlugin) -> None:
    """Give the scheduler, or all workers of this client, this plugin, now and later."""
    noted = client.extensions.setdefault(NOTED, {"scheduler": _scheduler(client), "plugins": {}})
    noted["plugins"][type(plugin), plugin.name] = plugin
    call_method(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)


def register_again(client: Any) -> None:
    """Called after a connection that broke: the scheduler may be another one."""
    noted = client.extensions.get(NOTED)
    if noted is None or noted["scheduler"] == (scheduler := _scheduler(client)):
        return
    for plugin in noted["plugins"].values():
        call_method(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)
    noted["scheduler"] = scheduler


def check_workers(client: Any) -> None:
    """Once a client: whether its workers have skjob, without which none of them could read a task.

    Raises:
        ModuleNotFoundError: they don't, with what to do.
    """
    if client.extensions.get(CHECKED):
        return
    workers = list(client.scheduler_info(n_workers=1)["workers"])
    if not workers:
        return  # a worker that comes will be looked at by a later call
    # Nothing of skjob's own can be sent to look for it: a worker ends that can't read its message.
    looking = client.run(eval, HAS_SKJOB, workers=workers, on_error="return", asynchronous=True)
    try:
        [found] = wait_result(client, looking, CHECK_SECONDS).values()
    except (TimeoutError, OSError, ValueError):
        return  # it may be busy, or just leaving
    if found is False or isinstance(found, ModuleNotFoundError):
        raise ModuleNotFoundError(
            "the Dask workers have no `skjob`: install it in their environment, in the version that is here"
        )
    client.extensions[CHECKED] = found is True


def _scheduler(client: Any) -> str:
    return str(client.scheduler_info(n_workers=0)["id"])
