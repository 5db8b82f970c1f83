"""What is left of a run, however it ends: each test is a row of the table of leftovers.

A run has an end of its own, by its client, or its anchor's: `GRACE` after the last heartbeat Kubernetes removes it. In
each case nothing may be left when that is over. `test_outages.py` has the ends in a cluster of which a part is away.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kubernetes import client
from support.flaky_network import make_flaky_network
from support.leftovers import GRACE, describe_count, wait_until_gone
from support.runs import DEADLINE, Runs
from support.side_by_side import Stage, side_by_side

from skjob.deploy.kubernetes.inventory.runs import runs

REMOVAL_SECONDS = GRACE + 90
"""Within which an anchor has removed a run whose client is gone."""


ENDS = {
    "success": ("print(1)", 0),
    "an error in the script": ("raise SystemExit(3)", 3),
    "os._exit in the script": ("import os; os._exit(7)", 7),
    "a crash of the script": ("import os; os.abort()", 134),
}


@pytest.mark.parametrize("end", ENDS)
@side_by_side
def test_an_end_of_the_script(stage: Stage, end: str) -> None:
    script, code = ENDS[end]
    ended = stage.runs.run(script, "--workers", "1")
    assert ended.returncode == code, ended.stderr
    left, seconds = wait_until_gone(stage.api, stage.runs.record()["run_id"])
    stage.row("leftover_row", end, describe_count(left), seconds, "skjob")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@side_by_side
def test_a_signal(stage: Stage, number: signal.Signals, code: int) -> None:
    with stage.runs.searching("--workers", "1") as process:
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    told = stage.runs.record()
    assert told["outcome"]["cause"] == f"stopped by {number.name}"
    left, seconds = wait_until_gone(stage.api, told["run_id"])
    stage.row("leftover_row", f"the client, by {number.name}", describe_count(left), seconds, "skjob")


@side_by_side(waits=True)
def test_a_client_that_is_killed(stage: Stage) -> None:
    """The anchor: its grace, and some seconds for the garbage collector."""
    with stage.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        [run] = runs(stage.api, stage.namespace)  # while its heartbeat goes on: afterwards it may be gone
        process.kill()
        process.wait(DEADLINE)
        left, seconds = wait_until_gone(stage.api, run.run_id, REMOVAL_SECONDS)
    assert left
    stage.row("leftover_row", "the client, by SIGKILL", describe_count(left), seconds, f"its anchor, --grace {GRACE}s")


@side_by_side(waits=True)
def test_a_client_whose_network_is_gone(stage: Stage) -> None:
    network, kubeconfig = make_flaky_network(Path(stage.runs.environment["KUBECONFIG"]), stage.folder)
    lost = Runs(stage.folder, stage.runs.environment | {"KUBECONFIG": str(kubeconfig)}, stage.namespace)
    try:
        with lost.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
            [run] = runs(stage.api, stage.namespace)
            network.cut()
            left, seconds = wait_until_gone(stage.api, run.run_id, REMOVAL_SECONDS)
            _, told = process.communicate(timeout=DEADLINE)
    finally:
        network.close()
    assert process.returncode in (126, 127), told
    assert "error: the scheduler of `skjob-train-" in told
    assert " - distributed." not in told
    stage.row("leftover_row", "the client's network", describe_count(left), seconds, f"its anchor, --grace {GRACE}s")


@side_by_side
def test_gc_leaves_what_lives(stage: Stage) -> None:
    """A run that goes on, and what others made: with a label of skjob's, but not all of them."""
    core = client.CoreV1Api(stage.kind_api)
    for name, labels in (
        ("no-run", {"app.kubernetes.io/managed-by": "skjob"}),
        ("no-skjob", {"skjob/run": "20261125-000000-abcdef"}),
    ):
        core.create_namespaced_config_map(stage.namespace, {"metadata": {"name": name, "labels": labels}})
    with stage.runs.searching("--workers", "1") as process:
        told = stage.runs.skjob("gc")
        assert (told.returncode, told.stderr) == (0, "skjob: nothing to clean up\n")
        assert process.poll() is None
        assert [run.state for run in runs(stage.api, stage.namespace)] == ["running"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    there = {item.metadata.name for item in core.list_namespaced_config_map(stage.namespace).items}
    assert {"no-run", "no-skjob"} <= there
    core.delete_namespaced_config_map("no-run", stage.namespace)
    stage.row(
        "security_row",
        "nothing that skjob did not make is touched",
        "`skjob gc` beside a run that goes on, and objects with some of skjob's labels",
        "all of it stays",
        "yes",
    )


@side_by_side
def test_a_scheduler_that_is_deleted_for_good(stage: Stage) -> None:
    """Its Deployment: the operator does not make it anew."""
    with stage.runs.searching("--workers", "1", "--grace", f"{GRACE}s") as process:
        [run] = runs(stage.api, stage.namespace)
        client.AppsV1Api(stage.kind_api).delete_namespaced_deployment(f"{run.name}-scheduler", stage.namespace)
        _, told = process.communicate(timeout=DEADLINE)
    assert process.returncode == 126, told
    assert f"error: the scheduler of `{run.name}` is gone" in told
    left, seconds = wait_until_gone(stage.api, run.run_id)
    stage.row("leftover_row", "the scheduler's Deployment", describe_count(left), seconds, "skjob")
