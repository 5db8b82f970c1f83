"""Warm clusters of `skjob up`: used by one run at a time, and removed when idle or by `skjob down`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from shutil import copytree, ignore_patterns
from urllib.request import urlopen

import pytest
from support.leftovers import leftovers, wait_until_gone
from support.runs import DEADLINE, Runs
from support.side_by_side import Sandbox, side_by_side
from support.wait import until

import skjob
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.inventory.runs import RunningCluster, runs

# Has work until a second worker is connected and the file `stop` exists.
TWO_WORKERS = """
    import itertools, threading, time
    from pathlib import Path
    from dask.distributed import Client
    from joblib import Parallel, delayed

    client, stop, workers = Client.current(), Path("stop"), [1]
    def watch():
        while len(workers) < 2 or not stop.exists():
            workers[:] = sorted({*workers, len(client.nthreads())})
            time.sleep(0.2)
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    print("searching", flush=True)
    Parallel()(delayed(time.sleep)(1) for _ in itertools.takewhile(lambda _: watching.is_alive(), itertools.count()))
    print(workers[-1], flush=True)
"""


def only_cluster(api: Api) -> RunningCluster:
    [cluster] = runs(api, api.context.namespace)
    return cluster


def worker_names(api: Api) -> list[str]:
    selector = "dask.org/workergroup-name=dev-default"
    return [item["metadata"]["name"] for item in api.list("Deployment", api.context.namespace, selector=selector)]


@side_by_side
def test_warm_cluster_serves_one_run_after_the_other(sandbox: Sandbox) -> None:
    started = sandbox.runs.skjob("up", "dev", "--workers", "1:3", "--idle-timeout", "10m")
    assert started.returncode == 0, started.stderr
    assert re.search(r"`dev` is ready after \d+\.\d s, with 1:3 workers", started.stderr)
    warm = only_cluster(sandbox.api)
    assert (warm.name, warm.state, warm.used_by) == ("dev", "kept", "")
    assert warm.expires_in is not None
    assert 500 < warm.expires_in <= 600
    dashboard = ["dashboard", "dev", "--context", "kind-skjob", "--namespace", sandbox.namespace]
    with subprocess.Popen(
        [sys.executable, "-m", "skjob", *dashboard],
        env=sandbox.runs.environment, stdout=subprocess.PIPE, text=True,
    ) as shown:  # fmt: skip
        try:
            assert shown.stdout is not None
            with urlopen(shown.stdout.readline().strip(), timeout=DEADLINE) as page:  # noqa: S310 - of this machine
                assert b"<title>Dask Diagnostic UI</title>" in page.read()
        finally:
            shown.terminate()

    command = sandbox.runs.command(TWO_WORKERS, "--cluster", "dev")
    del command[command.index("--workers") : command.index("--workers") + 2]  # use the cluster's own range
    with subprocess.Popen(
        command,
        cwd=sandbox.folder,
        env=sandbox.runs.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "searching\n"
            until(lambda: only_cluster(sandbox.api).state == "in use", "the cluster is not in use")
            assert only_cluster(sandbox.api).used_by.endswith(" for `train.py`")
            second = sandbox.runs.run("print('never')", "--cluster", "dev")
            assert second.returncode == 124
            assert re.search(r"error: `dev` is in use by \S+@\S+ for `train.py`, since ", second.stderr)
            assert "never" not in second.stdout
            (sandbox.folder / "stop").touch()
            stdout, stderr = first.communicate(timeout=DEADLINE)
        finally:
            first.kill()
    assert first.returncode == 0, stderr
    assert int(stdout) > 1  # it was scaled up
    until(lambda: len(worker_names(sandbox.api)) == 1, f"it was not scaled down: {worker_names(sandbox.api)}")
    assert (only_cluster(sandbox.api).state, only_cluster(sandbox.api).used_by) == ("kept", "")

    scaled = sandbox.runs.run(
        "from dask.distributed import Client; Client.current().wait_for_workers(2)", "--cluster", "dev"
    )
    assert scaled.returncode == 0, scaled.stderr  # by the run's own `--workers 2`

    other_build = sandbox.folder / "another"
    copytree(Path(skjob.__file__).parent, other_build / "skjob", ignore=ignore_patterns("__pycache__"))
    with (other_build / "skjob" / "errors.py").open("a") as file:
        file.write("\n# another build\n")
    refused = sandbox.runs.run("print('never')", "--cluster", "dev", PYTHONPATH=str(other_build))
    assert (refused.returncode, refused.stdout) == (124, "")
    assert "error: `dev` was started by another build of skjob" in refused.stderr
    assert only_cluster(sandbox.api).state == "kept"

    again = sandbox.runs.skjob("up", "dev")
    assert again.returncode == 120
    assert "error: `dev` already exists: " in again.stderr
    ended = sandbox.runs.skjob("down", "dev")
    assert ended.returncode == 0, ended.stderr
    assert leftovers(sandbox.api, warm.run_id) == []


@side_by_side(waits=True)
def test_idle_warm_cluster_is_removed(sandbox: Sandbox) -> None:
    started = sandbox.runs.skjob("up", "dev", "--workers", "1", "--idle-timeout", "45s")
    assert started.returncode == 0, started.stderr
    run_id = only_cluster(sandbox.api).run_id
    wait_until_gone(sandbox.api, run_id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@side_by_side
def test_interrupted_start_leaves_nothing(sandbox: Sandbox, number: signal.Signals) -> None:
    # No node can hold such a worker, so that the start waits.
    start = sandbox.runs.skjob_command("up", "dev", "--worker-cpu", "500")
    with subprocess.Popen(
        start, cwd=sandbox.folder, env=sandbox.runs.environment, stderr=subprocess.PIPE, text=True
    ) as up:
        try:
            until(
                lambda: any(run.state == "running" for run in runs(sandbox.api, sandbox.namespace)),
                "the cluster did not start",
            )
            up.send_signal(number)
            _, stderr = up.communicate(timeout=DEADLINE)
        finally:
            up.kill()
    assert up.returncode == 128 + number, stderr
    until(lambda: runs(sandbox.api, sandbox.namespace) == [], "objects of the cluster are left")


def test_name_of_a_foreign_object_is_rejected(kind_runs: Runs, namespace: str, api: Api) -> None:
    """The objects are of a kind that skjob creates first, and of one that the operator creates. Nothing is created."""
    mine = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": namespace}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine-scheduler", "namespace": namespace}}
    api.create(mine)
    api.create(service | {"spec": {"ports": [{"port": 8786}]}})
    taken = kind_runs.skjob_here("up", "mine")
    assert taken.returncode == 120
    conflict = "there is a Secret `mine` and a Service `mine-scheduler` in namespace"
    assert f"error: {conflict} `{namespace}`, which are not skjob's\n\nhint: choose another name" in taken.stderr
    assert runs(api, namespace) == []
    for kind, name in (("Secret", "mine"), ("Service", "mine-scheduler")):
        assert "deletionTimestamp" not in api.get(kind, name, namespace)["metadata"]


def test_invalid_or_taken_name_is_rejected(kind_runs: Runs, namespace: str, api: Api) -> None:
    wrong = kind_runs.skjob_here("up", "Dev_1")
    assert wrong.returncode == 120
    assert "the name of a cluster must be at most 37 lower-case letters" in wrong.stderr
    # A user's own cluster. The operator rejects its empty pods, and skjob must not change it.
    api.create(
        {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskCluster",
            "metadata": {"name": "mine", "namespace": namespace},
            "spec": {
                "worker": {"replicas": 0, "spec": {"containers": []}},
                "scheduler": {"spec": {"containers": []}, "service": {"ports": []}},
            },
        }
    )
    try:
        taken = kind_runs.skjob_here("up", "mine")
        assert taken.returncode == 120
        assert f"there is a DaskCluster `mine` in namespace `{namespace}`, which is not skjob's" in taken.stderr
        assert "deletionTimestamp" not in api.get("DaskCluster", "mine", namespace)["metadata"]
    finally:
        # The operator does not remove its finalizer from a cluster that it has rejected.
        api.delete("DaskCluster", "mine", namespace)
        with suppress(NotFound):  # it had no finalizer yet
            api.patch("DaskCluster", "mine", namespace, {"metadata": {"finalizers": None}})
