"""`skjob run` on a real Kubernetes: work in pods that the API knows, and nothing left however it ends.

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
from support.side_by_side import Stage, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory.runs import runs


@side_by_side(waits=True)
def test_a_script_that_thinks_for_longer_than_the_grace_keeps_its_cluster(stage: Stage) -> None:
    script = f"""
        import time
        from joblib import Parallel, delayed
        print(Parallel()(delayed(abs)(i) for i in range(3)))
        time.sleep({GRACE + 2})
        print(Parallel()(delayed(abs)(i) for i in range(3)))
    """
    ended = stage.runs.run(script, "--workers", "1", "--grace", f"{GRACE}s")
    assert (ended.returncode, ended.stdout) == (0, "[0, 1, 2]\n[0, 1, 2]\n"), ended.stderr


@side_by_side
def test_tasks_run_in_pods_that_the_api_knows(stage: Stage) -> None:
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
        while not Path("seen").exists():
            time.sleep(0.1)
    """
    with subprocess.Popen(
        stage.runs.command(script), cwd=stage.runs.folder, env=stage.runs.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        pods = client.CoreV1Api(stage.kind_api).list_namespaced_pod(
            stage.namespace, label_selector="skjob/run,dask.org/component=worker"
        )
        known = {pod.metadata.name for pod in pods.items}
        (stage.runs.folder / "seen").touch()
        process.wait(DEADLINE)
    assert len(told) == 2
    assert set(told) == known
    run_id = stage.runs.record()["run_id"]
    wait_until_gone(stage.api, run_id)


@side_by_side
def test_a_second_signal_skips_waiting_but_not_the_deletion(stage: Stage) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = SEARCHING.replace("import time", f"import time; {deaf}")
    with stage.runs.searching("--workers", "1", script=stubborn) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    wait_until_gone(stage.api, stage.runs.record()["run_id"])


@side_by_side
def test_a_kept_cluster_can_be_used_and_removed(stage: Stage) -> None:
    namespace = stage.namespace
    ended = stage.runs.run("print('done')", "--workers", "1", "--keep")
    assert ended.returncode == 0, ended.stderr
    name = stage.runs.record()["cluster"]["name"]
    assert f"skjob: remove it: `skjob down {name} --context kind-skjob --namespace {namespace}`" in ended.stderr
    [kept] = runs(stage.api, stage.namespace)
    assert (kept.name, kept.state) == (name, "kept")
    script = f"""
        import socket, skjob
        from joblib import Parallel, delayed
        with skjob.cluster(name={name!r}, context="kind-skjob", namespace={namespace!r}, on="kubernetes"):
            print(set(Parallel()(delayed(socket.gethostname)() for _ in range(4))))
    """
    used = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=stage.runs.folder, env=stage.runs.environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert name in used.stdout, used.stderr
    down = [sys.executable, "-m", "skjob", "down", name, "--context", "kind-skjob", "--namespace", namespace]
    removed = subprocess.run(down, env=stage.runs.environment, capture_output=True, text=True, timeout=DEADLINE)
    assert removed.returncode == 0, removed.stderr
    assert leftovers(stage.api, kept.run_id) == []


@side_by_side
def test_a_cluster_of_a_session_has_the_workers_it_is_told_and_ends_with_the_process(stage: Stage) -> None:
    """Nobody closes it. The image brings bokeh, so that there is a dashboard."""
    script = f"""
        import skjob
        cluster = skjob.Cluster(1, context="kind-skjob", namespace={stage.runs.namespace!r}, on="kubernetes")
        cluster.scale(2)
        cluster.client.wait_for_workers(2, timeout={DEADLINE})
        print(cluster.status, len(cluster.client.ncores()), cluster.dashboard_link)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=stage.runs.folder, env=stage.runs.environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"ready 2 http://127\.0\.0\.1:\d+/status\n", ended.stdout), ended.stdout
    assert "Error" not in ended.stderr
    until(lambda: runs(stage.api, stage.namespace) == [], "it is still there", DEADLINE)


@side_by_side
def test_a_fit_on_a_cluster_that_was_removed_ends_with_the_cause(stage: Stage) -> None:
    """In a process that lives on: one that is under way, and the next."""
    script = f"""
        import skjob, time
        from joblib import Parallel, delayed
        def fit(seconds, count):
            try:
                Parallel()(delayed(time.sleep)(seconds) for _ in range(count))
                print("done", flush=True)
            except Exception as error:
                print(f"{{type(error).__name__}}: {{error}}", flush=True)
        with skjob.cluster(context="kind-skjob", namespace={stage.runs.namespace!r}, on="kubernetes", workers=1):
            fit(0, 1)
            fit(1, 600)
            fit(0, 1)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=stage.runs.folder, env=stage.runs.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        removed = stage.runs.skjob("down", "--all")
        assert (first, removed.returncode) == ("done\n", 0), removed.stderr
        told, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    lost = r"WorkersLost: `sleep` cannot be finished: `skjob-\S+` was removed, by a user or .*\n"
    assert re.fullmatch(lost * 2, told), (told, errors)
    assert "Traceback" not in errors


@side_by_side
def test_adaptive_workers_come_and_a_deleted_one_is_replaced(stage: Stage) -> None:
    """There is work until the test says that it is enough."""
    script = """
        import itertools, threading, time
        from pathlib import Path
        from dask.distributed import Client
        from joblib import Parallel, delayed
        enough, connected, client = Path("enough"), Path("connected"), Client.current()
        def work(i):
            time.sleep(1)
            return i
        def tell():
            while not enough.exists():
                connected.write_text(" ".join(client.ncores()))
                time.sleep(0.2)
        threading.Thread(target=tell, daemon=True).start()
        print("searching", flush=True)
        numbers = itertools.takewhile(lambda _: not enough.exists(), itertools.count())
        done = Parallel()(delayed(work)(i) for i in numbers)
        print(done == list(range(len(done))))
    """
    core = client.CoreV1Api(stage.kind_api)
    connected = stage.runs.folder / "connected"

    def three() -> list[Any]:
        """The pods of three workers, all of which the scheduler has; nothing until then."""
        pods = core.list_namespaced_pod(stage.namespace, label_selector="dask.org/component=worker").items
        pods = [pod for pod in pods if pod.metadata.deletion_timestamp is None and pod.status.phase == "Running"]
        addresses = connected.read_text().split() if connected.exists() else []
        hosts = sorted(address.removeprefix("tls://").rpartition(":")[0] for address in addresses)
        return pods if len(pods) == 3 and hosts == sorted(pod.status.pod_ip for pod in pods) else []

    with stage.runs.searching("--workers", "1:3", script=script) as process:
        deleted = until(three, "three workers did not come", 180)[0].metadata
        core.delete_namespaced_pod(deleted.name, stage.namespace)
        others = until(three, "no other worker came for the deleted one", 180)
        assert deleted.uid not in {pod.metadata.uid for pod in others}
        (stage.runs.folder / "enough").touch()
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "True\n"), errors
    assert max(at["connected"] for at in stage.runs.record()["workers"]) == 3


