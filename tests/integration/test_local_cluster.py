"""Workers of this machine, forks of one process: what each of them has, and what they must not share."""

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
def client_of_two() -> Iterator[Client]:
    """A client of two workers that have imported scikit-learn.

    In a folder with a short name, as a run's is: pytest's are too long for a socket in them.
    """
    with private_folder() as folder, client_in(folder) as client:
        yield client


@contextmanager
def client_in(folder: Path) -> Iterator[Client]:
    cluster = LocalCluster("forks", folder, 2, WorkerSize(0.5, 2**30, 1), 3, ["numpy", "sklearn.ensemble"])
    try:
        cluster.start()
        with Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=DEADLINE)
            yield client
    finally:
        cluster.close()


def look(client: Client) -> list[dict[str, Any]]:
    """What each worker has; of those that end just now, nothing."""

    def facts() -> dict[str, Any]:
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

    return [each for each in client.run(facts, on_error="ignore").values() if each]


@pytest.mark.parametrize("starting", [nullcontext, programs_forked], ids=["by itself", "as tests start it"])
def test_what_a_worker_has_and_shares_with_no_other(starting: Callable[[], AbstractContextManager[None]]) -> None:
    with starting(), client_of_two() as client:
        first, second = look(client)
        for each in (first, second):
            assert each["imported"]
            assert each["inner threads"] == [1]
            assert each["variables"] == {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
        assert first["hash"] == second["hash"]
        os.kill(first["pid"], signal.SIGKILL)
        known = {first["pid"], second["pid"]}
        [third] = until(
            lambda: [each for each in look(client) if each["pid"] not in known],
            "the worker that was killed does not come back",
        )
        assert third["imported"]
        drawn = [value for each in (first, second, third) for value in each["random"]]
        assert len(set(drawn)) == len(drawn)


def test_variables_that_the_users_dask_configuration_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "dask"
    config.mkdir()
    (config / "own.yaml").write_text("distributed:\n  nanny:\n    pre-spawn-environ:\n      OMP_NUM_THREADS: 2\n")
    monkeypatch.setenv("DASK_CONFIG", str(config))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with client_of_two() as client:
        for each in look(client):
            assert each["variables"]["OMP_NUM_THREADS"] == "2"
            assert 2 in each["inner threads"]


def test_a_folder_whose_name_is_too_long_for_a_socket_has_workers_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "long" / ("x" * 80)
    folder.mkdir(parents=True)
    with client_in(folder) as client:
        assert len(look(client)) == 2
