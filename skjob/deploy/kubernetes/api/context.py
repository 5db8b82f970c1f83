"""The cluster and namespace that a run uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """A context of the kubeconfig, or the service account of the pod that this process runs in."""

    name: str
    namespace: str
    server: str
    in_cluster: bool = False
