"""Workers that start in a moment: forks of a process that has imported what they use.

A worker that is spawned imports Dask, scikit-learn and what its tasks need first, which takes 2 to 4 s of a CPU; each
test that ends a worker waits for that. A fork takes 0.1 s. All else is as ever: a process of its own with its nanny,
which starts it again when it dies.
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

IMPORTED = (
    "distributed.nanny", "distributed.worker", "skjob.engine.task", "skjob.engine.transfer.worker_plugins",
    "skjob.boosters", "sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection", "sklearn.svm", "pandas",
    "scipy.sparse", "dask.array", "dask.dataframe", "pyarrow.parquet", "xgboost.dask", "lightgbm", "pytest",
)  # fmt: skip
"""By the process that is forked. It may run nothing of OpenMP or BLAS: their threads do not survive a fork."""

OWN_RANDOMNESS = "import numpy; numpy.random.seed()"
"""Each worker's: a fork has the state of the process that it comes from."""


@contextmanager
def forked_workers(*first: str) -> Iterator[None]:
    """Within the block, nannies fork their workers. Each runs the statements `first` as it starts."""
    with dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.worker.preload": [OWN_RANDOMNESS, *first],
        }
    ):
        _start_server()
        yield


@contextmanager
def two_forked_workers() -> Iterator[Client]:
    """Within the block there is a cluster of two workers with a thread each; yield its client."""
    with (
        forked_workers(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=DEADLINE)
        yield client


def close_cluster(cluster: LocalCluster) -> None:
    """Close a cluster of which tests have killed workers.

    distributed 2026.8 raises KeyError where a worker that was killed went before the cluster had heard of it. GONE WHEN
    `SpecCluster._update_worker_status` tolerates an unknown worker.
    """
    with suppress(KeyError):
        cluster.close()


def _start_server() -> None:
    """One a process of tests, with the environment that a nanny's worker has from its start."""
    get_mp_context()  # once, Dask says what it imports
    environment = dask.config.get("distributed.nanny.pre-spawn-environ")
    own = {FILES_VARIABLE: "1"}  # the tests look for the files that tasks write
    with mock.patch.dict(os.environ, {name: str(value) for name, value in environment.items()} | own):
        multiprocessing.get_context("forkserver").set_forkserver_preload([*IMPORTED])
        forkserver.ensure_running()
