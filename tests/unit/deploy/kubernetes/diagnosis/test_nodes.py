"""Which nodes a run's pods may have, by the platform team's selector and tolerations."""

from typing import Any

import pytest

from skjob.config.namespace_policy import NamespacePolicy, NodeKind, Scheduling
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.diagnosis.capacity import best_node
from skjob.deploy.kubernetes.diagnosis.nodes import as_nodes, find_nodes, open_to
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
    assert node["spec"]["taints"] == [BATCH]  # made anew, not changed


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


def test_nothing_known() -> None:
    assert find_nodes(_Forbidding(), NamespacePolicy()) is None
    assert (
        find_nodes(_Forbidding(), NamespacePolicy(nodes=(NodeKind("a", 1, 1),), scheduling=Scheduling({"x": "y"})))
        is None
    )
