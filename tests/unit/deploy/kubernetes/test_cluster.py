"""Test how many workers a cluster on Kubernetes requests if the API does not always comply, and where its pods go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import NodeKind, NodePool, Scheduling
from skjob.config.plan import Machine, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Rejected
from skjob.deploy.kubernetes.cluster import KubernetesCluster, _on_one_architecture
from skjob.deploy.kubernetes.diagnosis.nodes import as_nodes
from skjob.deploy.kubernetes.diagnosis.pods import Pods
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.errors import SkjobError, Unanswered

pytestmark = pytest.mark.unit


class _Group(Api):
    """An API that accepts numbers of workers, except when it is told to fail."""

    def __init__(self, *failures: SkjobError | None) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.failures = list(failures)
        self.replicas: list[int] = []

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        self.replicas.append(patch["spec"]["worker"]["replicas"])
        return {}

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        return True


def _cluster(api: Api, folder: Path, notes: list[str] | None = None) -> KubernetesCluster:
    names = RunNames("20261126-120000-aaaaaa", "train", "ann")
    plan = make_plan(Settings(workers=WorkerRange(2, 20)), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    return KubernetesCluster(api, names, plan, folder, [].append if notes is None else notes.append)


def test_workers_that_the_api_was_not_reached_for_are_asked_for_again(tmp_path: Path) -> None:
    api = _Group(Unanswered("the API does not answer"))
    cluster = _cluster(api, tmp_path)
    with pytest.raises(Unanswered):
        cluster.add_workers(5)
    assert cluster.requested() == 2
    cluster.add_workers(5)
    assert (cluster.requested(), api.replicas) == (5, [5])


def test_workers_that_new_limits_refuse_are_told_and_end_nothing(tmp_path: Path) -> None:
    notes: list[str] = []
    cluster = _cluster(_Group(Rejected("no run may have more than 3")), tmp_path, notes)
    cluster.add_workers(5)
    assert cluster.requested() == 2
    assert notes == ["there will be no more than 2 workers: no run may have more than 3"]


def test_workers_that_went_are_not_asked_for_any_more(tmp_path: Path) -> None:
    api = _Group(None, Unanswered("the API does not answer"))
    cluster = _cluster(api, tmp_path)
    cluster.add_workers(5)
    with pytest.raises(Unanswered):
        cluster.remove_workers([f"{cluster.name}-default-worker-{number}" for number in range(2)])
    assert cluster.requested() == 3
    cluster.add_workers(4)
    assert api.replicas == [5, 3, 4]


def test_one_that_went_is_replaced_although_the_number_could_not_be_lowered(tmp_path: Path) -> None:
    """The operator reacts to a changed number, so it must see the lower one first."""
    api = _Group(Unanswered("the API does not answer"))
    cluster = _cluster(api, tmp_path)
    with pytest.raises(Unanswered):
        cluster.remove_workers([f"{cluster.name}-default-worker-0"])
    cluster.add_workers(2)
    cluster.add_workers(3)
    assert (cluster.requested(), api.replicas) == (3, [1, 2, 3])


AMD, ARM = ({"kubernetes.io/arch": name} for name in ("amd64", "arm64"))
POOLS = (NodePool("batch", {"pool": "batch"}), NodePool("new", {"pool": "new"}))
UP = as_nodes([NodeKind("a", 1, 1, 1, {"pool": "batch", **ARM}), NodeKind("b", 1, 1, 1, {"pool": "web", **AMD})])
OF_NEW = NodeKind("n", 1, 1, 1, {"pool": "new", **ARM})


@pytest.mark.parametrize(
    ("rules", "architecture", "words"),
    [
        (
            NamespacePolicy(node_pools=POOLS).in_pool("batch"),
            "arm64",
            "nodes have different architectures: pods run on",
        ),
        (NamespacePolicy(node_pools=POOLS).in_pool("new"), "amd64", "no node of node pool `new` is up: assuming"),
        (
            NamespacePolicy(node_pools=POOLS, nodes=(OF_NEW,)).in_pool("new"),
            "arm64",
            "nodes have different architectures: pods run on",
        ),
        (
            NamespacePolicy(scheduling=Scheduling({"pool": "new"})),
            "amd64",
            "no node that `node-selector` chooses is up: assuming",
        ),
    ],
)
def test_what_is_said_of_the_architecture_of_pods(rules: NamespacePolicy, architecture: str, words: str) -> None:
    api, notes = _Group(), list[str]()
    pods = Pods(api, "train", rules)
    pods.all_nodes = UP
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    placed = _on_one_architecture(replace(plan, rules=rules), pods, notes.append)
    assert placed.rules.architecture == architecture
    assert notes == [f"{words} `{architecture}`; `--arch` chooses another"]
