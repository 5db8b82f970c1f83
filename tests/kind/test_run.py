"""`skjob run` on a real Kubernetes: work in pods that the API knows, and nothing left however it ends.

The `namespace` fixture fails any test after which an object of a run is still there.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kubernetes import client
from runs import DEADLINE, SEARCHING, Runs

from skjob.cluster.api import Api
from skjob.cluster.certificates import make_certificates
from skjob.cluster.inventory import leftovers, runs


def seconds_until_gone(api: Api, run_id: str, namespace: str, at_most: float) -> float:
    began = time.monotonic()
    while left := leftovers(api, run_id, namespace):
        assert time.monotonic() - began < at_most, f"still there after {at_most:.0f} s: {left}"
        time.sleep(0.5)
    return time.monotonic() - began


def test_tasks_run_in_pods_that_the_api_knows(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str, api: Api
) -> None:
    script = """
        import json, socket, time
        from pathlib import Path
        from dask.distributed import Client
        from joblib import Parallel, delayed
        def pod(_):
            time.sleep(0.5)
            return socket.gethostname()
        Client.current().wait_for_workers(2, timeout=60)
        print(json.dumps(sorted(set(Parallel()(delayed(pod)(i) for i in range(20))))), flush=True)
        while not Path("seen").exists():
            time.sleep(0.1)
    """
    with subprocess.Popen(
        kind_runs.command(script), cwd=kind_runs.folder, env=kind_runs.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        pods = client.CoreV1Api(kind_api).list_namespaced_pod(
            namespace, label_selector="skjob/run,dask.org/component=worker"
        )
        known = {pod.metadata.name for pod in pods.items}
        (kind_runs.folder / "seen").touch()
        process.wait(DEADLINE)
    assert len(told) == 2
    assert set(told) == known
    run_id = kind_runs.record()["run_id"]
    assert seconds_until_gone(api, run_id, namespace, 5) <= 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_takes_everything_down(
    kind_runs: Runs, api: Api, namespace: str, number: signal.Signals, code: int
) -> None:
    with kind_runs.searching() as process:
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    told = kind_runs.record()
    assert told["outcome"]["cause"] == f"stopped by {number.name}"
    assert leftovers(api, told["run_id"], namespace) == []


def test_a_second_signal_skips_waiting_but_not_the_deletion(kind_runs: Runs, api: Api, namespace: str) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = SEARCHING.replace("import time", f"import time; {deaf}")
    with kind_runs.searching(script=stubborn) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    seconds_until_gone(api, kind_runs.record()["run_id"], namespace, 30)


def test_a_script_that_exits_hard_leaves_nothing(kind_runs: Runs, api: Api, namespace: str) -> None:
    ended = kind_runs.run("import os; os._exit(7)")
    assert ended.returncode == 7
    assert leftovers(api, kind_runs.record()["run_id"], namespace) == []


@pytest.mark.timeout(240)
def test_kubernetes_itself_removes_what_a_killed_skjob_left(kind_runs: Runs, api: Api, namespace: str) -> None:
    """The anchor: 20 s of grace, and 10 s for the garbage collector."""
    with kind_runs.searching("--grace", "20s") as process:
        process.kill()
        process.wait(10)
        [left] = runs(api, namespace)
        assert leftovers(api, left.run_id, namespace) != []
        seconds_until_gone(api, left.run_id, namespace, 30)


@pytest.mark.timeout(240)
def test_a_script_that_thinks_for_longer_than_the_grace_keeps_its_cluster(kind_runs: Runs) -> None:
    script = """
        import time
        from joblib import Parallel, delayed
        print(Parallel()(delayed(abs)(i) for i in range(3)))
        time.sleep(60)
        print(Parallel()(delayed(abs)(i) for i in range(3)))
    """
    ended = kind_runs.run(script, "--grace", "20s")
    assert (ended.returncode, ended.stdout) == (0, "[0, 1, 2]\n[0, 1, 2]\n"), ended.stderr


def test_nobody_without_the_runs_certificate_gets_in(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    """A client and a worker with another cluster's certificate, or none, are refused; the run goes on."""
    script = """
        import json, sys, time
        from pathlib import Path
        from dask.distributed import Client
        print(json.dumps([Client.current().scheduler.address, len(Client.current().ncores())]), flush=True)
        while not Path("tried").exists():
            time.sleep(0.1)
        print(json.dumps(sorted(worker["name"] for worker in Client.current().scheduler_info()["workers"].values())))
    """
    other = tmp_path / "other"
    other.mkdir()
    make_certificates("another").write(other)
    attempt = """
        import sys
        from distributed import Client
        from distributed.security import Security
        address, folder = sys.argv[1:]
        security = Security(
            require_encryption=True, tls_ca_file=f"{folder}/ca.crt",
            tls_client_cert=f"{folder}/tls.crt", tls_client_key=f"{folder}/tls.key",
        ) if folder else None
        try:
            Client(address if folder else address.replace("tls:", "tcp:"), security=security, timeout=5)
        except OSError as error:
            sys.exit(f"refused: {type(error).__name__}")
    """
    with subprocess.Popen(
        kind_runs.command(script), cwd=kind_runs.folder, env=kind_runs.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address, _ = json.loads(process.stdout.readline())
        for folder in (str(other), ""):
            tried = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(attempt), address, folder],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert tried.returncode == 1
            assert "refused: " in tried.stderr
        intruder = start_intruder(kind_api, namespace, kind_runs.record()["cluster"]["name"], other)
        assert "intruder" in intruder
        assert "Registered to" not in intruder
        (kind_runs.folder / "tried").touch()
        names = json.loads(process.stdout.readline())
        process.wait(DEADLINE)
    assert process.returncode == 0
    assert not any("intruder" in name for name in names)


