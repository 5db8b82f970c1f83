"""Test what `skjob install` applies: the operator's objects, and the defaults."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest

from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.operator.install import check_published, install_operator
from skjob.deploy.kubernetes.operator.manifests import (
    Defaults,
    custom_resource_definitions,
    default_operator_image,
    defaults_manifest,
    install_manifests,
    operator_manifests,
)
from skjob.deploy.kubernetes.operator.state import (
    CUSTOM_RESOURCES,
    OperatorState,
    Presence,
    has_operator,
    operator_state,
)
from skjob.errors import ConfigError, ForbiddenError, OperatorError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="session")
def definitions() -> list[dict[str, Any]]:
    """A megabyte of YAML."""
    return custom_resource_definitions()


@pytest.fixture(autouse=True)
def definitions_are_read_once(definitions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skjob.deploy.kubernetes.operator.manifests.custom_resource_definitions", lambda: definitions)


@pytest.fixture
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
    # The package also has templates with unresolved references, which no API accepts.
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
    ("deployment", "ready", "has_problem"),
    [
        (Presence.PRESENT, True, False),
        (Presence.PRESENT, False, True),
        (Presence.ABSENT, False, True),
        (Presence.UNKNOWN, False, False),
    ],
)
def test_an_operator_that_may_not_be_looked_at_is_in_no_trouble(
    deployment: Presence, ready: bool, has_problem: bool
) -> None:
    assert bool(OperatorState(True, deployment, ready=ready).problem) is has_problem


class FakeApi:
    """An API with given objects that accepts what is applied; Deployments never become available by themselves."""

    context = Context("fake", "team", "https://localhost")

    def __init__(
        self,
        *,
        deployments: list[dict[str, Any]] | None = None,
        pods: list[dict[str, Any]] | None = None,
        events: list[dict[str, Any]] | None = None,
        namespaces: tuple[str, ...] = ("team",),
    ) -> None:
        self.deployments = deployments
        self.pods = pods or []
        self.events = events or []
        self.namespaces = namespaces
        self.applied: list[dict[str, Any]] = []

    def serves(self, group_version: str) -> bool:
        return group_version == CUSTOM_RESOURCES

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[dict[str, Any]]:
        if kind == "Deployment":
            if self.deployments is None:
                raise ForbiddenError("deployments.apps is forbidden")
            return self.deployments
        return {"Pod": self.pods, "Event": self.events}.get(kind, [])

    def readable_events(self, namespace: str) -> Any:
        return self.list("Event", namespace)

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        if kind == "Namespace" and name not in self.namespaces:
            raise NotFound(f"namespaces {name} not found")
        conditions = [{"type": "Established", "status": "True"}] if kind == "CustomResourceDefinition" else []
        return {"metadata": {"name": name, "generation": 1}, "status": {"conditions": conditions}}

    def now(self) -> datetime:
        return datetime(2026, 11, 26, 12, 0, tzinfo=UTC)

    def apply(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        assert not dry_run
        self.applied.append(manifest)
        return manifest


def deployment(*, available: int, managed_by: str = "Helm") -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "dask-kubernetes-operator", "app.kubernetes.io/managed-by": managed_by}
    image = "registry:5000/dask/dask-kubernetes-operator:2026.1.0"
    return {
        "metadata": {"name": "theirs", "namespace": "platform", "labels": labels, "generation": 2},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": available},
    }


def ignore(_: str) -> None: ...


def test_an_operator_that_somebody_else_installed_is_left_alone() -> None:
    api: Any = FakeApi(deployments=[deployment(available=1)])
    said: list[str] = []
    done = install_operator(api, None, Defaults("team", worker_cpu="2"), timeout=1, notify=said.append)
    assert done.foreign
    assert done.applied == ("ConfigMap `skjob-defaults` in `team`",)
    assert [manifest["kind"] for manifest in api.applied] == ["ConfigMap"]
    assert said[0] == "a Dask operator already exists, `platform/theirs`, and is left as it is"
    assert (done.operator.version, done.operator.ready, done.operator.managed_by_skjob) == ("2026.1.0", True, False)


def test_somebody_elses_operator_that_does_not_run_is_an_error() -> None:
    api: Any = FakeApi(deployments=[deployment(available=0)])
    with pytest.raises(OperatorError, match="which skjob did not install, is not running"):
        install_operator(api, None, None, timeout=1, notify=ignore)


def test_an_operator_that_can_not_run_is_told_with_its_cause() -> None:
    waiting = {"reason": "InvalidImageName", "message": "invalid reference format"}
    pod = {
        "metadata": {"name": "operator-1", "creationTimestamp": "2026-11-23T16:00:00Z"},
        "spec": {"containers": [{"name": "operator", "image": "No:good:name"}]},
        "status": {"containerStatuses": [{"name": "operator", "state": {"waiting": waiting}}]},
    }
    api: Any = FakeApi(deployments=[], pods=[pod])
    with pytest.raises(OperatorError) as caught:
        install_operator(api, "No:good:name", None, timeout=60, notify=ignore)
    assert caught.value.message == (
        "the Dask operator cannot run: `No:good:name` is not the name of an image (`Pod/operator-1`)"
    )


def test_an_operator_that_never_comes_has_a_deadline() -> None:
    api: Any = FakeApi(deployments=[])
    with pytest.raises(OperatorError, match="is not running after 0 s"):
        install_operator(api, None, None, timeout=0, notify=ignore)


def refused(at: str) -> dict[str, Any]:
    """Return the operator's pod, by its namespace."""
    return {
        "reason": "FailedCreate",
        "involvedObject": {"kind": "ReplicaSet", "name": "dask-kubernetes-operator-5d"},
        "message": 'Error creating: pods "operator-1" is forbidden: violates PodSecurity',
        "lastTimestamp": at,
    }


