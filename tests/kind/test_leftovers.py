"""Objects that are left after a run ends, in each way it can end: each test adds a row to the table of leftovers.

Either the client removes the run, or Kubernetes does so when its anchor expires, `GRACE` after the last heartbeat. Then
nothing may be left. `test_outages.py` has runs that end while part of the cluster is away.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kubernetes import client
from support.flaky_network import make_flaky_network
from support.leftovers import GRACE, describe_count, wait_until_gone
from support.runs import DEADLINE, Runs
from support.side_by_side import Sandbox, side_by_side

from skjob.deploy.kubernetes.inventory.runs import runs

REMOVAL_SECONDS = GRACE + 90
"""Time limit for Kubernetes to remove a run whose client is gone."""


ENDS = {
    "success": ("print(1)", 0),
    "an error in the script": ("raise SystemExit(3)", 3),
    "os._exit in the script": ("import os; os._exit(7)", 7),
    "a crash of the script": ("import os; os.abort()", 134),
}


@pytest.mark.parametrize("end", ENDS)
@side_by_side
def test_nothing_is_left_after_the_script_ends(sandbox: Sandbox, end: str) -> None:
    script, code = ENDS[end]
    ended = sandbox.runs.run(script, "--workers", "1")
    assert ended.returncode == code, ended.stderr
    remaining, seconds = wait_until_gone(sandbox.api, sandbox.runs.record()["run_id"])
    sandbox.row("leftover_row", end, describe_count(remaining), seconds, "skjob")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@side_by_side
def test_nothing_is_left_after_a_signal(sandbox: Sandbox, number: signal.Signals, code: int) -> None:
    with sandbox.runs.searching("--workers", "1") as process:
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    record = sandbox.runs.record()
    assert record["outcome"]["cause"] == f"stopped by {number.name}"
    remaining, seconds = wait_until_gone(sandbox.api, record["run_id"])
    sandbox.row("leftover_row", f"the client, by {number.name}", describe_count(remaining), seconds, "skjob")


@side_by_side(waits=True)
def test_run_of_a_killed_client_is_removed(sandbox: Sandbox) -> None:
    """The run is removed when its anchor expires, and some seconds later by the garbage collector."""
    with sandbox.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        [run] = runs(sandbox.api, sandbox.namespace)  # before the client is killed: afterwards the run may be gone
        process.kill()
        process.wait(DEADLINE)
        remaining, seconds = wait_until_gone(sandbox.api, run.run_id, REMOVAL_SECONDS)
    assert remaining
    sandbox.row(
        "leftover_row", "the client, by SIGKILL", describe_count(remaining), seconds, f"its anchor, --grace {GRACE}s"
    )


@side_by_side(waits=True)
def test_run_of_a_disconnected_client_is_removed(sandbox: Sandbox) -> None:
    network, kubeconfig = make_flaky_network(Path(sandbox.runs.environment["KUBECONFIG"]), sandbox.folder)
    disconnected = Runs(sandbox.folder, sandbox.runs.environment | {"KUBECONFIG": str(kubeconfig)}, sandbox.namespace)
    try:
        with disconnected.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
            [run] = runs(sandbox.api, sandbox.namespace)
            network.cut()
            remaining, seconds = wait_until_gone(sandbox.api, run.run_id, REMOVAL_SECONDS)
            _, stderr = process.communicate(timeout=DEADLINE)
    finally:
        network.close()
    assert process.returncode in (126, 127), stderr
    assert "error: the scheduler of `skjob-train-" in stderr
    assert " - distributed." not in stderr
    sandbox.row(
        "leftover_row", "the client's network", describe_count(remaining), seconds, f"its anchor, --grace {GRACE}s"
    )


@side_by_side
def test_gc_keeps_running_runs_and_foreign_objects(sandbox: Sandbox) -> None:
    """It does not remove a running run, or objects with only some of skjob's labels."""
    core = client.CoreV1Api(sandbox.kind_api)
    for name, labels in (
        ("no-run", {"app.kubernetes.io/managed-by": "skjob"}),
        ("no-skjob", {"skjob/run": "20261125-000000-abcdef"}),
    ):
        core.create_namespaced_config_map(sandbox.namespace, {"metadata": {"name": name, "labels": labels}})
    with sandbox.runs.searching("--workers", "1") as process:
        gc = sandbox.runs.skjob("gc")
        assert (gc.returncode, gc.stderr) == (0, "skjob: nothing to clean up\n")
        assert process.poll() is None
        assert [run.state for run in runs(sandbox.api, sandbox.namespace)] == ["running"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    existing = {item.metadata.name for item in core.list_namespaced_config_map(sandbox.namespace).items}
    assert {"no-run", "no-skjob"} <= existing
    core.delete_namespaced_config_map("no-run", sandbox.namespace)
    sandbox.row(
        "security_row",
        "nothing that skjob did not make is touched",
        "`skjob gc` beside a running run, and objects with some of skjob's labels",
        "all of it stays",
        "yes",
    )


@side_by_side
def test_run_ends_after_its_scheduler_is_deleted(sandbox: Sandbox) -> None:
    """The Deployment is deleted, which the operator does not recreate."""
    with sandbox.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        [run] = runs(sandbox.api, sandbox.namespace)
        client.AppsV1Api(sandbox.kind_api).delete_namespaced_deployment(f"{run.name}-scheduler", sandbox.namespace)
        _, stderr = process.communicate(timeout=DEADLINE)
    assert process.returncode == 126, stderr
    assert f"error: the scheduler of `{run.name}` is gone" in stderr
    remaining, seconds = wait_until_gone(sandbox.api, run.run_id)
    sandbox.row("leftover_row", "the scheduler's Deployment", describe_count(remaining), seconds, "skjob")
