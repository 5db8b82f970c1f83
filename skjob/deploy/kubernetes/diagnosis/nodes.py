"""Find the nodes that a run's pods may use: as the API lists them or, if the user may not, as the platform team does.

Nodes from which the rules keep pods away do not count; a taint that the rules tolerate is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import ARCHITECTURE_LABEL, DEFAULT_ARCHITECTURE, GPU, NodeKind, Scheduling
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ForbiddenError


def find_nodes(api: Api, rules: NamespacePolicy) -> list[Manifest] | None:
    """Return the nodes for workers; None if there are none, or the user may not list them and the rules name none."""
    return open_to(all_nodes(api, rules), rules.scheduling) or None


def all_nodes(api: Api, rules: NamespacePolicy) -> list[Manifest]:
    """Return every node, including those from which the rules keep pods away.

    The list is empty if the user may not list nodes and the rules name none.
    """
    try:
        return api.list("Node")
    except ForbiddenError:
        return as_nodes(rules.nodes)


def known_nodes(nodes: Sequence[Manifest], rules: NamespacePolicy) -> list[Manifest]:
    """Return the nodes for workers; if none of them is up, those that the rules say there may be."""
    return open_to(nodes, rules.scheduling) or open_to(as_nodes(rules.nodes), rules.scheduling)


def common_architecture(nodes: Sequence[Manifest], rules: NamespacePolicy) -> str:
    """Return the architecture that all pods of a run must have; empty if all nodes have the same one.

    Packages are installed for one architecture, and an image may support only one.
    """
    if len(_architectures(nodes)) < 2:
        return ""
    known = _architectures(known_nodes(nodes, rules))
    return known.pop() if len(known) == 1 else DEFAULT_ARCHITECTURE


def _architectures(nodes: Sequence[Manifest]) -> set[str]:
    """Return the architectures of nodes, from the label that selectors use if there is one."""
    return {labels_of(node).get(ARCHITECTURE_LABEL) or node["status"]["nodeInfo"]["architecture"] for node in nodes}


def as_nodes(kinds: Sequence[NodeKind]) -> list[Manifest]:
    """Return the nodes of these kinds, as the API would list them."""
    return [
        {
            "metadata": {"name": kind.name, "labels": dict(kind.node_labels)},
            "spec": {},
            "status": {
                "allocatable": {"cpu": f"{kind.cpu:g}", "memory": str(kind.memory), GPU: str(kind.gpus)},
                "nodeInfo": {"architecture": kind.node_labels[ARCHITECTURE_LABEL]},
            },
        }
        for kind in kinds
        for _ in range(kind.count)
    ]


def open_to(nodes: Sequence[Manifest], scheduling: Scheduling) -> list[Manifest]:
    """Return the nodes that match the selector, without the taints that are tolerated."""
    return [
        _without_tolerated(node, scheduling.tolerations)
        for node in nodes
        if scheduling.node_selector.items() <= labels_of(node).items()
    ]


def labels_of(node: Manifest) -> Mapping[str, str]:
    """Return a node's labels, of which it may have none."""
    return node["metadata"].get("labels") or {}


def _without_tolerated(node: Manifest, tolerations: Sequence[Mapping[str, Any]]) -> Manifest:
    taints = node.get("spec", {}).get("taints") or []
    remaining = [taint for taint in taints if not any(_tolerates(toleration, taint) for toleration in tolerations)]
    return node if remaining == taints else {**node, "spec": {**node["spec"], "taints": remaining}}


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Return whether a toleration matches a taint, by Kubernetes' rules: what it leaves out matches anything."""
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
