"""Start workers on this machine as forks of a process that has already imported what they need.

By default Dask starts each worker as a new Python process, which takes a second of CPU to import Dask and another for
scikit-learn. multiprocessing's fork server, which Dask supports, imports them once, but is itself a new Python process.
Here the fork server is a fork of the cluster's own process, which has imported Dask already, made before that process
starts a thread.

Whatever workers inherit must be right for all of them. Thread counts and malloc's settings are read when a library is
loaded or a process starts, so `process_environment` sets them from the start. NumPy's global random state would be the
same in all workers, so each fork seeds it again. A process with threads cannot be forked safely: if an import starts
one, the server falls back to a new Python process.
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

from skjob.config.hash_seed import hash_seed
from skjob.utils.operating_system import ON_LINUX, close_descriptors, thread_names

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Default of Dask's `distributed.nanny.pre-spawn-environ`: what it sets before it starts a worker's process."""

SHARES_FILES = {"SKJOB_WORKER_SHARES_FILES": "1"}
"""`skjob.engine.fidelity.effects.guard.FILES_VARIABLE`; importing it would import joblib too and slow down each
start."""

SET_BY_SKJOB = "SKJOB_WORKER_ENVIRONMENT"
"""Lists the variables that were added by `process_environment`, not set by the user."""

MAX_FOLDER_LENGTH = 70
"""Maximum length in characters: a socket's path may have 107, and multiprocessing's own names take 33."""

HARMLESS_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that survive a fork: jemalloc (in pyarrow) stops its own around it and starts it again."""


def process_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for the cluster's process: `base`, and what Dask would set for workers."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in base}
    return {**base, **added, **hash_seed(base), **SHARES_FILES, SET_BY_SKJOB: " ".join(added)}


def apply_user_settings() -> None:
    """Restart this process if the user's Dask configuration sets other variables for workers than `ENVIRONMENT`.

    Return otherwise.
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
    """Make Dask's nannies start workers as forks of a server that has imported `preload`.

    Call this before the process starts a thread. The server's socket is in `folder`. Only Linux is supported, and the
    socket's path must not be too long; otherwise Dask starts each worker as a new Python process.
    """
    if not ON_LINUX or len(folder) > MAX_FOLDER_LENGTH:
        return
    from multiprocessing import forkserver, resource_tracker, util
    from unittest import mock

    from dask import config
    from distributed import utils

    config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    # GONE WHEN `distributed.utils.get_mp_context` leaves the preload list alone: to find out what a fork server could
    # import, it imports pandas and everything else that distributed can use into the scheduler's process.
    utils._forkserver_preload_set = True
    forkserver.set_forkserver_preload(["distributed"])  # in case the server has to be restarted
    resource_tracker.ensure_running()
    with (
        mock.patch.object(util, "spawnv_passfds", partial(_fork, preload)),
        mock.patch.object(tempfile, "tempdir", folder),
    ):
        forkserver.ensure_running()


def _fork(preload: Sequence[str], path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> int:
    """Replace `spawnv_passfds`: run the `-c` command of the new Python in a fork instead. Return the fork's id."""
    process = os.fork()
    if process == 0:
        _serve(preload, path, arguments, descriptors)
    return process


def _serve(preload: Sequence[str], path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> NoReturn:
    try:
        # An exec would have closed them: an end of a pipe that stays open here is never seen to close.
        close_descriptors(but={0, 1, 2, *descriptors})
        tempfile.tempdir = None  # tasks do not use the socket's folder
        for name in preload:
            with suppress(Exception):  # the program's own import will show the error
                importlib.import_module(name)
        if thread_names() - HARMLESS_THREADS:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, True)
            os.execv(path, list(arguments))  # noqa: S606 - as multiprocessing would
        os.register_at_fork(after_in_child=_seed_numpy)
        gc.freeze()  # keep sharing the memory of existing objects with workers
        exec(arguments[-1], {})  # noqa: S102 - the command written by multiprocessing
    finally:
        os._exit(1)


def _seed_numpy() -> None:
    """Seed NumPy's global generator, which forks inherit; Python's own is reseeded automatically."""
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()
