"""Which cluster and namespace a run talks to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """A context of the kubeconfig, or the service account of the pod that this runs in."""

    name: str
    namespace: str
    server: str
    in_cluster: bool = False
