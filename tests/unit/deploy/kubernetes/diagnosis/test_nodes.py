"""Test which nodes a run's pods may use, by the platform team's selector and tolerations."""

from typing import Any

import pytest

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import NodeKind, Scheduling
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.diagnosis.capacity import best_node
from skjob.deploy.kubernetes.diagnosis.nodes import as_nodes, common_architecture, find_nodes, open_to
from skjob.deploy.kubernetes.environment_cache import platform_of
from skjob.errors import ForbiddenError

BATCH = {"key": "batch", "value": "yes", "effect": "NoSchedule"}


def _node(name: str, labels: dict[str, str] | None = None, *taints: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"metadata": metadata, "spec": {"taints": list(taints)} if taints else {}}


def test_only_nodes_that_the_selector_chooses() -> None:
    nodes = [_node("a", {"pool": "batch", "zone": "1"}), _node("b", {"pool": "web"}), _node("c")]
    assert open_to(nodes, Scheduling(node_selector={"pool": "batch"})) == nodes[:1]
    assert open_to(nodes, Scheduling()) == nodes


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "batch", "operator": "Exists"}, True),
        ({"key": "batch", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "batch", "value": "yes"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "batch", "value": "no"}, False),
        ({"key": "batch"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "batch", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_that_is_tolerated_is_none(toleration: dict[str, str], tolerated: bool) -> None:
    node = _node("a", None, BATCH)
    [found] = open_to([node], Scheduling(tolerations=(toleration,)))
    assert found["spec"]["taints"] == ([] if tolerated else [BATCH])
    assert node["spec"]["taints"] == [BATCH]  # a new object, not changed in place


class _Forbidding(Api):
    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        raise ForbiddenError("nodes is forbidden")


def test_who_may_not_list_nodes_knows_of_them_what_the_platform_team_tells() -> None:
    kinds = (
        NodeKind("small", 2.0, 2**33, labels={"pool": "batch"}),
        NodeKind("large", 8.0, 2**35, 2, {"pool": "batch", "kubernetes.io/arch": "arm64"}),
        NodeKind("huge", 64.0, 2**38),
    )
    nodes = find_nodes(_Forbidding(), NamespacePolicy(nodes=kinds, scheduling=Scheduling({"pool": "batch"})))
    assert nodes is not None
    fit = best_node(nodes, 4.0, 2**30)
    assert (fit.nodes, fit.fitting, fit.largest) == (3, 2, "large")
    assert platform_of(nodes).startswith("x86_64-")  # nodes of several kinds
    assert platform_of(as_nodes(kinds[1:2])).startswith("aarch64-")


def _of(architecture: str, pool: str) -> dict[str, Any]:
    labels = {"pool": pool, "kubernetes.io/arch": architecture}
    return {**_node(f"{pool}-{architecture}", labels), "status": {"nodeInfo": {"architecture": architecture}}}


def test_where_nodes_differ_all_pods_have_one_architecture() -> None:
    same = [_of("arm64", "a"), _of("arm64", "b")]
    mixed = [*same, _of("amd64", "b")]

    def found(nodes: list[dict[str, Any]], selector: dict[str, str], *kinds: NodeKind) -> str:
        return common_architecture(nodes, NamespacePolicy(scheduling=Scheduling(selector), nodes=kinds))

    assert found(same, {}) == ""
    assert found(mixed, {"pool": "a"}) == "arm64"
    assert found(mixed, {"pool": "b"}) == "amd64"
    # Nodes of which none is up, such as those of a pool that is scaled to zero: what the platform team says of them.
    arm = NodeKind("arm", 1.0, 1, labels={"pool": "new", "kubernetes.io/arch": "arm64"})
    assert found(mixed, {"pool": "new"}) == "amd64"
    assert found(mixed, {"pool": "new"}, arm) == "arm64"
    assert found(mixed, {"pool": "new"}, arm, NodeKind("amd", 1.0, 1, labels={"pool": "new"})) == "amd64"
    assert found(mixed, {"pool": "other"}, arm) == "amd64"
    assert found([*mixed, _of("amd64", "new")], {"pool": "new"}, arm) == "amd64"
    assert platform_of(mixed, "arm64").startswith("aarch64-")


def test_nodes_with_gpus() -> None:
    kinds = (NodeKind("plain", 8.0, 2**35), NodeKind("gpu", 4.0, 2**33, gpus=2))
    nodes = as_nodes(kinds)
    assert best_node(nodes, 2.0, 2**30, gpus=2).fits
    assert not best_node(nodes, 6.0, 2**30, gpus=1).fits  # the one with room has none
    assert best_node(nodes, 1.0, 2**30, gpus=4).message == (
        "no node can hold a worker of 4 GPUs; the largest, `gpu`, has 4 CPUs and 8 GiB and 2 GPUs"
    )
    assert best_node(nodes[:1], 1.0, 2**30, gpus=1).message == (
        "no node can hold a worker of 1 CPU and 1 GiB and 1 GPU: none of 1 nodes has a GPU"
    )
    assert best_node(nodes, 16.0, 2**30).message == (
        "no node can hold a worker of 16 CPUs; the largest, `plain`, has 8 CPUs and 32 GiB"
    )


def test_nothing_known() -> None:
    assert find_nodes(_Forbidding(), NamespacePolicy()) is None
    assert (
        find_nodes(_Forbidding(), NamespacePolicy(nodes=(NodeKind("a", 1, 1),), scheduling=Scheduling({"x": "y"})))
        is None
    )
