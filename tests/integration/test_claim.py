"""One run at a time uses a cluster: others are refused with the name of its user until the first disconnects."""

import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from distributed import Client, LocalCluster
from waiting import DEADLINE

from skjob.deploy.kubernetes.run_lock import ClusterLocked, RunLock, lock_cluster, new_lock
from skjob.errors import StartError


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A scheduler in this process: locks need no workers."""
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


def _client(cluster: LocalCluster) -> Client:
    return Client(cluster.scheduler_address, set_as_default=False)


def test_second_run_is_refused_with_the_name_of_the_user(cluster: LocalCluster) -> None:
    first_lock = RunLock("ada@mill", "train.py", "2026-11-24 10:00 UTC")
    with _client(cluster) as second:
        with _client(cluster) as first:
            lock_cluster(first, first_lock, "mine")
            lock_cluster(first, first_lock, "mine")  # a run may lock the cluster again
            with pytest.raises(ClusterLocked) as refused:
                lock_cluster(second, new_lock("other.py"), "mine")
            assert refused.value.message == ("`mine` is in use by ada@mill for `train.py`, since 2026-11-24 10:00 UTC")
            assert refused.value.hint
            with pytest.raises(StartError, match="ada@mill"):  # the refused request has not changed the lock
                lock_cluster(second, new_lock("other.py"), "mine")
        lock_cluster(second, new_lock("other.py"), "mine")
        with _client(cluster) as third, pytest.raises(StartError, match=re.escape("`other.py`")):
            lock_cluster(third, new_lock("third.py"), "mine")


HOLDER = """
import sys
from distributed import Client
from skjob.deploy.kubernetes.run_lock import lock_cluster, new_lock

client = Client(sys.argv[1])
lock_cluster(client, new_lock("holder.py"), "mine")
print("locked", flush=True)
sys.stdin.read()
"""


def test_killed_run_releases_the_cluster(cluster: LocalCluster) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster.scheduler_address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with _client(cluster) as client:
            with pytest.raises(StartError, match=re.escape("`holder.py`")):
                lock_cluster(client, new_lock("next.py"), "mine")
            holder.send_signal(signal.SIGKILL)
            holder.wait(DEADLINE)
            deadline = time.monotonic() + DEADLINE
            while True:
                try:
                    lock_cluster(client, new_lock("next.py"), "mine")
                    break
                except StartError:
                    assert time.monotonic() < deadline, "the lock of a killed run is not released"
                    time.sleep(0.1)
    finally:
        holder.kill()
        holder.wait(DEADLINE)
        for stream in (holder.stdin, holder.stdout):
            if stream is not None:
                stream.close()


def test_only_one_of_many_concurrent_runs_gets_the_cluster(cluster: LocalCluster) -> None:
    def refused(client: Client) -> bool:
        try:
            lock_cluster(client, new_lock("one-of-many.py"), "mine")
        except StartError:
            return True
        return False

    with ExitStack() as stack:
        clients = [stack.enter_context(_client(cluster)) for _ in range(5)]
        with ThreadPoolExecutor(len(clients)) as pool:
            assert sorted(pool.map(refused, clients)) == [False, True, True, True, True]
