"""`skjob run` on a real Kubernetes: tasks run in the run's pods, and nothing is left after any end of the run.

A test fails if an object of a run is left in its namespace.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.command import run_here
from support.leftovers import GRACE, leftovers, wait_until_gone
from support.runs import DEADLINE, SEARCHING, Runs
from support.side_by_side import Sandbox, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory.runs import runs


@side_by_side(waits=True)
def test_cluster_outlives_a_pause_longer_than_the_grace(sandbox: Sandbox) -> None:
    script = f"""
        import time
        from joblib import Parallel, delayed
        print(Parallel()(delayed(abs)(i) for i in range(3)))
        time.sleep({GRACE + 2})
        print(Parallel()(delayed(abs)(i) for i in range(3)))
    """
    ended = sandbox.runs.run(script, "--workers", "1", "--grace", f"{GRACE}s")
    assert (ended.returncode, ended.stdout) == (0, "[0, 1, 2]\n[0, 1, 2]\n"), ended.stderr


@side_by_side
def test_tasks_run_in_the_runs_pods(sandbox: Sandbox) -> None:
    script = """
        import json, socket, time
        from pathlib import Path
        from dask.distributed import Client
        from joblib import Parallel, delayed
        def pod(_):
            time.sleep(0.5)
            return socket.gethostname()
        Client.current().wait_for_workers(2, timeout=180)
        print(json.dumps(sorted(set(Parallel()(delayed(pod)(i) for i in range(20))))), flush=True)
        while not Path("stop").exists():
            time.sleep(0.1)
    """
    with subprocess.Popen(
        sandbox.runs.command(script),
        cwd=sandbox.runs.folder,
        env=sandbox.runs.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        hostnames = json.loads(process.stdout.readline())
        pods = client.CoreV1Api(sandbox.kind_api).list_namespaced_pod(
            sandbox.namespace, label_selector="skjob/run,dask.org/component=worker"
        )
        pod_names = {pod.metadata.name for pod in pods.items}
        (sandbox.runs.folder / "stop").touch()
        process.wait(DEADLINE)
    assert len(hostnames) == 2
    assert set(hostnames) == pod_names
    run_id = sandbox.runs.record()["run_id"]
    wait_until_gone(sandbox.api, run_id)


@side_by_side
def test_second_signal_skips_waiting_but_not_the_deletion(sandbox: Sandbox) -> None:
    ignore_sigterm = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    script = SEARCHING.replace("import time", f"import time; {ignore_sigterm}")
    with sandbox.runs.searching("--workers", "1", script=script) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    wait_until_gone(sandbox.api, sandbox.runs.record()["run_id"])


@side_by_side
def test_kept_cluster_can_be_used_and_removed(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    ended = sandbox.runs.run("print('done')", "--workers", "1", "--keep")
    assert ended.returncode == 0, ended.stderr
    name = sandbox.runs.record()["cluster"]["name"]
    assert f"skjob: remove it: `skjob down {name} --context kind-skjob --namespace {namespace}`" in ended.stderr
    [kept] = runs(sandbox.api, sandbox.namespace)
    assert (kept.name, kept.state) == (name, "kept")
    script = f"""
        import socket, skjob
        from joblib import Parallel, delayed
        with skjob.cluster(name={name!r}, context="kind-skjob", namespace={namespace!r}, on="kubernetes"):
            print(set(Parallel()(delayed(socket.gethostname)() for _ in range(4))))
    """
    used = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=sandbox.runs.folder, env=sandbox.runs.environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert name in used.stdout, used.stderr
    down = [sys.executable, "-m", "skjob", "down", name, "--context", "kind-skjob", "--namespace", namespace]
    removed = subprocess.run(down, env=sandbox.runs.environment, capture_output=True, text=True, timeout=DEADLINE)
    assert removed.returncode == 0, removed.stderr
    assert leftovers(sandbox.api, kept.run_id) == []


@side_by_side
def test_session_cluster_scales_and_ends_with_its_process(sandbox: Sandbox) -> None:
    """The script does not close the cluster. The image brings bokeh, so that there is a dashboard."""
    script = f"""
        import skjob
        cluster = skjob.Cluster(1, context="kind-skjob", namespace={sandbox.runs.namespace!r}, on="kubernetes")
        cluster.scale(2)
        cluster.client.wait_for_workers(2, timeout={DEADLINE})
        print(cluster.status, len(cluster.client.ncores()), cluster.dashboard_link)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=sandbox.runs.folder, env=sandbox.runs.environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"ready 2 http://127\.0\.0\.1:\d+/status\n", ended.stdout), ended.stdout
    assert "Error" not in ended.stderr
    until(lambda: runs(sandbox.api, sandbox.namespace) == [], "the cluster was not removed", DEADLINE)


