"""A warm cluster, `skjob up`: one run at a time uses it, at once; it goes when nobody does, or when it is told to."""

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
from support.side_by_side import Stage, side_by_side
from support.wait import until

import skjob
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.inventory.runs import RunningCluster, runs

# There is work until it has had a second worker, and has been told that it is enough.
PAUSED = """
    import itertools, threading, time
    from pathlib import Path
    from dask.distributed import Client
    from joblib import Parallel, delayed

    client, told, workers = Client.current(), Path("told"), [1]
    def look():
        while len(workers) < 2 or not told.exists():
            workers[:] = sorted({*workers, len(client.nthreads())})
            time.sleep(0.2)
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    print("searching", flush=True)
    Parallel()(delayed(time.sleep)(1) for _ in itertools.takewhile(lambda _: looking.is_alive(), itertools.count()))
    print(workers[-1], flush=True)
"""


def only(api: Api) -> RunningCluster:
    [found] = runs(api, api.context.namespace)
    return found


def workers(api: Api) -> list[str]:
    selector = "dask.org/workergroup-name=dev-default"
    return [item["metadata"]["name"] for item in api.list("Deployment", api.context.namespace, selector=selector)]


@side_by_side
def test_a_warm_cluster_serves_one_run_after_the_other(stage: Stage) -> None:
    started = stage.runs.skjob("up", "dev", "--workers", "1:3", "--idle-timeout", "10m")
    assert started.returncode == 0, started.stderr
    assert re.search(r"`dev` is ready after \d+\.\d s, with 1:3 workers", started.stderr)
    warm = only(stage.api)
    assert (warm.name, warm.state, warm.used_by) == ("dev", "kept", "")
    assert warm.expires_in is not None
    assert 500 < warm.expires_in <= 600
    with subprocess.Popen(
        [sys.executable, "-m", "skjob", "dashboard", "dev", "--context", "kind-skjob", "--namespace", stage.namespace],
        env=stage.runs.environment, stdout=subprocess.PIPE, text=True,
    ) as shown:  # fmt: skip
        try:
            assert shown.stdout is not None
            with urlopen(shown.stdout.readline().strip(), timeout=DEADLINE) as page:  # noqa: S310 - of this machine
                assert b"Dask: Status" in page.read()
        finally:
            shown.terminate()

    use = stage.runs.command(PAUSED, "--cluster", "dev")
    del use[use.index("--workers") : use.index("--workers") + 2]  # in the cluster's own range
    with subprocess.Popen(
        use, cwd=stage.folder, env=stage.runs.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "searching\n"
            until(lambda: only(stage.api).state == "in use", "`ps` does not say that it is in use")
            assert only(stage.api).used_by.endswith(" for `train.py`")
            second = stage.runs.run("print('never')", "--cluster", "dev")
            assert second.returncode == 124
            assert re.search(r"error: `dev` is in use by \S+@\S+ for `train.py`, since ", second.stderr)
            assert "never" not in second.stdout
            (stage.folder / "told").touch()
            written, told = first.communicate(timeout=DEADLINE)
        finally:
            first.kill()
    assert first.returncode == 0, told
    assert int(written) > 1  # it has scaled
    until(lambda: len(workers(stage.api)) == 1, f"its workers stayed: {workers(stage.api)}")
    assert (only(stage.api).state, only(stage.api).used_by) == ("kept", "")

    more = stage.runs.run(
        "from dask.distributed import Client; Client.current().wait_for_workers(2)", "--cluster", "dev"
    )
    assert more.returncode == 0, more.stderr  # `--workers 2` of the run itself

    other = stage.folder / "another"
    copytree(Path(skjob.__file__).parent, other / "skjob", ignore=ignore_patterns("__pycache__"))
    with (other / "skjob" / "errors.py").open("a") as file:
        file.write("\n# another source\n")
    refused = stage.runs.run("print('never')", "--cluster", "dev", PYTHONPATH=str(other))
    assert (refused.returncode, refused.stdout) == (124, "")
    assert "error: `dev` was started by another build of skjob" in refused.stderr
    assert only(stage.api).state == "kept"

    again = stage.runs.skjob("up", "dev")
    assert again.returncode == 120
    assert "error: `dev` already exists: " in again.stderr
    ended = stage.runs.skjob("down", "dev")
    assert ended.returncode == 0, ended.stderr
    assert leftovers(stage.api, warm.run_id) == []


@side_by_side(waits=True)
def test_a_warm_cluster_goes_when_nobody_uses_it(stage: Stage) -> None:
    started = stage.runs.skjob("up", "dev", "--workers", "1", "--idle-timeout", "15s")
    assert started.returncode == 0, started.stderr
    run_id = only(stage.api).run_id
    wait_until_gone(stage.api, run_id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@side_by_side
def test_a_start_that_is_stopped_leaves_nothing(stage: Stage, number: signal.Signals) -> None:
    # A worker of this size never comes: the start would wait.
    start = stage.runs.skjob_command("up", "dev", "--worker-cpu", "500")
    with subprocess.Popen(start, cwd=stage.folder, env=stage.runs.environment, stderr=subprocess.PIPE, text=True) as up:
        try:
            until(lambda: any(run.state == "running" for run in runs(stage.api, stage.namespace)), "it did not start")
            up.send_signal(number)
            _, told = up.communicate(timeout=DEADLINE)
        finally:
            up.kill()
    assert up.returncode == 128 + number, told
    until(lambda: runs(stage.api, stage.namespace) == [], "something is left")


def test_a_name_that_a_users_own_object_has(kind_runs: Runs, namespace: str, api: Api) -> None:
    """Of a kind that skjob makes first, and of one that the operator makes; nothing is made beside them."""
    mine = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": namespace}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine-scheduler", "namespace": namespace}}
    api.create(mine)
    api.create(service | {"spec": {"ports": [{"port": 8786}]}})
    taken = kind_runs.skjob_here("up", "mine")
    assert taken.returncode == 120
    told = "there is a Secret `mine` and a Service `mine-scheduler` in namespace"
    assert f"error: {told} `{namespace}`, which are not skjob's\n\nhint: choose another name" in taken.stderr
    assert runs(api, namespace) == []
    for kind, name in (("Secret", "mine"), ("Service", "mine-scheduler")):
        assert "deletionTimestamp" not in api.get(kind, name, namespace)["metadata"]


def test_names_that_can_not_be_had(kind_runs: Runs, namespace: str, api: Api) -> None:
    wrong = kind_runs.skjob_here("up", "Dev_1")
    assert wrong.returncode == 120
    assert "the name of a cluster must be at most 37 lower-case letters" in wrong.stderr
    # Somebody's own cluster, which the operator refuses for its empty pods, and which stays as it is.
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
        # The operator does not take its finalizer off a cluster that it has refused.
        api.delete("DaskCluster", "mine", namespace)
        with suppress(NotFound):  # it had none yet, and is gone
            api.patch("DaskCluster", "mine", namespace, {"metadata": {"finalizers": None}})
