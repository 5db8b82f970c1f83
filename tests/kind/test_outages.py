"""What comes of a run, and what is left of it, while a part of the cluster is away: the operator, a node, the API.

Each test is a row of the table of faults or of that of leftovers. All that need the same outage share it.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client
from support.daskclusters import sleeping_cluster
from support.leftovers import FIRST_CHECK_SECONDS, GRACE, describe_count, leftovers, wait_until_gone
from support.namespaces import new_namespace
from support.nodes import CONTROL_PLANE, api_server_is_ready, on_node, paused, wait_ready
from support.operators import no_operator
from support.runs import DEADLINE
from support.searches import MAX_REPEATED, pods_of, searching
from support.side_by_side import Stage, side_by_side
from support.wait import until

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory import garbage
from skjob.deploy.kubernetes.inventory.cleanup import KOPF_FINALIZER
from skjob.deploy.kubernetes.inventory.runs import runs

# --- the operator


@contextmanager
def operator_away(kind_api: client.ApiClient, _: Mapping[str, Any]) -> Iterator[None]:
    """Its Deployment has no pod."""
    with no_operator(kind_api):
        yield


@side_by_side(during=operator_away)
def test_a_run_that_begins_without_an_operator(stage: Stage) -> None:
    """Nothing acts on its DaskCluster, and nothing holds it back."""
    stage.outage()
    ended = stage.runs.run("print('never')")
    assert (ended.returncode, ended.stdout) == (123, "")
    assert "error: the Dask operator has not acted on `skjob-train-" in ended.stderr
    left, seconds = wait_until_gone(stage.api, stage.runs.record()["run_id"])
    stage.row("leftover_row", "the start, the operator before", describe_count(left), seconds, "skjob")


@side_by_side(during=operator_away)
def test_a_run_that_ends_without_an_operator(stage: Stage) -> None:
    with stage.runs.searching("--workers", "1") as process:
        stage.outage()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        left, seconds = wait_until_gone(stage.api, stage.runs.record()["run_id"])
    stage.row("leftover_row", "the client by SIGTERM, the operator before", describe_count(left), seconds, "skjob")


@side_by_side(during=operator_away)
def test_a_client_that_is_killed_without_an_operator(stage: Stage) -> None:
    """Its finalizer holds the DaskCluster for ever, until `gc`, or anybody's next, takes it off.

    What the DaskCluster owns goes before it or stays with it: that depends on whether Kubernetes' garbage collector
    still sees the anchor, which is deleted in the foreground, when it comes to the DaskCluster.

    `gc` waits for a second here before it counts as overdue, and not for fifteen.
    """
    api, soon = stage.api, {"skjob.deploy.kubernetes.inventory.runs.OVERDUE": 1.0}
    with stage.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        stage.outage()
        process.kill()
        process.wait(DEADLINE)
        [run] = runs(api, stage.namespace)
        until(lambda: f"Job/{run.name}" not in leftovers(api, run.run_id), "the anchor is left", GRACE + 300)
        held = until(lambda: being_removed(api, run.name), "the removal of the DaskCluster was not asked for")
        assert KOPF_FINALIZER in held["finalizers"]
        until(lambda: (runs(api, stage.namespace)[0].removing_for or 0) > 2, "its removal was not asked for")
        would = stage.runs.skjob("gc", "--dry-run", limits=soon)
        assert re.fullmatch(
            rf"skjob: would remove `{run.name}` of `{run.user}` in `{stage.namespace}`: "
            r"its removal was requested \d+ s ago, and it still exists\n",
            would.stderr,
        )
        left = leftovers(api, run.run_id)
        assert f"DaskCluster/{run.name}" in left
        began = time.monotonic()
        did = stage.runs.skjob("gc", limits=soon)
        assert did.returncode == 0, did.stderr
        wait_until_gone(api, run.run_id)
    seconds = time.monotonic() - began
    stage.row("leftover_row", "the client by SIGKILL, the operator before", describe_count(left), seconds, "skjob gc")


def being_removed(api: Api, name: str) -> dict[str, Any] | None:
    """The metadata of a DaskCluster whose removal was asked for."""
    metadata: dict[str, Any] = api.get("DaskCluster", name, api.context.namespace)["metadata"]
    return metadata if "deletionTimestamp" in metadata else None


@side_by_side(during=operator_away)
def test_the_operator_stopped_in_mid_search(stage: Stage) -> None:
    with searching(stage.runs) as search:
        search.read_enough()
        at = time.monotonic()
        stage.outage()
        search.finish()
    assert search.check() == 0
    stage.row(
        "fault_row",
        "the Dask operator",
        "scaled to 0 in mid-search",
        "its results",
        0,
        0,
        search.seconds_until_next_fit(at),
    )


# --- a node


@contextmanager
def node_away(kind_api: client.ApiClient, told: Mapping[str, Any]) -> Iterator[None]:
    """Everything on a node that has workers of each run, and not the scheduler of the search, stands still."""
    candidates = set.intersection(*(nodes for nodes in told.values()))
    if not candidates:
        pytest.fail(f"no node has pods of all runs: {told}")
    node = min(candidates)
    with paused(node):
        yield
    wait_ready(kind_api, node)


def nodes_of(pods: list[Any]) -> set[str]:
    return {pod.spec.node_name for pod in pods}


@side_by_side(during=node_away)
def test_a_dead_node(stage: Stage) -> None:
    """A pod on it never says that it has ended: the API lists it until `gc` gives it up, or the node comes back.

    `gc` waits for a second here before it counts as overdue, and not for fifteen.
    """
    api, soon = stage.api, {"skjob.deploy.kubernetes.inventory.runs.OVERDUE": 1.0}

    def going() -> bool:
        found = garbage.find_garbage(api, stage.namespace).terminating
        return any("its removal was requested" in each.why for each in found)

    with stage.runs.searching() as process:
        stage.outage(nodes_of(pods_of(stage.kind_api, stage.namespace, "worker")))
        process.send_signal(signal.SIGTERM)
        # In its first seconds `gc` would only say so.
        until(going, "it stays", 120)
        process.communicate(timeout=DEADLINE)
        ended = time.monotonic()
        run_id = stage.runs.record()["run_id"]
        time.sleep(FIRST_CHECK_SECONDS)
        left = leftovers(api, run_id)
        until(lambda: all(item.startswith("Pod/") for item in leftovers(api, run_id)), "more than pods are left")
        assert leftovers(api, run_id) != []
        removed = stage.runs.skjob("gc", limits=soon)
        assert removed.returncode == 0, removed.stderr
        wait_until_gone(api, run_id)
        seconds = time.monotonic() - ended
    stage.row("leftover_row", "the client by SIGTERM, a node before", describe_count(left), seconds, "skjob gc")


@pytest.mark.slow
@side_by_side(during=node_away)
def test_a_worker_node_stopped_in_mid_search(stage: Stage) -> None:
    """Its connections stay open. Kubernetes says after 40 to 60 s that the node is gone; until then others carry on."""
    with searching(stage.runs) as search:
        search.read_enough()
        home = nodes_of(pods_of(stage.kind_api, stage.namespace, "scheduler"))
        workers = pods_of(stage.kind_api, stage.namespace, "worker")
        away = nodes_of(workers) - home
        at = time.monotonic()
        stage.outage(away)
        search.finish()
    again = search.check()
    assert again <= MAX_REPEATED * sum(pod.spec.node_name in away for pod in workers)
    seconds = search.seconds_until_next_fit(at)
    stage.row("fault_row", "a worker node", "stopped in mid-search", "its results", 0, again, seconds)


# --- the API server


@contextmanager
def api_server_killed(kind_api: client.ApiClient, _: Mapping[str, Any]) -> Iterator[None]:
    """Kubernetes starts it again. What has lost it comes back after it, and later tests need it all: the operator, the
    controllers and the scheduler of Kubernetes, without each of which no DaskCluster has a worker that runs."""
    on_node(CONTROL_PLANE, "pkill", "-KILL", "-f", "^kube-apiserver .*--secure-port=6443")
    yield
    until(api_server_is_ready, "the API server did not come back", 120)
    with new_namespace(kind_api) as namespace, sleeping_cluster(kind_api, namespace):
        until(lambda: workers_run(kind_api, namespace), "no DaskCluster gets workers any more", 240)


def workers_run(kind_api: client.ApiClient, namespace: str) -> bool:
    return any(pod.status.phase == "Running" for pod in pods_of(kind_api, namespace, "worker"))


@side_by_side(during=api_server_killed)
def test_a_restart_of_the_api_server(stage: Stage) -> None:
    """The run goes on, and takes itself away as ever. (Another test has an API server of its own.)"""
    script = """
        import time
        from pathlib import Path
        from joblib import Parallel, delayed
        print("searching", flush=True)
        Parallel()(delayed(time.sleep)(0.2) for _ in iter(Path("restarted").exists, True))
    """
    with stage.runs.searching("--workers", "1", script=script) as process:
        stage.outage()
        until(api_server_is_ready, "the API server did not come back", 120)
        (stage.folder / "restarted").touch()
        _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, told
    left, seconds = wait_until_gone(stage.api, stage.runs.record()["run_id"])
    stage.row("leftover_row", "the API server, in mid-run", describe_count(left), seconds, "skjob")
