"""Clients whose network fails for some seconds, and clients whose cluster is lost for good; with TLS, as on every
cluster of skjob."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from distributed import Client
from joblib import Parallel, delayed
from support.flaky_network import FlakyNetwork
from support.python_server import programs_forked
from waiting import DEADLINE, until

from skjob.config.plan import JobSpec, Machine, WorkerSize, make_plan
from skjob.config.settings import Place, Settings
from skjob.config.sources import ResolvedSettings
from skjob.deploy.base import WorkerCounts
from skjob.deploy.local import LocalCluster
from skjob.engine.backend import SkjobBackend, WorkersLost
from skjob.run.connect import Connection
from skjob.run.monitor import ClusterMonitor, monitored
from skjob.run.observer import NoteObserver
from skjob.run.run import Run
from skjob.run.target import RunTarget
from skjob.utils.reconnect import set_reconnect_timeout

pytestmark = [
    pytest.mark.usefixtures("send_small_calls_to_workers"),
    # GONE WHEN distributed closes the socket of an aborted TLS handshake: it abandons tornado's `start_tls` with it
    # (distributed 2026.8), and the socket is garbage collected in a later test.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collect_garbage() -> Iterator[None]:
    """Collect the sockets of such handshakes while this module's filter applies."""
    yield
    gc.collect()


def _start_cluster(folder: Path) -> LocalCluster:
    """Start a cluster with one worker."""
    cluster = LocalCluster("skjob-test", folder, 1, WorkerSize(1, 2**30, 1), 1)
    with programs_forked():
        cluster.start()
    return cluster


def test_client_reconnects_after_a_network_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = _start_cluster(tmp_path)
    network = FlakyNetwork("127.0.0.1", int(cluster.address.rpartition(":")[2]))
    try:
        address = f"tls://127.0.0.1:{network.port}"
        with Client(address, security=cluster.tls.security(), timeout=DEADLINE, set_as_default=False) as client:
            set_reconnect_timeout(client, DEADLINE)
            assert client.submit(sum, [1, 2]).result(DEADLINE) == 3
            _cut_and_restore(network, client)
            until(lambda: client.status == "running", "the client is not connected again")
            assert client.submit(sum, [3, 4]).result(DEADLINE) == 7
    finally:
        network.close()
        cluster.close()
    written = capfd.readouterr()
    assert "Traceback" not in written.out + written.err


@contextmanager
def open_cluster(client: Client, cluster: LocalCluster) -> Iterator[ClusterMonitor]:
    """Use a running cluster as `skjob.cluster()` does."""
    plan = make_plan(Settings(), Place.LOCAL, "", Machine(2, 2**32), "3.11")
    set_reconnect_timeout(client, plan.reconnect_timeout)
    target = RunTarget(Place.LOCAL, "", ResolvedSettings(Settings()))
    run = Run(JobSpec(Path("train.py")), "run", target, plan, Path(), NoteObserver(print))
    monitor = ClusterMonitor(cluster.name)
    connection = Connection(run, cluster, client, WorkerCounts(1, 1, 1), 1.0)
    backend = SkjobBackend(client, 2, wait_for_workers=60)
    with (
        monitored(connection, monitor),
        joblib.parallel_config(backend=backend, n_jobs=-1),
    ):
        yield monitor


def _cut_and_restore(network: FlakyNetwork, client: Client) -> None:
    """Cut the network until the client has noticed it and has failed to reconnect."""
    network.cut()
    until(lambda: client.status != "running" and network.refused > 0, "the client has not noticed the failure")
    network.restore()


def sleeping_task(started: Path, end: Path | None = None) -> Callable[..., int]:
    """Return a task, which is pickled by value as workers do not have this module. It creates the file `started`, and
    sleeps until the file `end` exists, or for a second."""

    def nap(number: int, data: Any = None) -> int:
        started.touch()
        deadline = time.monotonic() + (DEADLINE if end else 1)
        while time.monotonic() < deadline and not (end and end.exists()):
            time.sleep(0.05)
        return number

    return nap


@contextmanager
def when_started(started: Path, action: Callable[[], None]) -> Iterator[None]:
    """Run an action in a thread during the block, once the first task has started."""

    def wait_and_run() -> None:
        until(started.exists, "no task has started")
        action()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(wait_and_run)
        yield
        future.result()


@pytest.mark.parametrize("data", [None, numpy.ones(200_000)], ids=["no data", "data"])
def test_calls_on_a_lost_cluster_raise_the_cause(tmp_path: Path, data: Any) -> None:
    """Both the running call and the next one, which does not wait to reconnect."""
    cluster = _start_cluster(tmp_path)
    process = cluster._process
    assert process is not None
    nap = sleeping_task(tmp_path / "started")
    try:
        with (
            Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client,
            open_cluster(client, cluster) as monitor,
        ):
            lost = r"cannot be finished: .*the cluster on this machine has ended: "
            with (
                when_started(tmp_path / "started", lambda: os.killpg(process.pid, signal.SIGKILL)),
                pytest.raises(WorkersLost, match=lost),
            ):
                Parallel()(delayed(nap)(number, data) for number in range(600))
            assert monitor.lost is not None
            with pytest.raises(WorkersLost, match=lost):
                Parallel()(delayed(nap)(number, data) for number in range(2))
    finally:
        cluster.close()


def test_call_continues_after_a_network_failure(tmp_path: Path) -> None:
    cluster = _start_cluster(tmp_path)
    network = FlakyNetwork("127.0.0.1", int(cluster.address.rpartition(":")[2]))
    try:
        address = f"tls://127.0.0.1:{network.port}"
        with (
            Client(address, security=cluster.tls.security(), set_as_default=False) as client,
            open_cluster(client, cluster) as monitor,
        ):
            started, restored = tmp_path / "started", tmp_path / "restored"

            def interrupt() -> None:
                _cut_and_restore(network, client)
                restored.touch()

            with when_started(started, interrupt):
                assert Parallel()(delayed(sleeping_task(started, restored))(number) for number in range(6)) == list(
                    range(6)
                )
            assert monitor.lost is None
    finally:
        network.close()
        cluster.close()
