"""DaskClusters whose pods only sleep: all that Kubernetes and the operator do, without starting Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client

from support.namespaces import IMAGE

KIND = ("kubernetes.dask.org", "v1")


def sleeping_spec(name: str, workers: int) -> dict[str, Any]:
    """Return the spec of a sleeping DaskCluster. Its pods satisfy the restricted standard."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "sleeper",
        "image": IMAGE,
        "command": ["sleep", "3600"],
        "ports": [{"name": "tcp-comm", "containerPort": 8786}],
        "securityContext": security,
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
    }
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [{"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"}],
    }
    return {"worker": {"replicas": workers, "spec": pod}, "scheduler": {"spec": pod, "service": service}}


@contextmanager
def sleeping_cluster(kind_api: client.ApiClient, namespace: str) -> Iterator[None]:
    """Create a sleeping DaskCluster that no run owns, with one worker."""
    custom, name = client.CustomObjectsApi(kind_api), "sleeping"
    body = {
        "apiVersion": "/".join(KIND),
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": sleeping_spec(name, 1),
    }
    custom.create_namespaced_custom_object(*KIND, namespace, "daskclusters", body)
    try:
        yield
    finally:
        custom.delete_namespaced_custom_object(*KIND, namespace, "daskclusters", name)
