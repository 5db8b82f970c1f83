"""What is left of a run, however it ends: each test is a row of the table of leftovers.

A run has an end of its own, by its client, or its anchor's: `GRACE` after the last heartbeat Kubernetes removes it. In
each case nothing may be left when that is over.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cut import through
from kubernetes import client
from left import SOON, leftovers, until_gone
from nodes import CONTROL_PLANE, on_node, paused, wait_ready
from operators import no_operator
from runs import DEADLINE, SEARCHING, Runs
from waits import answers, until

from skjob.cluster import garbage
from skjob.cluster.api import Api
from skjob.cluster.inventory import OVERDUE, runs
from skjob.cluster.removal import KOPF_FINALIZER

GRACE = 20

Row = Callable[..., None]


def counted(left: list[str]) -> str:
    return f"{len(left)} objects" if left else "nothing"


@pytest.mark.parametrize(
    ("script", "code"),
    [("print(1)", 0), ("raise SystemExit(3)", 3), ("import os; os._exit(7)", 7), ("import os; os.abort()", 134)],
    ids=["success", "an error in the script", "os._exit in the script", "a crash of the script"],
)
def test_an_end_of_the_script(
    kind_runs: Runs, api: Api, script: str, code: int, leftover_row: Row, request: pytest.FixtureRequest
) -> None:
    ended = kind_runs.run(script)
    assert ended.returncode == code, ended.stderr
    left, seconds = until_gone(api, kind_runs.record()["run_id"])
    leftover_row(request.node.callspec.id, counted(left), seconds, "skjob")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal(kind_runs: Runs, api: Api, number: signal.Signals, code: int, leftover_row: Row) -> None:
    with kind_runs.searching() as process:
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    told = kind_runs.record()
    assert told["outcome"]["cause"] == f"stopped by {number.name}"
    left, seconds = until_gone(api, told["run_id"])
    leftover_row(f"the client, by {number.name}", counted(left), seconds, "skjob")


def test_a_client_that_is_killed(kind_runs: Runs, api: Api, leftover_row: Row) -> None:
    """The anchor: its grace, and some seconds for the garbage collector."""
    with kind_runs.searching("--grace", f"{GRACE}s") as process:
        process.kill()
        process.wait(10)
        [run] = runs(api, kind_runs.namespace)
        left, seconds = until_gone(api, run.run_id, GRACE + 90)
    assert left
    leftover_row("the client, by SIGKILL", counted(left), seconds, f"its anchor, --grace {GRACE}s")


def test_a_client_whose_network_is_gone(
    kind_runs: Runs, api: Api, tmp_path: Path, kind_env: dict[str, str], leftover_row: Row
) -> None:
    network, kubeconfig = through(Path(kind_env["KUBECONFIG"]), tmp_path)
    lost = Runs(kind_runs.folder, kind_env | {"KUBECONFIG": str(kubeconfig)}, kind_runs.namespace)
    try:
        with lost.searching("--grace", f"{GRACE}s") as process:
            [run] = runs(api, kind_runs.namespace)
            network.cut()
            left, seconds = until_gone(api, run.run_id, GRACE + 90)
            _, told = process.communicate(timeout=DEADLINE)
    finally:
        network.close()
    assert process.returncode in (126, 127), told
    assert "error: the scheduler of `skjob-train-" in told
    assert " - distributed." not in told
    leftover_row("the client's network", counted(left), seconds, f"its anchor, --grace {GRACE}s")


@pytest.mark.whole_cluster
def test_a_run_that_begins_without_an_operator(
    kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row
) -> None:
    """Nothing acts on its DaskCluster, and nothing holds it back."""
    with no_operator(kind_api):
        ended = kind_runs.run("print('never')")
        assert (ended.returncode, ended.stdout) == (123, "")
        assert "error: the Dask operator has not acted on `skjob-train-" in ended.stderr
        left, seconds = until_gone(api, kind_runs.record()["run_id"])
    leftover_row("the start, the operator before", counted(left), seconds, "skjob")


@pytest.mark.whole_cluster
def test_a_run_that_ends_without_an_operator(
    kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row
) -> None:
    with kind_runs.searching() as process, no_operator(kind_api):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        left, seconds = until_gone(api, kind_runs.record()["run_id"])
    leftover_row("the client by SIGTERM, the operator before", counted(left), seconds, "skjob")


@pytest.mark.whole_cluster
def test_a_client_that_is_killed_without_an_operator(
    kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row
) -> None:
    """Its finalizer holds the DaskCluster for ever, until `gc`, or anybody's next, takes it off."""
    with kind_runs.searching("--grace", f"{GRACE}s") as process, no_operator(kind_api):
        process.kill()
        process.wait(10)
        [run] = runs(api, kind_runs.namespace)
        only = [f"DaskCluster/{run.name}"]
        until(lambda: leftovers(api, run.run_id) == only, "more than the cluster is left", GRACE + 100)
        held = api.get("DaskCluster", run.name, kind_runs.namespace)["metadata"]
        assert held["finalizers"] == [KOPF_FINALIZER]
        time.sleep(OVERDUE)
        would = kind_runs.skjob("gc", "--dry-run")
        assert re.fullmatch(
            rf"skjob: would remove `{run.name}` of `{run.user}` in `{kind_runs.namespace}`: "
            r"its removal was asked for \d+ s ago, and it is still there\n",
            would.stderr,
        )
        assert leftovers(api, run.run_id) != []
        began = time.monotonic()
        did = kind_runs.skjob("gc")
        assert did.returncode == 0, did.stderr
        until_gone(api, run.run_id)
    leftover_row("the client by SIGKILL, the operator before", "1 object", time.monotonic() - began, "skjob gc")


