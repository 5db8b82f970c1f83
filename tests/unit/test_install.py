"""What `skjob install` applies: the operator's objects as a whole, and the defaults."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from skjob.cluster.install import (
    Defaults,
    OperatorState,
    Presence,
    defaults_manifest,
    install_manifests,
    operator_manifests,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return operator_manifests("example.org/operator:1", "dask-operator")


def named(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (manifest,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return manifest


def test_what_is_needed_comes_before_what_needs_it(manifests: list[dict[str, Any]]) -> None:
    assert [manifest["kind"] for manifest in manifests] == [
        "Namespace",
        *["CustomResourceDefinition"] * 4,
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
    ]


def test_the_custom_resources_are_complete(manifests: list[dict[str, Any]]) -> None:
    definitions = [manifest for manifest in manifests if manifest["kind"] == "CustomResourceDefinition"]
    assert {definition["metadata"]["name"] for definition in definitions} == {
        f"{plural}.kubernetes.dask.org"
        for plural in ("daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers")
    }
    # The package also has templates whose references are not resolved; no API takes those.
    assert "$ref" not in str(definitions)


def test_all_that_is_installed_is_skjobs_and_says_so(manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        if manifest["kind"] != "CustomResourceDefinition":
            assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "skjob"
            assert manifest["metadata"]["labels"]["app.kubernetes.io/version"] == version("dask-kubernetes")
            assert "skjob/run" not in manifest["metadata"]["labels"]


def test_the_operator_may_do_what_its_handlers_do_and_nothing_else(manifests: list[dict[str, Any]]) -> None:
    rules = named(manifests, "ClusterRole")["rules"]
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in rules)
    assert not any("secrets" in rule["resources"] or "pods/exec" in rule["resources"] for rule in rules)
    binding = named(manifests, "ClusterRoleBinding")
    account = named(manifests, "ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert binding["roleRef"]["name"] == named(manifests, "ClusterRole")["metadata"]["name"]


def test_the_operators_pod_is_restricted_and_sized(manifests: list[dict[str, Any]]) -> None:
    deployment = named(manifests, "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = pod["containers"]
    assert container["image"] == "example.org/operator:1"
    assert container["command"] == ["kopf", "run", "-m", "dask_kubernetes.operator.controller"]
    assert container["args"][:2] == ["--liveness=http://0.0.0.0:8080/healthz", "--all-namespaces"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_operator_is_that_of_the_installed_package() -> None:
    deployment = named(install_manifests(None, None), "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"ghcr.io/dask/dask-kubernetes-operator:{version('dask-kubernetes')}"


def test_defaults_are_written_where_there_are_any() -> None:
    assert install_manifests(None, Defaults("team"))[-1]["kind"] == "Deployment"
    assert install_manifests(None, Defaults("team", worker_cpu="2"))[-1]["kind"] == "ConfigMap"
    assert defaults_manifest(Defaults("team", image="example.org/image:1", worker_memory="4Gi")) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "skjob-defaults",
            "namespace": "team",
            "labels": {"app.kubernetes.io/name": "skjob", "app.kubernetes.io/managed-by": "skjob"},
        },
        "data": {"image": "example.org/image:1", "worker-memory": "4Gi"},
    }


@pytest.mark.parametrize(
    ("deployment", "ready", "dead"),
    [
        (Presence.PRESENT, True, False),
        (Presence.PRESENT, False, True),
        (Presence.ABSENT, False, True),
        (Presence.UNKNOWN, False, False),
    ],
)
def test_an_operator_that_may_not_be_looked_at_is_not_dead(deployment: Presence, ready: bool, dead: bool) -> None:
    assert OperatorState(True, deployment, ready=ready).dead is dead
