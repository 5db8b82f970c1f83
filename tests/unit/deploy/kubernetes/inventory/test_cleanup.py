"""Test removals against an API with its own behaviour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from clocks import Clock
from run_objects import NAMES, NOW, OTHERS, Manifest, anchor, item

from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound, Rejected
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.inventory.cleanup import KOPF_FINALIZER, remove
from skjob.errors import AccessError, CleanupFailed, ForbiddenError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    """A clock and sleep for removals."""
    return clock_of(cleanup)


class StubbornApi:
    """An API that keeps objects until their finalizers are gone."""

    context = Context("kind-skjob", "team", "https://localhost")

    def __init__(self, objects: dict[str, list[Manifest]], *, forbidden: tuple[str, ...] = (), away: int = 0) -> None:
        self.objects = {kind: [dict(found) for found in items] for kind, items in objects.items()}
        self.forbidden = forbidden
        self.away = away
        self.protected = ""
        self.patched: list[tuple[str, Manifest]] = []
        self.given_up: list[str] = []

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        assert not fields
        assert selector.startswith("app.kubernetes.io/managed-by=skjob,skjob/run")
        if kind in self.forbidden:
            raise ForbiddenError(f"cannot list {kind}")
        if kind not in self.objects:
            raise NotFound("the server could not find the requested resource")
        wanted = selector.partition("skjob/run=")[2]
        return [
            found
            for found in self.objects[kind]
            if found["metadata"]["namespace"] == namespace
            and found["metadata"]["labels"]["skjob/run"].startswith(wanted)
        ]

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        assert namespace == "team"
        if self.away:
            self.away -= 1
            raise AccessError("the API does not answer")
        for found in self.objects.get(kind, []):
            if found["metadata"]["name"] == name:
                return found
        raise NotFound(f"there is no {kind} {name}")

    def now(self) -> datetime:
        return NOW

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        assert namespace == "team"
        self.given_up += [name] * at_once
        if name == self.protected:
            raise Rejected("admission webhook denied the request")
        for found in self.objects.get(kind, []):
            if found["metadata"]["name"] == name and uid in ("", found["metadata"]["uid"]):
                if found["metadata"].get("finalizers"):
                    found["metadata"]["deletionTimestamp"] = "2026-11-23T16:10:00Z"
                else:
                    self.objects[kind].remove(found)
                return True
        return False

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest) -> Manifest:
        assert namespace == "team"
        self.patched.append((f"{kind}/{name}", patch))
        for found in list(self.objects[kind]):
            if not patch["metadata"]["finalizers"]:
                self.objects[kind].remove(found)
        return {}


def test_everything_of_a_run_is_removed_and_nothing_else() -> None:
    orphan = item("files", "orphan")
    owned = item("files", "owned", metadata={"ownerReferences": [{"kind": "Job", "name": NAMES.cluster}]})
    api: Any = StubbornApi({"Job": [anchor(), anchor(OTHERS)], "ConfigMap": [orphan, owned]})
    with pytest.raises(CleanupFailed) as caught:
        # There is no garbage collector here: owned objects are left to their owner.
        remove(api, NAMES.cluster, "team", deadline=0.1)
    assert caught.value.message.startswith("`ConfigMap/owned` of `skjob-train-py-3f9a1c` still exist after")
    assert caught.value.hint == (
        "`kubectl --context kind-skjob -n team delete configmap -l app.kubernetes.io/managed-by=skjob,"
        f"skjob/run={NAMES.run_id}` removes it"
    )
    assert [found["metadata"]["name"] for found in api.objects["ConfigMap"]] == ["owned"]
    assert [found["metadata"]["name"] for found in api.objects["Job"]] == [OTHERS.cluster]


def test_what_a_rule_of_the_cluster_protects_keeps_nothing_else() -> None:
    held = item("cluster", metadata={"finalizers": [KOPF_FINALIZER], "deletionTimestamp": "2026-11-23T16:10:00Z"})
    api: Any = StubbornApi({"ConfigMap": [item("files", "protected"), item("files", "orphan")], "DaskCluster": [held]})
    api.protected = "protected"
    with pytest.raises(CleanupFailed, match="`ConfigMap/protected` of `skjob-train-py-3f9a1c` still exist after"):
        remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, deadline=0.1)
    assert [found["metadata"]["name"] for found in api.objects["ConfigMap"]] == ["protected"]
    assert api.objects["DaskCluster"] == []


def test_the_finalizer_of_a_dead_operator_is_taken_off() -> None:
    held = item("cluster", metadata={"finalizers": [KOPF_FINALIZER]})
    api: Any = StubbornApi({"Job": [anchor()], "DaskCluster": [held]})
    remove(api, NAMES.cluster, "team", deadline=1.0)
    assert api.objects == {"Job": [], "DaskCluster": []}
    assert api.patched == [(f"DaskCluster/{NAMES.cluster}", {"metadata": {"finalizers": [], "resourceVersion": "7"}})]


def test_a_worker_group_that_the_operator_makes_late_is_removed_too() -> None:
    class Late(StubbornApi):
        looks = 0

        def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
            if kind == "DaskWorkerGroup":
                self.looks += 1
                if self.looks == 3:
                    self.objects[kind].append(item("cluster", f"{NAMES.cluster}-default"))
            return super().list(kind, namespace, selector=selector, fields=fields)

    api: Any = Late({"Job": [anchor()], "DaskCluster": [item("cluster")], "DaskWorkerGroup": []})
    remove(api, NAMES.cluster, "team", deadline=5.0)
    assert api.looks > 3
    assert api.objects == {"Job": [], "DaskCluster": [], "DaskWorkerGroup": []}


class CreatingOperator(StubbornApi):
    """An API whose operator creates the worker group of a cluster at a moment of the clock, unless that is deleted."""

    def __init__(self, clock: Clock, at: float) -> None:
        cluster = item("cluster", status={"phase": "Created"})
        super().__init__({"Job": [anchor()], "DaskCluster": [cluster], "DaskWorkerGroup": []})
        self.clock, self.at = clock, clock.now + at
        self.deleted_at: float | None = None

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        if self.deleted_at is None and self.clock.now >= self.at and not self.objects["DaskWorkerGroup"]:
            owner = {"ownerReferences": [{"kind": "DaskCluster", "name": NAMES.cluster}]}
            self.objects["DaskWorkerGroup"].append(item("cluster", f"{NAMES.cluster}-default", metadata=owner))
        return super().get(kind, name, namespace)

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        if kind == "DaskCluster":
            self.deleted_at = self.clock.now
            self.objects["DaskWorkerGroup"].clear()  # the garbage collector
        return super().delete(kind, name, namespace, uid=uid, at_once=at_once)


def test_a_cluster_is_deleted_only_when_the_operator_has_created_all_of_it(clock: Clock) -> None:
    api: Any = CreatingOperator(clock, at=7.0)
    remove(api, NAMES.cluster, "team")
    assert api.deleted_at == pytest.approx(api.at, abs=0.5)
    assert api.objects == {"Job": [], "DaskCluster": [], "DaskWorkerGroup": []}


def test_an_operator_that_does_not_go_on_is_not_waited_for_long(clock: Clock) -> None:
    api: Any = CreatingOperator(clock, at=600.0)
    started = clock.now
    remove(api, NAMES.cluster, "team")
    assert api.deleted_at == pytest.approx(started + cleanup.CREATION_DEADLINE, abs=0.5)


def test_who_has_no_time_does_not_wait_for_the_operator(clock: Clock) -> None:
    api: Any = CreatingOperator(clock, at=7.0)
    started = clock.now
    remove(api, NAMES.cluster, "team", hurried=lambda: True)
    assert api.deleted_at == started


def test_who_does_not_wait_leaves_nothing_to_the_operator() -> None:
    held = item("cluster", metadata={"finalizers": [KOPF_FINALIZER]})
    api: Any = StubbornApi({"Job": [anchor()], "DaskCluster": [held]})
    remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, wait=False)
    assert api.objects == {"Job": [], "DaskCluster": []}


def test_an_object_of_the_same_name_that_is_not_the_runs_stays() -> None:
    theirs = item("cluster")
    theirs["metadata"] = {"name": NAMES.cluster, "namespace": "team", "labels": {}, "uid": "theirs"}
    api: Any = StubbornApi({"Job": [anchor()], "DaskCluster": [theirs]})
    remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, wait=False)
    assert api.objects == {"Job": [], "DaskCluster": [theirs]}


def test_a_finalizer_that_is_not_the_operators_stays() -> None:
    held = item("cluster", metadata={"finalizers": ["example.org/keep"]})
    api: Any = StubbornApi({"Job": [anchor()], "DaskCluster": [held]})
    with pytest.raises(CleanupFailed, match="DaskCluster/"):
        remove(api, NAMES.cluster, "team", deadline=0.1)
    assert api.patched == []


def test_an_api_that_is_away_for_a_moment_is_asked_again() -> None:
    api: Any = StubbornApi({"Job": [anchor()]}, away=2)
    remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, deadline=5.0)
    assert api.objects == {"Job": []}


def test_an_api_that_stays_away_is_told() -> None:
    api: Any = StubbornApi({"Job": [anchor()]}, away=99)
    with pytest.raises(CleanupFailed, match="could not be removed: the API does not answer"):
        remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, wait=False, deadline=0.1)


def test_of_pods_that_are_on_their_way_out_those_of_a_node_that_is_lost_are_given_up() -> None:
    owner = [{"kind": "ReplicaSet", "name": "workers"}]
    lost = item("worker", "lost", metadata={"ownerReferences": owner, "deletionTimestamp": "2026-11-23T16:09:44Z"})
    ending = item("worker", "ending", metadata={"ownerReferences": owner, "deletionTimestamp": "2026-11-23T16:09:46Z"})
    api: Any = StubbornApi(
        {"Job": [anchor()], "Pod": [lost, ending, item("worker", "owned", metadata={"ownerReferences": owner})]}
    )
    with pytest.raises(CleanupFailed, match="`Pod/ending`, `Pod/owned` of"):
        remove(api, NAMES.cluster, "team", deadline=0.1)
    assert api.given_up == ["lost"]


def test_kinds_that_may_not_be_listed_are_not_waited_for() -> None:
    api: Any = StubbornApi({"Job": [anchor()]}, forbidden=("Secret", "ReplicaSet"))
    remove(api, NAMES.cluster, "team", deadline=1.0)
    assert api.objects == {"Job": []}


def test_a_name_without_objects() -> None:
    api: Any = StubbornApi({"Job": []})
    with pytest.raises(NotFound, match="there is no cluster `nope` in namespace `team`"):
        remove(api, "nope", "team")
