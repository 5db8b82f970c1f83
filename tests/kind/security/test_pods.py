"""Permissions and resources of a run's pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from support.victim_run import VictimRun

Row = Callable[..., None]


def test_pods_satisfy_the_restricted_standard(
    attacked: VictimRun, kind_api: client.ApiClient, shared_namespace: str, security_row: Row
) -> None:
    """The namespace rejects unrestricted pods, and the run's pods exist in it."""
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in attacked.pods} == {
        "scheduler", "worker", "environment",
    }  # fmt: skip
    container = {"name": "c", "image": "localhost/skjob:dev", "securityContext": {"privileged": True}}
    rejection = rejection_of_pod(kind_api, shared_namespace, container | with_resources())
    assert 'violates PodSecurity "restricted' in rejection
    for report in (*attacked.report["in workers"], attacked.report["in the scheduler"]):
        assert (report["user"], report["root"]) == (1000, "Operation not permitted")
    security_row("pods pass the `restricted` standard", "a task calls setuid(0)", "Operation not permitted", "yes")


def test_containers_have_requests_and_a_memory_limit(
    attacked: VictimRun, kind_api: client.ApiClient, shared_namespace: str, security_row: Row
) -> None:
    containers = [
        container
        for pod in attacked.pods
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", []))
    ]
    assert len(containers) >= 4
    for container in containers:
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    unsized = {"name": "c", "image": "localhost/skjob:dev", "securityContext": restricted_security_context()}
    assert "must specify" in rejection_of_pod(kind_api, shared_namespace, unsized)
    security_row(
        "requests and a memory limit in each container",
        "a quota that refuses any without",
        f"all {len(containers)} are there",
        "yes",
    )


def restricted_security_context() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def with_resources() -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "8Mi"}}}


def rejection_of_pod(kind_api: client.ApiClient, namespace: str, container: dict[str, Any]) -> str:
    """Create a pod that the API must reject; return its error message."""
    pod = {"metadata": {"name": "refused"}, "spec": {"containers": [container]}}
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(kind_api).create_namespaced_pod(namespace, pod)
    return str(json.loads(refused.value.body)["message"])


def test_tasks_cannot_write_to_the_root_file_system(attacked: VictimRun, security_row: Row) -> None:
    for report in (*attacked.report["in workers"], attacked.report["in the scheduler"]):
        writes = {folder: tuple(outcome) for folder, outcome in report["writes"].items()}
        assert writes.pop("/tmp") == ("written", "")
        assert len(writes) == 5
        assert {outcome[1] for outcome in writes.values()} == {"Read-only file system"}, writes
    security_row(
        "the root file system is read-only",
        "a task writes to /, /etc, site-packages, its source and certificates",
        "Read-only file system",
        "yes",
    )


def test_pods_have_no_api_token(attacked: VictimRun, security_row: Row) -> None:
    """Kubernetes would mount a token as a projected volume."""
    for report in (*attacked.report["in workers"], attacked.report["in the scheduler"]):
        assert report["token"] is False
        assert report["api"] in (401, 403)
    for pod in attacked.pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    security_row(
        "no pod has a service account's token",
        "a task looks for one, and asks the API for Secrets",
        f"none there; {attacked.report['in workers'][0]['api']}",
        "yes",
    )
