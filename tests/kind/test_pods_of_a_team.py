"""Pod settings that a platform team sets by the chart's `pods`, in a run of one of the team's users.

Tasks and the pods' specs show which settings apply. `test_policies.py` has what is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client
from support.command import run_command
from support.releases import USER, Release, installed
from support.runs import DEADLINE, Runs
from support.users import user_environment
from support.wait import until

ACCOUNT = "trainer"
AUDIENCE = "sts.example.org"
PODS: dict[str, Any] = {
    "labels": {"cost-centre": "42"},
    "annotations": {"example.org/note": "a, b=c"},
    "imagePullSecrets": ["registry"],
    "env": [
        {"name": "PLAIN", "value": "as it is"},
        {"name": "HUB_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "region"}}},
    ],
    "mounts": [
        {"mountPath": "/mnt/data", "persistentVolumeClaim": {"claimName": "data"}},
        {"mountPath": "/mnt/scratch", "persistentVolumeClaim": {"claimName": "data"}, "readOnly": False},
        {"mountPath": "/etc/site", "configMap": {"name": "site"}},
        {"mountPath": "/etc/hub", "secret": {"secretName": "hub"}},
        {"mountPath": "/var/run/secrets/cloud", "serviceAccountToken": {"audience": AUDIENCE}},
    ],
    "serviceAccountName": ACCOUNT,
}
SCRIPT = """
    import json, os, time
    from pathlib import Path
    from joblib import Parallel, delayed

    def write(folder):
        path = Path(folder, f"skjob-{os.getpid()}-{time.monotonic_ns()}")
        path.write_text("mine")
        written = path.read_text()
        path.unlink()
        return written

    def inspect(_):
        return {
            "variables": [os.environ.get("PLAIN"), os.environ.get("HUB_TOKEN"), os.environ.get("REGION")],
            "files": [Path("/etc/site/region").read_text(), Path("/etc/hub/token").read_text()],
            "data": os.access("/mnt/data", os.W_OK),
            "scratch": write("/mnt/scratch"),
            "token": Path("/var/run/secrets/cloud/token").read_text(),
            "api": os.path.exists("/var/run/secrets/kubernetes.io"),
        }

    print("searching", flush=True)
    reports = []
    while not reports or not Path("stop").exists():
        reports = Parallel(n_jobs=2)(delayed(inspect)(n) for n in range(4))
    print(json.dumps(reports))
"""


@dataclass(frozen=True)
class TeamRun:
    """A run: its pods, what its tasks reported, and its user's environment."""

    release: Release
    pods: dict[str, client.V1Pod]
    reports: list[dict[str, Any]]
    user: dict[str, str]


@pytest.fixture(scope="module")
def team_run(
    shared_env: dict[str, str], kind_api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TeamRun]:
    core = client.CoreV1Api(kind_api)
    # The chart's quota permits no claims in a team's namespace by default.
    values = {"pods": PODS, "quota": {"persistentvolumeclaims": "1"}}
    with installed(shared_env, kind_api, **values) as release, static_volume(core, release.namespace):
        namespace, folder = release.namespace, tmp_path_factory.mktemp("run")
        core.create_namespaced_service_account(namespace, {"metadata": {"name": ACCOUNT}})
        core.create_namespaced_secret(namespace, {"metadata": {"name": "hub"}, "stringData": {"token": "s3cret"}})
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "site"}, "data": {"region": "north"}})
        user = user_environment(kind_api, shared_env, namespace, folder, may_run=False, name=USER)
        with Runs(folder, user, namespace).searching(script=SCRIPT) as process:
            until(lambda: len(running_pods(core, namespace)) == 3)
            pods = running_pods(core, namespace)
            (folder / "stop").touch()
            out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        assert "write files" not in err
        yield TeamRun(release, pods, json.loads(out), user)


