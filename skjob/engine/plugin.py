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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask import config
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from skjob.answers import answer, ask
from skjob.engine.stop import ENDED_BY_SKJOB

NOTED = "skjob-plugins"
PACKAGES_PART, SCRIPT_PART = "packages", "script"
"""The parts of the user's code: distributions that are local here, and what stands beside the script."""

CHECK_SECONDS = 10.0
REGISTER_TIMEOUT = 300.0
"""Seconds; packages that are local here may be large, and the way to the cluster slow."""

HAS_SKJOB = "__import__('importlib.util').util.find_spec('skjob') is not None"
CHECKED = "skjob-workers-checked"


@dataclass(frozen=True)
class _Unpacked:
    digest: str
    folder: Path


_unpacked: dict[str, _Unpacked] = {}
"""What this process has unpacked, by the part of the user's code that it is."""


class LocalModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks source files into the worker's own folder and puts that on the import path.

    `part` tells one archive from another: a later one of the same part takes the place of the earlier one.
    """

    def __init__(self, part: str, archive: bytes) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins, and again when an archive takes the place of another."""
        replaced = _unpack(self.part, self.archive, Path(worker.local_directory))
        if replaced is not None and not _import_anew(replaced, worker.data.values()):
            # Whoever started it starts it again (Kubernetes, or a nanny), and it has the new code from the first.
            worker.loop.call_later(0.1, os._exit, ENDED_BY_SKJOB)


class SchedulerModules(SchedulerPlugin):  # type: ignore[misc]
    """The same on the scheduler, which holds no data; what is compiled there is not looked at again."""

    def __init__(self, part: str, archive: bytes) -> None:
        self.part = part
        self.name = f"skjob-{part}"
        self.archive = archive

    async def start(self, scheduler: Any) -> None:
        """Called as the scheduler takes the plugin."""
        if replaced := _unpack(self.part, self.archive, _own_folder()):
            _import_anew(replaced, ())


def send_modules(client: Any, part: str, archive: bytes) -> None:
    """Make what is in the archive importable wherever this client's work goes."""
    register(client, SchedulerModules(part, archive))
    register(client, LocalModules(part, archive))


def _unpack(part: str, archive: bytes, folder: Path) -> Path | None:
    """The folder with another content that this one takes the place of, if there was one in this process."""
    digest = hashlib.sha256(archive).hexdigest()[:16]
    before = _unpacked.get(part)
    if before is not None and before.digest == digest:
        return None
    target = folder / f"skjob-{part}-{digest}"
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        content.extractall(target)
    if before is not None and str(before.folder) in sys.path:
        # In its place: the script's own modules stay before those of packages.
        sys.path[sys.path.index(str(before.folder))] = str(target)
    else:
        sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    _unpacked[part] = _Unpacked(digest, target)
    return before.folder if before else None


@functools.cache
def _own_folder() -> Path:
    """A folder of this process's own, which goes with it: a scheduler has none, as workers have."""
    folder = Path(tempfile.mkdtemp(prefix="skjob-", dir=config.get("temporary-directory", None)))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _import_anew(replaced: Path, held: Iterable[Any]) -> bool:
    """Forget the modules of the user's, so that they are imported from where they are now.

    All of them, not only those of the folder that was replaced: others may have taken functions from those. False, and
    nothing is done, where that is not safe: some are compiled, or something held is of their classes.
    """
    folders = tuple(f"{folder}{os.sep}" for folder in {replaced, *(each.folder for each in _unpacked.values())})
    old = {name: module for name, module in list(sys.modules.items()) if _is_from(module, folders)}
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


def _is_from(module: object, folders: tuple[str, ...]) -> bool:
    """A package without `__init__.py` has no file, and may lie in several folders."""
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
    ask(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)


def register_again(client: Any) -> None:
    """Called after a connection that broke: the scheduler may be another one."""
    noted = client.extensions.get(NOTED)
    if noted is None or noted["scheduler"] == (scheduler := _scheduler(client)):
        return
    for plugin in noted["plugins"].values():
        ask(client, functools.partial(client.register_plugin, plugin), REGISTER_TIMEOUT)
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
        [found] = answer(client, looking, CHECK_SECONDS).values()
    except (TimeoutError, OSError, ValueError):
        return  # it may be busy, or just leaving
    if found is False or isinstance(found, ModuleNotFoundError):
        raise ModuleNotFoundError(
            "the Dask workers have no `skjob`: install it in their environment, in the version that is here"
        )
    client.extensions[CHECKED] = found is True


def _scheduler(client: Any) -> str:
    return str(client.scheduler_info(n_workers=0)["id"])