def start_intruder(kind_api: client.ApiClient, namespace: str, cluster: str, certificates: Path) -> str:
    """A worker in the same namespace with another cluster's certificate; what it logs until it gives up."""
    core = client.CoreV1Api(kind_api)
    content = {file.name: file.read_text() for file in certificates.iterdir()}
    core.create_namespaced_secret(namespace, {"metadata": {"name": "intruder"}, "stringData": content})
    command = [
        "python", "-m", "distributed.cli.dask_worker", f"tls://{cluster}-scheduler:8786", "--name", "intruder",
        "--no-nanny", "--death-timeout", "10", "--local-directory", "/tmp",
        "--tls-ca-file", "/tls/ca.crt", "--tls-cert", "/tls/tls.crt", "--tls-key", "/tls/tls.key",
    ]  # fmt: skip
    allowed_nothing = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "worker",
        "image": "localhost/skjob:dev",
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],
        "securityContext": allowed_nothing,
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    volumes = [{"name": "tls", "secret": {"secretName": "intruder"}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    spec["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "intruder"}, "spec": spec})
    try:
        deadline = time.monotonic() + 60
        while core.read_namespaced_pod("intruder", namespace).status.phase not in ("Succeeded", "Failed"):
            assert time.monotonic() < deadline, "the intruder did not give up"
            time.sleep(0.5)
        log: str = core.read_namespaced_pod_log("intruder", namespace)
        return log + "intruder ended"
    finally:
        core.delete_namespaced_pod("intruder", namespace)
        core.delete_namespaced_secret("intruder", namespace)


def test_a_kept_cluster_can_be_used_and_removed(
    kind_runs: Runs, kind_env: dict[str, str], namespace: str, api: Api
) -> None:
    ended = kind_runs.run("print('done')", "--keep")
    assert ended.returncode == 0, ended.stderr
    name = kind_runs.record()["cluster"]["name"]
    assert f"skjob: remove it: `skjob down {name} --context kind-skjob --namespace {namespace}`" in ended.stderr
    [kept] = runs(api, namespace)
    assert (kept.name, kept.state) == (name, "kept")
    script = f"""
        import socket, skjob
        from joblib import Parallel, delayed
        with skjob.cluster(name={name!r}, context="kind-skjob", namespace={namespace!r}, on="kubernetes"):
            print(set(Parallel()(delayed(socket.gethostname)() for _ in range(4))))
    """
    used = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=kind_runs.folder, env=kind_env, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert name in used.stdout, used.stderr
    down = [sys.executable, "-m", "skjob", "down", name, "--context", "kind-skjob", "--namespace", namespace]
    removed = subprocess.run(down, env=kind_env, capture_output=True, text=True, timeout=DEADLINE)
    assert removed.returncode == 0, removed.stderr
    assert leftovers(api, kept.run_id, namespace) == []


def test_adaptive_workers_come_and_a_deleted_one_is_replaced(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str
) -> None:
    script = """
        import socket, time
        from pathlib import Path
        from joblib import Parallel, delayed
        def work(i):
            time.sleep(1)
            return i
        print("searching", flush=True)
        print(Parallel()(delayed(work)(i) for i in range(50)) == list(range(50)))
    """
    core = client.CoreV1Api(kind_api)
    with kind_runs.searching("--workers", "1:3", script=script) as process:
        deadline = time.monotonic() + 60
        while True:
            pods = core.list_namespaced_pod(namespace, label_selector="dask.org/component=worker").items
            if sum(pod.status.phase == "Running" for pod in pods) == 3:
                break
            assert time.monotonic() < deadline, "three workers did not come"
            time.sleep(0.5)
        core.delete_namespaced_pod(pods[0].metadata.name, namespace)
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "True\n"), errors
    assert max(at["connected"] for at in kind_runs.record()["workers"]) == 3


def test_it_runs_here_where_kubernetes_has_no_operator(kind_runs: Runs, kind_env: dict[str, str]) -> None:
    """Nothing answers at the address of this context: `auto` runs on this machine and says why."""
    environment = kind_env | {"KUBECONFIG": str(dead_kubeconfig(kind_runs.folder))}
    (kind_runs.folder / "train.py").write_text("print('here')")
    ended = subprocess.run(
        [sys.executable, "-m", "skjob", "run", "train.py"],
        cwd=kind_runs.folder, env=environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
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
    pytest.param(
        ["--image", "localhost/no-such-image:1"], 124, "localhost/no-such-image:1", id="an image that does not exist"
    ),
    pytest.param(["--context", "mars"], 121, "the kubeconfig has no context `mars`", id="no such context"),
    pytest.param(
        ["--worker-cpu", "1000", "--start-timeout", "8s"], 124, "no node can hold a worker of 1000 CPUs",
        id="a thousand cores",
    ),
    pytest.param(["--namespace", "nowhere"], 124, "nowhere", id="no such namespace"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "code", "words"), BAD)
def test_what_can_not_run_ends_with_its_cause(
    kind_runs: Runs, options: list[str], code: int, words: str, namespace: str, api: Api
) -> None:
    ended = kind_runs.run("print('never')", *options)
    assert (ended.returncode, ended.stdout) == (code, "")
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\nhint: " in ended.stderr
    told = kind_runs.record()
    assert error == f"error: {told['outcome']['cause']}"
    assert leftovers(api, told["run_id"], namespace) == []


def test_an_api_that_refuses_is_told_as_such(kind_runs: Runs, kind_env: dict[str, str]) -> None:
    ended = kind_runs.run("print('never')", "--context", "dead", KUBECONFIG=str(dead_kubeconfig(kind_runs.folder)))
    assert (ended.returncode, ended.stdout) == (121, "")
    assert "error: the Kubernetes API of context `dead` at `http://127.0.0.1:9` does not answer" in ended.stderr


def test_who_may_not_run_is_told_what_is_missing(
    kind_runs: Runs, kind_api: client.ApiClient, kind_env: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    from users import user_environment

    nobody = user_environment(kind_api, kind_env, namespace, tmp_path, may_run=False)
    ended = kind_runs.run("print('never')", KUBECONFIG=nobody["KUBECONFIG"])
    assert (ended.returncode, ended.stdout) == (122, "")
    assert "`create, get, list, patch, delete jobs`" in ended.stderr
    assert "`list events`" in ended.stderr


def test_an_operator_that_is_dead_is_told_as_such(
    kind_runs: Runs, kind_api: client.ApiClient, namespace: str, api: Api
) -> None:
    """It is stopped for the length of this test: nothing acts on the DaskCluster, and nothing of the run stays."""
    apps = client.AppsV1Api(kind_api)
    operator = ("dask-kubernetes-operator", "dask-operator")
    apps.patch_namespaced_deployment_scale(*operator, {"spec": {"replicas": 0}})
    try:
        while client.CoreV1Api(kind_api).list_namespaced_pod("dask-operator").items:
            time.sleep(0.5)
        ended = kind_runs.run("print('never')")
        assert (ended.returncode, ended.stdout) == (123, "")
        assert "error: the Dask operator has not acted on `skjob-train-" in ended.stderr
        assert leftovers(api, kind_runs.record()["run_id"], namespace) == []
    finally:
        apps.patch_namespaced_deployment_scale(*operator, {"spec": {"replicas": 1}})
        while not apps.read_namespaced_deployment(*operator).status.ready_replicas:
            time.sleep(0.5)