def test_it_runs_here_where_kubernetes_has_no_operator(tmp_path: Path, kind_env: dict[str, str]) -> None:
    """Nothing answers at the address of this context: `auto` runs on this machine and says why."""
    environment = kind_env | {"KUBECONFIG": str(dead_kubeconfig(tmp_path))}
    (tmp_path / "train.py").write_text("print('here')")
    ended = run_here(["run", "--workers", "1", "train.py"], environment, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "here\n"), ended.stderr
    assert "running on this machine: the Kubernetes API of context `dead`" in ended.stderr


def dead_kubeconfig(folder: Path) -> Path:
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


BAD = [
    pytest.param(["--context", "mars"], 121, "the kubeconfig has no context `mars`", id="no such context"),
    pytest.param(["--namespace", "nowhere"], 120, "nowhere", id="no such namespace"),
]
"""What is seen before anything begins. `test_causes.py` has what ends a start."""


@pytest.mark.parametrize(("options", "code", "words"), BAD)
def test_what_can_not_run_ends_with_its_cause(
    kind_runs: Runs, options: list[str], code: int, words: str, namespace: str, api: Api
) -> None:
    ended = kind_runs.run_here("print('never')", *options)
    assert (ended.returncode, ended.stdout) == (code, "")
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\nhint: " in ended.stderr
    told = kind_runs.record()
    assert error == f"error: {told['outcome']['cause']}"
    wait_until_gone(api, told["run_id"])


def test_an_api_that_refuses_is_told_as_such(kind_runs: Runs, kind_env: dict[str, str]) -> None:
    ended = kind_runs.run_here("print('never')", "--context", "dead", KUBECONFIG=str(dead_kubeconfig(kind_runs.folder)))
    assert (ended.returncode, ended.stdout) == (121, "")
    assert "error: the Kubernetes API of context `dead` at `http://127.0.0.1:9` does not answer" in ended.stderr


def test_who_may_not_run_is_told_what_is_missing(
    kind_runs: Runs, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    nobody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=False)
    ended = kind_runs.run_here("print('never')", KUBECONFIG=nobody["KUBECONFIG"])
    assert (ended.returncode, ended.stdout) == (122, "")
    assert "`create, get, list, patch, delete jobs`" in ended.stderr
    assert "`list events`" in ended.stderr
