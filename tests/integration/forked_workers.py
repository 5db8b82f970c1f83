"""Workers that start quickly, as forks of a process that has imported their libraries.

A spawned worker first imports Dask, scikit-learn and the libraries of its tasks, which takes 2 to 4 s of CPU time, and
each test that ends a worker waits for that. A fork takes 0.1 s. Otherwise, the worker is like any other: a process with
a nanny, which restarts it when it dies.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from unittest import mock

import dask
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from waiting import DEADLINE

from skjob.engine.fidelity.effects.guard import FILES_VARIABLE

PRELOADED_MODULES = (
    "distributed.nanny", "distributed.worker", "skjob.engine.task", "skjob.engine.transfer.worker_plugins",
    "skjob.boosters", "sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection", "sklearn.svm", "pandas",
    "scipy.sparse", "dask.array", "dask.dataframe", "pyarrow.parquet", "xgboost.dask", "lightgbm", "pytest",
)  # fmt: skip
"""Modules that the forked process imports. It must not run OpenMP or BLAS, whose threads do not survive a fork."""

SEED_NUMPY = "import numpy; numpy.random.seed()"
"""Seeds each worker on its own: forks share the random state of their parent."""


@contextmanager
def forked_workers(*first: str) -> Iterator[None]:
    """Within the block, nannies fork their workers. Each worker runs the statements `first` when it starts."""
    with dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.worker.preload": [SEED_NUMPY, *first],
        }
    ):
        _start_server()
        yield


@contextmanager
def two_forked_workers() -> Iterator[Client]:
    """Start a cluster of two workers with one thread each for the block; yield its client."""
    with (
        forked_workers(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=DEADLINE)
        yield client


def close_cluster(cluster: LocalCluster) -> None:
    """Close a cluster whose workers tests have killed.

    distributed 2026.8 raises KeyError if a killed worker was removed before the cluster was notified of it. GONE WHEN
    `SpecCluster._update_worker_status` tolerates an unknown worker.
    """
    with suppress(KeyError):
        cluster.close()


def _start_server() -> None:
    """Start the fork server once per test process, with the environment that nannies set for their workers."""
    get_mp_context()  # Dask sets its own preload list the first time
    environment = dask.config.get("distributed.nanny.pre-spawn-environ")
    own = {FILES_VARIABLE: "1"}  # lets workers detect files that tasks write
    with mock.patch.dict(os.environ, {name: str(value) for name, value in environment.items()} | own):
        multiprocessing.get_context("forkserver").set_forkserver_preload([*PRELOADED_MODULES])
        forkserver.ensure_running()