@contextmanager
def static_volume(core: client.CoreV1Api, namespace: str) -> Iterator[None]:
    """Create a static volume, which is a world-writable folder of each node, and a claim for it."""
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {"capacity": {"storage": "1Mi"}, "hostPath": {"path": "/tmp"}, **common}
    claim = {"resources": {"requests": {"storage": "1Mi"}}, "volumeName": namespace, **common}
    core.create_persistent_volume({"metadata": {"name": namespace}, "spec": volume})
    try:
        core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "data"}, "spec": claim})
        yield
    finally:
        core.delete_persistent_volume(namespace)


def running_pods(core: client.CoreV1Api, namespace: str) -> dict[str, client.V1Pod]:
    pods = core.list_namespaced_pod(namespace, label_selector="dask.org/cluster-name").items
    return {pod.metadata.name: pod for pod in pods if pod.status.phase == "Running"}


def test_tasks_have_the_teams_variables_and_mounts(team_run: TeamRun) -> None:
    assert len(team_run.reports) == 4
    for each in team_run.reports:
        assert each["variables"] == ["as it is", "s3cret", "north"]
        assert each["files"] == ["north", "s3cret"]
        # Both mounts are the same world-writable folder of the node.
        assert (each["data"], each["scratch"]) == (False, "mine")


def test_only_token_is_for_the_teams_audience(team_run: TeamRun) -> None:
    for each in team_run.reports:
        payload = each["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert claims["aud"] == [AUDIENCE]
        assert claims["sub"] == f"system:serviceaccount:{team_run.release.namespace}:{ACCOUNT}"
        assert each["api"] is False


def test_pods_have_the_teams_settings(team_run: TeamRun) -> None:
    accounts: dict[str, set[str]] = {}
    for pod in team_run.pods.values():
        role = pod.metadata.labels["dask.org/component"]
        accounts.setdefault(role, set()).add(pod.spec.service_account_name)
        assert pod.metadata.labels["cost-centre"] == "42"
        assert pod.metadata.labels["sidecar.istio.io/inject"] == "false"
        assert pod.metadata.annotations["example.org/note"] == "a, b=c"
        assert pod.metadata.annotations["sidecar.istio.io/inject"] == "false"
        assert [each.name for each in pod.spec.image_pull_secrets] == ["registry"]
        assert pod.spec.automount_service_account_token is False
        mounts = {mount.mount_path for container in pod.spec.containers for mount in container.volume_mounts}
        assert ("/mnt/data" in mounts) is (role == "worker")
    assert accounts == {"scheduler": {"default"}, "worker": {ACCOUNT}}


def test_permissions_of_the_workers_account_are_reported(
    team_run: TeamRun,
    kind_env: dict[str, str],
    kind_api: client.ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """doctor and the chart's notes warn the platform team; users are not allowed to list RoleBindings."""
    namespace = team_run.release.namespace
    client.RbacAuthorizationV1Api(kind_api).create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": "too-much"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    )
    doctor = ["doctor", "--context", "kind-skjob", "--namespace", namespace]
    output = run_command(doctor, kind_env, monkeypatch, capsys).stdout
    assert f"`{ACCOUNT}`, the workers' service account, has rights in Kubernetes: RoleBinding `too-much`" in output
    output = run_command(doctor, team_run.user, monkeypatch, capsys).stdout
    assert "not allowed to list RoleBindings" in output
    notes = team_run.release.upgrade(pods=PODS, quota={"persistentvolumeclaims": "1"}).stdout
    assert f"the service account `{ACCOUNT}` of team" in notes
    assert "has rights in Kubernetes: RoleBinding `too-much`." in notes


def test_helm_test_passes_with_pod_settings(team_run: TeamRun) -> None:
    output = team_run.release.helm("test", team_run.release.name, "--logs").stdout
    assert "ok: no pod has a token for the Kubernetes API" in output
    assert "ok: pods with another Secret are refused" in output
    assert "ok: a DaskCluster is not refused" in output
