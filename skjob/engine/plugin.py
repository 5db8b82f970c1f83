"""Makes the modules beside the user's script importable on every worker, also on those that join later.

Dask's scheduler gives a worker that joins the plugins that it knows. One that has been started again knows none: those
of a client are noted with the client, and registered again where it has connected to another scheduler.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

NOTED = "skjob-plugins"
CHECK_SECONDS = 10.0
HAS_SKJOB = "__import__('importlib.util').util.find_spec('skjob') is not None"
CHECKED = "skjob-workers-checked"


class LocalModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks the source files into the worker's own folder and puts that on the import path."""

    idempotent = True

    def __init__(self, archive: bytes) -> None:
        self.name = f"skjob-modules-{hashlib.sha256(archive).hexdigest()[:16]}"
        self.archive = archive

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        folder = Path(worker.local_directory) / self.name
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            archive.extractall(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def register(client: Any, plugin: WorkerPlugin) -> None:
    """Give all workers of this client this plugin, now and later."""
    noted = client.extensions.setdefault(NOTED, {"scheduler": _scheduler(client), "plugins": {}})
    noted["plugins"][plugin.name] = plugin
    client.register_plugin(plugin)


def register_again(client: Any) -> None:
    """Called after a connection that broke: the scheduler may be another one."""
    noted = client.extensions.get(NOTED)
    if noted is None or noted["scheduler"] == (scheduler := _scheduler(client)):
        return
    for plugin in noted["plugins"].values():
        client.register_plugin(plugin)
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
        [found] = asyncio.run_coroutine_threadsafe(looking, client.loop.asyncio_loop).result(CHECK_SECONDS).values()
    except (TimeoutError, OSError, ValueError):
        return  # it may be busy, or just leaving
    if found is False or isinstance(found, ModuleNotFoundError):
        raise ModuleNotFoundError(
            "the Dask workers have no `skjob`: install it in their environment, in the version that is here"
        )
    client.extensions[CHECKED] = found is True


def _scheduler(client: Any) -> str:
    return str(client.scheduler_info(n_workers=0)["id"])