@pytest.mark.parametrize(("at", "ends"), [("2026-11-26T11:50:00Z", False), ("2026-11-26T12:00:01Z", True)])
def test_a_refusal_of_an_earlier_installation_does_not_end_this_one(
    at: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem may have been fixed. If not, it is reported when the time is over."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    api: Any = FakeApi(deployments=[], events=[refused(at)])
    with pytest.raises(OperatorError, match="cannot run: the API rejects the pod: violates PodSecurity"):
        install_operator(api, None, None, timeout=60, notify=ignore)
    assert (clock[0] == 0) is ends
    assert (clock[0] > 60) is not ends


def test_defaults_of_a_namespace_that_is_not_there_end_it_before_anything_is_applied() -> None:
    api: Any = FakeApi(deployments=[], namespaces=())
    with pytest.raises(ConfigError, match="namespace `team` for the defaults does not exist"):
        install_operator(api, None, Defaults("team", image="x"), timeout=1, notify=ignore)
    assert api.applied == []


def test_who_may_not_look_does_not_know() -> None:
    api: Any = FakeApi()
    assert has_operator(api)
    assert operator_state(api) == OperatorState(custom_resources=True, deployment=Presence.UNKNOWN)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (
            OperatorState(False, Presence.UNKNOWN),
            "the API does not know DaskClusters: the Dask operator is not installed",
        ),
        (OperatorState(True, Presence.UNKNOWN), ""),
        (OperatorState(True, Presence.ABSENT), "the cluster has no Deployment of a Dask operator"),
        (OperatorState(True, Presence.PRESENT, "dask", "op"), "the Dask operator `dask/op` is not running"),
        (
            OperatorState(True, Presence.PRESENT, "dask", "op", version="2023.7.3", ready=True),
            "the Dask operator `dask/op` has version 2023.7.3, but skjob needs 2023.8 or later",
        ),
        (OperatorState(True, Presence.PRESENT, "dask", "op", version="2023.8.0", ready=True), ""),
        (OperatorState(True, Presence.PRESENT, "dask", "op", version="latest", ready=True), ""),
    ],
)
def test_what_can_be_seen_against_an_operator(state: OperatorState, problem: str) -> None:
    assert state.problem == problem


def test_an_operator_with_an_image_of_ones_own_is_not_given_another_unasked() -> None:
    """The cluster may not be able to pull the published image, and then no user's runs would start any more."""
    with pytest.raises(ConfigError) as caught:
        check_published(
            OperatorState(True, Presence.PRESENT, image="registry.example.org:5000/skjob:1", managed_by_skjob=True)
        )
    assert "`registry.example.org:5000/skjob:1`; without `--image` it would get `ghcr.io/dask/" in caught.value.message
    assert "`--image registry.example.org:5000/skjob:1` leaves it" in caught.value.hint


@pytest.mark.parametrize(
    "state",
    [
        OperatorState(False, Presence.ABSENT),
        OperatorState(True, Presence.UNKNOWN),
        OperatorState(True, Presence.PRESENT, image=default_operator_image(), managed_by_skjob=True),
        OperatorState(
            True, Presence.PRESENT, image="ghcr.io/dask/dask-kubernetes-operator:2026.1.0", managed_by_skjob=True
        ),
        OperatorState(True, Presence.PRESENT, image="registry.example.org/operator:1"),
    ],
)
def test_where_an_installation_needs_no_image(state: OperatorState) -> None:
    check_published(state)
