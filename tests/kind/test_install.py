"""`skjob install` on a real cluster on which the operator is already installed, as on the tests' cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.command import Result, run_here
from support.operators import denied_requests

from skjob.deploy.kubernetes.api import client as kube
from skjob.deploy.kubernetes.operator.manifests import OPERATOR_NAMESPACE, operator_manifests
from skjob.deploy.kubernetes.operator.state import OPERATOR_NAME, Presence, has_operator, operator_state

Skjob = Callable[..., Result]


@pytest.fixture
def skjob(kind_env: dict[str, str], tmp_path: Path) -> Skjob:
    """Runs the `skjob` command."""

    def call(*arguments: str, **environment: str) -> Result:
        return run_here([*arguments], kind_env | environment, tmp_path)

    return call


@pytest.fixture
def api(kind_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> kube.Api:
    monkeypatch.setenv("KUBECONFIG", kind_env["KUBECONFIG"])
    return kube.connect_api(None)


def test_installed_operator_is_detected(api: kube.Api, kind_cluster: Any) -> None:
    assert has_operator(api)
    state = operator_state(api)
    assert (state.custom_resources, state.deployment, state.ready, state.managed_by_skjob) == (
        True,
        Presence.PRESENT,
        True,
        True,
    )
    assert (state.namespace, state.name, state.image) == (OPERATOR_NAMESPACE, OPERATOR_NAME, kind_cluster.image)


def test_second_installation_changes_only_the_defaults(
    api: kube.Api, skjob: Skjob, kind_cluster: Any, namespace: str
) -> None:
    # The defaults from the fixture lack skjob's labels; `install` would add them, and they would count as left over.
    api.delete("ConfigMap", "skjob-defaults", namespace)
    before = api.get("Deployment", OPERATOR_NAME, OPERATOR_NAMESPACE)
    done = skjob("install", "--image", kind_cluster.image, "--namespace", namespace, "--worker-cpu", "250m")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"runs in `{OPERATOR_NAMESPACE}` from `{kind_cluster.image}`" in done.stderr
    after = api.get("Deployment", OPERATOR_NAME, OPERATOR_NAMESPACE)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    defaults = api.get("ConfigMap", "skjob-defaults", namespace)
    assert defaults["data"] == {"image": kind_cluster.image, "worker-cpu": "250m"}
    api.delete("ConfigMap", "skjob-defaults", namespace)


def test_defaults_require_an_existing_namespace(skjob: Skjob, kind_cluster: Any) -> None:
    done = skjob("install", "--image", kind_cluster.image, "--namespace", "nonesuch")
    assert done.returncode == 120
    assert "namespace `nonesuch` for the defaults does not exist" in done.stderr


def test_invalid_values_are_rejected_before_anything_is_applied(skjob: Skjob) -> None:
    done = skjob("install", "--worker-memory", "much", "--worker-cpu", "none")
    assert done.returncode == 120
    assert "--worker-memory" in done.stderr
    assert "--worker-cpu" in done.stderr


def test_dry_run_needs_no_cluster(skjob: Skjob) -> None:
    options = ("--dry-run", "--image", "example.org/image:1", "--worker-memory", "4Gi")
    done = skjob("install", *options, KUBECONFIG="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    manifests = list(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert manifests[:-1] == operator_manifests("example.org/image:1", OPERATOR_NAMESPACE)
    assert manifests[-1]["data"] == {"image": "example.org/image:1", "worker-memory": "4Gi"}
    assert manifests[-1]["metadata"]["namespace"] == "default"


def test_api_accepts_every_manifest(api: kube.Api, kind_cluster: Any) -> None:
    for manifest in operator_manifests(kind_cluster.image, OPERATOR_NAMESPACE):
        api.apply(manifest, dry_run=True)


def test_operator_was_denied_no_request(kind_api: client.ApiClient) -> None:
    """Its ClusterRole has fewer permissions than the stock chart's: the other tests' runs must not need more."""
    core = client.CoreV1Api(kind_api)
    pods = core.list_namespaced_pod(OPERATOR_NAMESPACE, label_selector=f"app.kubernetes.io/name={OPERATOR_NAME}").items
    assert pods
    for pod in pods:
        log = core.read_namespaced_pod_log(pod.metadata.name, OPERATOR_NAMESPACE)
        assert denied_requests(kind_api, log) == []


def test_denied_requests_are_found_in_the_log(kind_api: client.ApiClient) -> None:
    user = f'is forbidden: User "system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_NAME}" cannot'
    granted_request = f'pods {user} watch resource "pods" in API group "" at the cluster scope'
    denied_request = f'secrets {user} get resource "secrets" in API group "" in the namespace "default"'
    other_request = f'{user} get path "/metrics"'
    assert denied_requests(kind_api, f"{granted_request}\n{denied_request}\n{other_request}\nit acts\n") == [
        denied_request,
        other_request,
    ]