@side_by_side
def test_fits_on_a_removed_cluster_raise_the_cause(sandbox: Sandbox) -> None:
    """Both the running fit and the next one, in a process that continues."""
    script = f"""
        import skjob, time
        from joblib import Parallel, delayed
        def fit(seconds, count):
            try:
                Parallel()(delayed(time.sleep)(seconds) for _ in range(count))
                print("done", flush=True)
            except Exception as error:
                print(f"{{type(error).__name__}}: {{error}}", flush=True)
        with skjob.cluster(context="kind-skjob", namespace={sandbox.runs.namespace!r}, on="kubernetes", workers=1):
            fit(0, 1)
            fit(1, 600)
            fit(0, 1)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=sandbox.folder, env=sandbox.runs.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        removed = sandbox.runs.skjob("down", "--all")
        assert (first, removed.returncode) == ("done\n", 0), removed.stderr
        stdout, stderr = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    lost = r"WorkersLost: `sleep` cannot be finished: `skjob-\S+` was removed, by a user or .*\n"
    assert re.fullmatch(lost * 2, stdout), (stdout, stderr)
    assert "Traceback" not in stderr


@side_by_side
def test_adaptive_cluster_scales_up_and_replaces_a_deleted_worker(sandbox: Sandbox) -> None:
    """The script has work until the test stops it."""
    script = """
        import itertools, threading, time
        from pathlib import Path
        from dask.distributed import Client
        from joblib import Parallel, delayed
        stop, connected, client = Path("stop"), Path("connected"), Client.current()
        def work(i):
            time.sleep(1)
            return i
        def record_workers():
            while not stop.exists():
                connected.write_text(" ".join(client.ncores()))
                time.sleep(0.2)
        threading.Thread(target=record_workers, daemon=True).start()
        print("searching", flush=True)
        numbers = itertools.takewhile(lambda _: not stop.exists(), itertools.count())
        done = Parallel()(delayed(work)(i) for i in numbers)
        print(done == list(range(len(done))))
    """
    core = client.CoreV1Api(sandbox.kind_api)
    connected = sandbox.runs.folder / "connected"

    def three_workers() -> list[Any]:
        """Return the pods of three workers once all of them are connected, and an empty list until then."""
        pods = core.list_namespaced_pod(sandbox.namespace, label_selector="dask.org/component=worker").items
        pods = [pod for pod in pods if pod.metadata.deletion_timestamp is None and pod.status.phase == "Running"]
        addresses = connected.read_text().split() if connected.exists() else []
        hosts = sorted(address.removeprefix("tls://").rpartition(":")[0] for address in addresses)
        return pods if len(pods) == 3 and hosts == sorted(pod.status.pod_ip for pod in pods) else []

    with sandbox.runs.searching("--workers", "1:3", script=script) as process:
        deleted = until(three_workers, "there are not three workers", 180)[0].metadata
        core.delete_namespaced_pod(deleted.name, sandbox.namespace)
        pods = until(three_workers, "the deleted worker was not replaced", 180)
        assert deleted.uid not in {pod.metadata.uid for pod in pods}
        until(lambda: max(at["connected"] for at in sandbox.runs.record()["workers"]) == 3, "the record has not three")
        (sandbox.runs.folder / "stop").touch()
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "True\n"), errors


def test_run_falls_back_to_this_machine_if_the_api_is_unreachable(tmp_path: Path, kind_env: dict[str, str]) -> None:
    """The API of this context is unreachable, so `auto` runs on this machine and reports why."""
    environment = kind_env | {"KUBECONFIG": str(unreachable_kubeconfig(tmp_path))}
    (tmp_path / "train.py").write_text("print('here')")
    ended = run_here(["run", "--workers", "1", "train.py"], environment, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "here\n"), ended.stderr
    assert "running on this machine: the Kubernetes API of context `dead`" in ended.stderr


def unreachable_kubeconfig(folder: Path) -> Path:
    path = folder / "dead.kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dead",
        "clusters": [{"name": "dead", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "dead", "user": {}}],
        "contexts": [{"name": "dead", "context": {"cluster": "dead", "user": "dead"}}],
    }
    path.write_text(json.dumps(content))
    return path


INVALID_OPTIONS = [
    pytest.param(["--context", "mars"], 121, "the kubeconfig has no context `mars`", id="no such context"),
    pytest.param(["--namespace", "nowhere"], 120, "nowhere", id="no such namespace"),
]
"""Options that are rejected before anything starts. `test_causes.py` has the causes that end a start."""


@pytest.mark.parametrize(("options", "code", "words"), INVALID_OPTIONS)
def test_invalid_options_are_rejected(
    kind_runs: Runs, options: list[str], code: int, words: str, namespace: str, api: Api
) -> None:
    ended = kind_runs.run_here("print('never')", *options)
    assert (ended.returncode, ended.stdout) == (code, "")
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\nhint: " in ended.stderr
    record = kind_runs.record()
    assert error == f"error: {record['outcome']['cause']}"
    wait_until_gone(api, record["run_id"])


def test_unreachable_api_is_reported(kind_runs: Runs, kind_env: dict[str, str]) -> None:
    ended = kind_runs.run_here(
        "print('never')", "--context", "dead", KUBECONFIG=str(unreachable_kubeconfig(kind_runs.folder))
    )
    assert (ended.returncode, ended.stdout) == (121, "")
    assert "error: the Kubernetes API of context `dead` at `http://127.0.0.1:9` does not answer" in ended.stderr


def test_missing_permissions_are_reported(
    kind_runs: Runs, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    nobody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=False)
    ended = kind_runs.run_here("print('never')", KUBECONFIG=nobody["KUBECONFIG"])
    assert (ended.returncode, ended.stdout) == (122, "")
    assert "`create, get, list, patch, delete jobs`" in ended.stderr
    assert "`list events`" in ended.stderr
