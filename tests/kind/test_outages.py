"""Runs, and what is left of them, during an outage of a part of the cluster: the operator, a node, the API server.

Each test adds a row to the table of faults or to that of leftovers. Tests that need the same outage share it.
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
from support.side_by_side import Sandbox, side_by_side
from support.wait import until

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory import garbage
from skjob.deploy.kubernetes.inventory.cleanup import KOPF_FINALIZER
from skjob.deploy.kubernetes.inventory.runs import runs

# --- the operator


@contextmanager
def operator_outage(kind_api: client.ApiClient, _: Mapping[str, Any]) -> Iterator[None]:
    """Stop the operator: its Deployment has no pod."""
    with no_operator(kind_api):
        yield


@side_by_side(during=operator_outage)
def test_run_started_without_operator_leaves_nothing(sandbox: Sandbox) -> None:
    """Nothing acts on the DaskCluster, and no finalizer keeps it."""
    sandbox.outage()
    ended = sandbox.runs.run("print('never')")
    assert (ended.returncode, ended.stdout) == (123, "")
    assert "error: the Dask operator has not acted on `skjob-train-" in ended.stderr
    remaining, seconds = wait_until_gone(sandbox.api, sandbox.runs.record()["run_id"])
    sandbox.row("leftover_row", "the start, the operator before", describe_count(remaining), seconds, "skjob")


@side_by_side(during=operator_outage)
def test_run_stopped_without_operator_leaves_nothing(sandbox: Sandbox) -> None:
    with sandbox.runs.searching("--workers", "1") as process:
        sandbox.outage()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        remaining, seconds = wait_until_gone(sandbox.api, sandbox.runs.record()["run_id"])
    sandbox.row(
        "leftover_row", "the client by SIGTERM, the operator before", describe_count(remaining), seconds, "skjob"
    )


@side_by_side(during=operator_outage)
def test_gc_removes_run_of_a_killed_client_without_operator(sandbox: Sandbox) -> None:
    """The operator's finalizer keeps the DaskCluster until `gc`, or the next run of any user, removes the finalizer.

    Whether objects that the DaskCluster owns are deleted before depends on whether Kubernetes' garbage collector still
    sees the anchor, which is deleted in the foreground, when it processes the DaskCluster.

    Here, `gc` counts a removal as overdue after one second instead of fifteen.
    """
    api, limits = sandbox.api, {"skjob.deploy.kubernetes.inventory.runs.OVERDUE": 1.0}
    with sandbox.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        sandbox.outage()
        process.kill()
        process.wait(DEADLINE)
        [run] = runs(api, sandbox.namespace)
        until(lambda: f"Job/{run.name}" not in leftovers(api, run.run_id), "the anchor was not deleted", GRACE + 300)
        metadata = until(lambda: being_removed(api, run.name), "the DaskCluster is not being deleted")
        assert KOPF_FINALIZER in metadata["finalizers"]
        until(lambda: (runs(api, sandbox.namespace)[0].removing_for or 0) > 2, "the run is not being removed")
        dry_run = sandbox.runs.skjob("gc", "--dry-run", limits=limits)
        assert re.fullmatch(
            rf"skjob: would remove `{run.name}` of `{run.user}` in `{sandbox.namespace}`: "
            r"its removal was requested \d+ s ago, and it still exists\n",
            dry_run.stderr,
        )
        remaining = leftovers(api, run.run_id)
        assert f"DaskCluster/{run.name}" in remaining
        started = time.monotonic()
        gc = sandbox.runs.skjob("gc", limits=limits)
        assert gc.returncode == 0, gc.stderr
        wait_until_gone(api, run.run_id)
    seconds = time.monotonic() - started
    sandbox.row(
        "leftover_row", "the client by SIGKILL, the operator before", describe_count(remaining), seconds, "skjob gc"
    )


def being_removed(api: Api, name: str) -> dict[str, Any] | None:
    """Return the metadata of a DaskCluster that is being deleted, otherwise None."""
    metadata: dict[str, Any] = api.get("DaskCluster", name, api.context.namespace)["metadata"]
    return metadata if "deletionTimestamp" in metadata else None


@side_by_side(during=operator_outage)
def test_search_continues_without_operator(sandbox: Sandbox) -> None:
    with searching(sandbox.runs) as search:
        search.wait_for_first_fits()
        stopped_at = time.monotonic()
        sandbox.outage()
        search.finish()
    assert search.check() == 0
    sandbox.row(
        "fault_row",
        "the Dask operator",
        "scaled to 0 during the search",
        "its results",
        0,
        0,
        search.seconds_until_next_fit(stopped_at),
    )


# --- a node


@contextmanager
def node_outage(kind_api: client.ApiClient, nodes_of_runs: Mapping[str, Any]) -> Iterator[None]:
    """Pause a node that has workers of each run but not the scheduler of the search.

    `nodes_of_runs` has, for each run, the nodes that may be paused.
    """
    candidates = set.intersection(*(nodes for nodes in nodes_of_runs.values()))
    if not candidates:
        pytest.fail(f"no node has pods of all runs: {nodes_of_runs}")
    node = min(candidates)
    with paused(node):
        yield
    wait_ready(kind_api, node)


def nodes_of(pods: list[Any]) -> set[str]:
    return {pod.spec.node_name for pod in pods if pod.spec.node_name}


@side_by_side(during=node_outage)
def test_gc_removes_pods_of_a_dead_node(sandbox: Sandbox) -> None:
    """Its pods never report that they have ended: the API lists them until `gc` force-deletes them or the node returns.

    Here, `gc` counts a removal as overdue after one second instead of fifteen.
    """
    api, limits = sandbox.api, {"skjob.deploy.kubernetes.inventory.runs.OVERDUE": 1.0}

    def is_overdue() -> bool:
        terminating = garbage.find_garbage(api, sandbox.namespace).terminating
        return any("its removal was requested" in each.why for each in terminating)

    with sandbox.runs.searching() as process:
        sandbox.outage(nodes_of(pods_of(sandbox.kind_api, sandbox.namespace, "worker")))
        process.send_signal(signal.SIGTERM)
        # During the first seconds `gc` only reports the removal.
        until(is_overdue, "the removal is not overdue", 120)
        process.communicate(timeout=DEADLINE)
        ended = time.monotonic()
        run_id = sandbox.runs.record()["run_id"]
        time.sleep(FIRST_CHECK_SECONDS)
        remaining = leftovers(api, run_id)
        until(lambda: all(item.startswith("Pod/") for item in leftovers(api, run_id)), "more than pods are left")
        assert leftovers(api, run_id) != []
        gc = sandbox.runs.skjob("gc", limits=limits)
        assert gc.returncode == 0, gc.stderr
        wait_until_gone(api, run_id)
        seconds = time.monotonic() - ended
    sandbox.row("leftover_row", "the client by SIGTERM, a node before", describe_count(remaining), seconds, "skjob gc")


@pytest.mark.slow
@side_by_side(during=node_outage)
def test_search_continues_after_a_worker_node_stops(sandbox: Sandbox) -> None:
    """Its connections stay open. Kubernetes reports the node as lost after 40 to 60 s; until then, others continue."""
    with searching(sandbox.runs) as search:
        search.wait_for_first_fits()
        scheduler_nodes = nodes_of(pods_of(sandbox.kind_api, sandbox.namespace, "scheduler"))
        workers = pods_of(sandbox.kind_api, sandbox.namespace, "worker")
        candidates = nodes_of(workers) - scheduler_nodes
        paused_at = time.monotonic()
        sandbox.outage(candidates)
        search.finish()
    repeated = search.check()
    assert repeated <= MAX_REPEATED * sum(pod.spec.node_name in candidates for pod in workers)
    seconds = search.seconds_until_next_fit(paused_at)
    sandbox.row("fault_row", "a worker node", "stopped during the search", "its results", 0, repeated, seconds)


# --- the API server


@contextmanager
def api_server_outage(kind_api: client.ApiClient, _: Mapping[str, Any]) -> Iterator[None]:
    """Kill the API server, which the kubelet restarts.

    At the end, wait until a DaskCluster gets a running worker: later tests need the operator and Kubernetes'
    controllers and scheduler.
    """
    on_node(CONTROL_PLANE, "pkill", "-KILL", "-f", "^kube-apiserver .*--secure-port=6443")
    yield
    until(api_server_is_ready, "the API server did not come back", 120)
    with new_namespace(kind_api) as namespace, sleeping_cluster(kind_api, namespace):
        until(lambda: has_running_workers(kind_api, namespace), "no DaskCluster gets workers any more", 240)


def has_running_workers(kind_api: client.ApiClient, namespace: str) -> bool:
    return any(pod.status.phase == "Running" for pod in pods_of(kind_api, namespace, "worker"))


@side_by_side(during=api_server_outage)
def test_run_continues_after_api_server_restart(sandbox: Sandbox) -> None:
    """The run continues and is removed as usual. (Tests on the second API server are not affected.)"""
    script = """
        import time
        from pathlib import Path
        from joblib import Parallel, delayed
        print("searching", flush=True)
        Parallel()(delayed(time.sleep)(0.2) for _ in iter(Path("restarted").exists, True))
    """
    with sandbox.runs.searching("--workers", "1", script=script) as process:
        sandbox.outage()
        until(api_server_is_ready, "the API server did not come back", 120)
        (sandbox.folder / "restarted").touch()
        _, stderr = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, stderr
    remaining, seconds = wait_until_gone(sandbox.api, sandbox.runs.record()["run_id"])
    sandbox.row("leftover_row", "the API server, during the run", describe_count(remaining), seconds, "skjob")
