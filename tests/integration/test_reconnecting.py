"""A client whose network goes for some seconds and comes back, and one whose cluster does not: with TLS, as in every
cluster of skjob."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from cut import Network
from distributed import Client
from joblib import Parallel, delayed

from skjob.cluster.local import LocalCluster
from skjob.config import Place, Settings
from skjob.engine.backend import SkjobBackend, WorkersLost
from skjob.plan import Machine, WorkerSize, make_plan
from skjob.reconnecting import be_patient
from skjob.supervision import Watch, watched


def test_a_client_survives_its_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster("skjob-test", tmp_path, 1, WorkerSize(1, 2**30, 1), 1)
    cluster.start()
    network = Network("127.0.0.1", int(cluster.address.rpartition(":")[2]))
    try:
        address = f"tls://127.0.0.1:{network.port}"
        with Client(address, security=cluster.tls.security(), timeout=120, set_as_default=False) as client:
            be_patient(client, 60)
            assert client.submit(sum, [1, 2]).result(120) == 3
            network.cut()
            time.sleep(3)
            network.mend()
            deadline = time.monotonic() + 60
            while client.status != "running":
                assert time.monotonic() < deadline, client.status
                time.sleep(0.1)
            assert client.submit(sum, [3, 4]).result(120) == 7
    finally:
        network.close()
        cluster.close()
    written = capfd.readouterr()
    assert "Traceback" not in written.out + written.err


@contextmanager
def opened(client: Client, cluster: LocalCluster) -> Iterator[Watch]:
    """As `skjob.cluster()` does it, but that the cluster is there."""
    plan = make_plan(Settings(), Place.LOCAL, "", Machine(2, 2**32), "3.11")
    be_patient(client, plan.patience)
    watch = Watch(cluster.name)
    backend = SkjobBackend(client, 2, wait_for_workers=60)
    with (
        watched(cluster, client, plan, 1.0, lambda _: None, lambda _: None, lambda _: None, watch),
        joblib.parallel_config(backend=backend, n_jobs=-1),
    ):
        yield watch


def napping() -> Callable[..., int]:
    """A function that travels by value: workers do not have this module."""

    def nap(number: int, data: Any = None) -> int:
        time.sleep(1)
        return number

    return nap


@pytest.mark.parametrize("data", [None, numpy.ones(200_000)], ids=["no data", "data"])
def test_a_cluster_that_is_lost_for_good_ends_calls_with_its_cause(tmp_path: Path, data: Any) -> None:
    """In the middle of one, and one that begins later: not before it is known, and then without any patience."""
    cluster = LocalCluster("skjob-test", tmp_path, 1, WorkerSize(1, 2**30, 1), 1)
    cluster.start()
    assert cluster._process is not None
    try:
        with (
            Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client,
            opened(client, cluster) as watch,
        ):
            lost = r"can't be finished: .*the cluster on this machine has ended: "
            threading.Timer(3, os.killpg, (cluster._process.pid, signal.SIGKILL)).start()
            with pytest.raises(WorkersLost, match=lost):
                Parallel()(delayed(napping())(number, data) for number in range(60))
            assert watch.lost is not None
            with pytest.raises(WorkersLost, match=lost):
                Parallel()(delayed(napping())(number, data) for number in range(2))
    finally:
        cluster.close()


def test_a_network_that_goes_in_the_middle_of_a_call(tmp_path: Path) -> None:
    cluster = LocalCluster("skjob-test", tmp_path, 1, WorkerSize(1, 2**30, 1), 1)
    cluster.start()
    network = Network("127.0.0.1", int(cluster.address.rpartition(":")[2]))
    try:
        address = f"tls://127.0.0.1:{network.port}"
        with (
            Client(address, security=cluster.tls.security(), set_as_default=False) as client,
            opened(client, cluster) as watch,
        ):
            threading.Timer(3, network.cut).start()
            threading.Timer(8, network.mend).start()
            assert Parallel()(delayed(napping())(number) for number in range(6)) == list(range(6))
            assert watch.lost is None
    finally:
        network.close()
        cluster.close()
