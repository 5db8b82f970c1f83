"""Local workers, which are forks of one process: their state, and what they must not share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.python_server import programs_forked
from waiting import DEADLINE, until

from skjob.config.plan import WorkerSize
from skjob.deploy.local import LocalCluster
from skjob.run.target import private_folder


@contextmanager
def two_workers() -> Iterator[Client]:
    """Start a cluster of two workers that have imported scikit-learn; yield a client.

    Its folder has a short path, like a run's: pytest's folders are too long for sockets.
    """
    with private_folder() as folder, two_workers_in(folder) as client:
        yield client


@contextmanager
def two_workers_in(folder: Path) -> Iterator[Client]:
    cluster = LocalCluster("forks", folder, 2, WorkerSize(0.5, 2**30, 1), 3, ["numpy", "sklearn.ensemble"])
    try:
        cluster.start()
        with Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=DEADLINE)
            yield client
    finally:
        cluster.close()


def worker_states(client: Client) -> list[dict[str, Any]]:
    """Return the state of each worker, except of those that are ending."""

    def state() -> dict[str, Any]:
        import os
        import random
        import sys

        imported = "sklearn.ensemble" in sys.modules
        import numpy
        import threadpoolctl

        return {
            "pid": os.getpid(),
            "imported": imported,
            "inner threads": sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}),
            "variables": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")},
            "hash": hash("a string"),
            "random": (numpy.random.random(), numpy.random.mtrand._rand.random(), random.random()),  # noqa: S311
        }

    return [each for each in client.run(state, on_error="ignore").values() if each]


@pytest.mark.parametrize("start", [nullcontext, programs_forked], ids=["started by skjob", "forked by the tests"])
def test_state_of_workers(start: Callable[[], AbstractContextManager[None]]) -> None:
    with start(), two_workers() as client:
        first, second = worker_states(client)
        for each in (first, second):
            assert each["imported"]
            assert each["inner threads"] == [1]
            assert each["variables"] == {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
        assert first["hash"] == second["hash"]
        os.kill(first["pid"], signal.SIGKILL)
        known = {first["pid"], second["pid"]}
        [third] = until(
            lambda: [each for each in worker_states(client) if each["pid"] not in known],
            "the killed worker was not restarted",
        )
        assert third["imported"]
        drawn = [value for each in (first, second, third) for value in each["random"]]
        assert len(set(drawn)) == len(drawn)


def test_variables_of_the_users_dask_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "dask"
    config.mkdir()
    (config / "own.yaml").write_text("distributed:\n  nanny:\n    pre-spawn-environ:\n      OMP_NUM_THREADS: 2\n")
    monkeypatch.setenv("DASK_CONFIG", str(config))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with two_workers() as client:
        for each in worker_states(client):
            assert each["variables"]["OMP_NUM_THREADS"] == "2"
            assert 2 in each["inner threads"]


def test_folder_with_a_path_too_long_for_sockets(tmp_path: Path) -> None:
    folder = tmp_path / "long" / ("x" * 80)
    folder.mkdir(parents=True)
    with two_workers_in(folder) as client:
        assert len(worker_states(client)) == 2