def test_gc_leaves_what_lives(kind_runs: Runs, kind_api: client.ApiClient, api: Api, security_row: Row) -> None:
    """A run that goes on, and what others made: with a label of skjob's, but not all of them."""
    core = client.CoreV1Api(kind_api)
    for name, labels in (
        ("no-run", {"app.kubernetes.io/managed-by": "skjob"}),
        ("no-skjob", {"skjob/run": "20261125-000000-abcdef"}),
    ):
        core.create_namespaced_config_map(kind_runs.namespace, {"metadata": {"name": name, "labels": labels}})
    with kind_runs.searching() as process:
        told = kind_runs.skjob("gc")
        assert (told.returncode, told.stderr) == (0, "skjob: nothing is there that should not be\n")
        assert process.poll() is None
        assert [run.state for run in runs(api, kind_runs.namespace)] == ["running"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    there = {item.metadata.name for item in core.list_namespaced_config_map(kind_runs.namespace).items}
    assert {"no-run", "no-skjob"} <= there
    core.delete_namespaced_config_map("no-run", kind_runs.namespace)
    security_row(
        "nothing that skjob did not make is touched",
        "`skjob gc` beside a run that goes on, and objects with some of skjob's labels",
        "all of it stays",
        "yes",
    )


def test_a_scheduler_that_is_deleted_for_good(
    kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row
) -> None:
    """Its Deployment: the operator does not make it anew."""
    with kind_runs.searching("--grace", f"{GRACE}s") as process:
        [run] = runs(api, kind_runs.namespace)
        client.AppsV1Api(kind_api).delete_namespaced_deployment(f"{run.name}-scheduler", kind_runs.namespace)
        _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 126, told
    assert f"error: the scheduler of `{run.name}` is gone" in told
    left, seconds = until_gone(api, run.run_id)
    leftover_row("the scheduler's Deployment", counted(left), seconds, "skjob")


@pytest.mark.whole_cluster
def test_a_restart_of_the_api_server(kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row) -> None:
    """The run goes on, and takes itself away as ever. (Another test has an API server of its own.)"""
    script = SEARCHING.replace("10_000", "300")
    with kind_runs.searching(script=script) as process:
        on_node(CONTROL_PLANE, "pkill", "-KILL", "-f", "^kube-apiserver .*--secure-port=6443")
        _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, told
    until(lambda: answers(kind_api), "the API server did not come back", 120)
    left, seconds = until_gone(api, kind_runs.record()["run_id"], 180)
    leftover_row("the API server, in mid-run", counted(left), seconds, "skjob")
    # What has lost it too comes back after it, and later tests need it all: the operator, the controllers and the
    # scheduler of Kubernetes, without each of which no run comes to its worker.
    script = "from joblib import Parallel, delayed; Parallel()(delayed(abs)(1) for _ in range(2))"
    until(lambda: kind_runs.run(script, "--start-timeout", "90s").returncode == 0, "no run works any more", 180)


@pytest.mark.whole_cluster
def test_a_dead_node(kind_runs: Runs, kind_api: client.ApiClient, api: Api, leftover_row: Row) -> None:
    """A pod on it never says that it has ended: the API lists it until `gc` gives it up, or the node comes back."""

    def found() -> garbage.Found:
        return garbage.find(api, kind_runs.namespace)

    with kind_runs.searching("--workers", "3") as process:
        pods: Any = client.CoreV1Api(kind_api).list_namespaced_pod(kind_runs.namespace, label_selector="skjob/run")
        where = {pod.metadata.labels["dask.org/component"]: pod.spec.node_name for pod in pods.items}
        with paused(where["worker"]):
            process.send_signal(signal.SIGTERM)
            # In its first seconds `gc` would only say so.
            until(lambda: any("its removal was asked for" in each.why for each in found().going), "it stays", 120)
            process.communicate(timeout=DEADLINE)
            ended = time.monotonic()
            run_id = kind_runs.record()["run_id"]
            time.sleep(SOON)
            left = leftovers(api, run_id)
            until(lambda: all(item.startswith("Pod/") for item in leftovers(api, run_id)), "more than pods are left")
            until(lambda: found().garbage, "it never counts as left", OVERDUE + 60)
            removed = kind_runs.skjob("gc")
            assert removed.returncode == 0, removed.stderr
            until_gone(api, run_id)
            seconds = time.monotonic() - ended
    wait_ready(kind_api, where["worker"])
    leftover_row("the client by SIGTERM, a node before", counted(left), seconds, "skjob gc")
