"""Workers of this machine as forks of a process that has imported what they need.

A worker that Dask starts in the usual way is a new Python: it takes a second of CPU to import Dask, and another one for
scikit-learn, each worker again. multiprocessing's fork server, which Dask can use, imports them once, but is a new
Python itself. Here it is a fork of the cluster's own process, which has Dask already, made before that has a thread.

What is inherited must be right for every worker. Thread counts and malloc's settings are read when a library is loaded
or a process starts: `process_environment` has them from the start. NumPy's global random state would be the same in all
of them: each fork seeds it anew. A process that has threads cannot be forked safely: if an import starts one, the
server becomes a new Python after all.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from skjob.utils.operating_system import ON_LINUX, close_descriptors, thread_names

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Dask's default of `distributed.nanny.pre-spawn-environ`: what it sets before it starts a worker's process."""

HASH_SEED = {"PYTHONHASHSEED": "6640"}
"""What Dask's nanny sets so that the workers of a cluster hash strings alike."""

SHARES_FILES = {"SKJOB_WORKER_SHARES_FILES": "1"}
"""`skjob.engine.fidelity.effects.guard.FILES_VARIABLE`, whose import would slow each start down by joblib's."""

SET_BY_SKJOB = "SKJOB_WORKER_ENVIRONMENT"
"""Names the variables that `process_environment` has added, not the user."""

MAX_FOLDER_LENGTH = 70
"""Characters: of the 107 that the path of a socket may have, multiprocessing's own names take 33."""

HARMLESS_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that survive a fork: jemalloc (in pyarrow) stops its own around it and starts it again."""


def process_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment to start the cluster's process in: `own`, with what Dask would set for workers."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in own}
    return {**own, **added, **HASH_SEED, **SHARES_FILES, SET_BY_SKJOB: " ".join(added)}


def apply_user_settings() -> None:
    """Start this process again where the user's Dask configuration sets other variables for workers than `ENVIRONMENT`.

    Returns where it does not.
    """
    from dask import config

    added = os.environ.pop(SET_BY_SKJOB, "").split()
    chosen = {
        name: str(value)
        for name, value in config.get("distributed.nanny.pre-spawn-environ").items()
        if value is not None and (name in added or name not in os.environ)
    }
    if chosen != {name: os.environ[name] for name in added}:
        rest = {name: value for name, value in os.environ.items() if name not in added}
        os.execve(sys.executable, sys.orig_argv, {**rest, **chosen})  # noqa: S606 - this very program


def start(preload: Sequence[str], folder: str) -> None:
    """Let Dask's nannies start workers as forks of this process, which import `preload` first.

    Call it before the process has a thread. The server's socket is in `folder`. Linux alone, and where the path of the
    socket is not too long: elsewhere Dask starts each worker as a new Python.
    """
    if not ON_LINUX or len(folder) > MAX_FOLDER_LENGTH:
        return
    from multiprocessing import forkserver, resource_tracker, util
    from unittest import mock

    from dask import config
    from distributed import utils

    config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    # GONE WHEN `distributed.utils.get_mp_context` leaves the preload list alone: it imports pandas and all else that
    # distributed can use into the scheduler's process, to have a list of what a fork server can import.
    utils._forkserver_preload_set = True
    forkserver.set_forkserver_preload(["distributed"])  # of a server that has to be started again
    resource_tracker.ensure_running()
    with (
        mock.patch.object(util, "spawnv_passfds", partial(_fork, preload)),
        mock.patch.object(tempfile, "tempdir", folder),
    ):
        forkserver.ensure_running()


def _fork(preload: Sequence[str], path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> int:
    """Stand in for `spawnv_passfds`: run in a fork what a new Python would be given by `-c`. Return the fork's id."""
    process = os.fork()
    if process == 0:
        _serve(preload, path, arguments, descriptors)
    return process


def _serve(preload: Sequence[str], path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> NoReturn:
    try:
        # An exec would have closed them: an end of a pipe that stays open here is never seen to close.
        close_descriptors(but={0, 1, 2, *descriptors})
        tempfile.tempdir = None  # that of the socket is not that of the tasks
        for name in preload:
            with suppress(Exception):  # the program's own import says why it fails
                importlib.import_module(name)
        if thread_names() - HARMLESS_THREADS:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, True)
            os.execv(path, list(arguments))  # noqa: S606 - as multiprocessing would
        os.register_at_fork(after_in_child=_seed_numpy)
        gc.freeze()  # what exists now stays shared with the workers
        exec(arguments[-1], {})  # noqa: S102 - the command that multiprocessing has written
    finally:
        os._exit(1)


def _seed_numpy() -> None:
    """Seed NumPy's global generator, which a fork inherits; Python's own seeds itself."""
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()
