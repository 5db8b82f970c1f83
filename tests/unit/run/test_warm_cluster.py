"""A cluster that is left for others: another that has its name, and until when it is left, as it is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock

from skjob.config.namespace_policy import Limits, NamespacePolicy
from skjob.config.nodes import Price, Prices
from skjob.config.plan import Machine, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Raced
from skjob.deploy.kubernetes.cluster import KubernetesCluster
from skjob.deploy.kubernetes.costs.meter import BillingKey
from skjob.deploy.kubernetes.heartbeat import Heartbeat
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.errors import ConfigError, ForbiddenError, SkjobError
from skjob.run.warm_cluster import _check_absent

pytestmark = pytest.mark.unit

NAMES = RunNames("20261126-120000-aaaaaa", "skjob up", "ann", existing="dev")
PRICES = Prices((Price(1.0, 0.0),), "EUR")


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    """A removal waits by this one."""
    return clock_of(cleanup)


class _Willing(Api):
    """Takes every change, and has nothing."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        raise NotFound(f"there is no {kind} {name}")

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        return []

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        return {}


@pytest.mark.parametrize(
    ("max_cost", "max_lifetime", "why"),
    [
        (None, None, ""),
        (100.0, 86400.0, ""),
        (1.0, None, ", when `max-cost`, 1.00 EUR, is spent"),
        (1.0, 86400.0, ", when `max-cost`, 1.00 EUR, is spent"),
        (None, 600.0, ", when `limits.max-time`, 600 s, is reached"),
        (100.0, 600.0, ", when `limits.max-time`, 600 s, is reached"),
    ],
)
def test_what_ends_it_before_its_idle_timeout_is_told(
    max_cost: float | None, max_lifetime: float | None, why: str, tmp_path: Path
) -> None:
    api = _Willing()
    notes: list[str] = []
    settings = Settings(workers=WorkerRange(2, 4), keep_time=14400.0, max_cost=max_cost)
    rules = NamespacePolicy(prices=PRICES, limits=Limits(time=max_lifetime, origin="ConfigMap team/skjob-defaults"))
    plan = make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11", rules)
    cluster = KubernetesCluster(api, NAMES, plan, tmp_path, notes.append)
    affordable = cluster._costs.affordable_seconds if max_cost else None
    heartbeat = Heartbeat(
        api, "dev", "team", plan.grace, notes.append, age=60, max_lifetime=max_lifetime, affordable=affordable
    )
    heartbeat.start()
    cluster._heartbeat = heartbeat
    cluster._costs.start(BillingKey(NAMES.run_id, "ann", "skjob up"), plan.size, lambda: heartbeat.allowed(plan.grace))
    cluster.detach()
    [told] = [note for note in notes if note.startswith("`dev` is kept until")]
    assert re.fullmatch(rf"`dev` is kept until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC{re.escape(why)}", told)


class _Taken(_Willing):
    """Takes no Job."""

    def __init__(self, why: SkjobError) -> None:
        super().__init__()
        self.why = why

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        assert manifest["kind"] == "Job"
        raise self.why

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        raise AssertionError("what is another's was removed")


def test_of_two_that_are_started_at_once_the_second_is_told_and_leaves_the_first_alone(tmp_path: Path) -> None:
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    cluster = KubernetesCluster(_Taken(Conflict('jobs.batch "dev" already exists')), NAMES, plan, tmp_path, print)
    with pytest.raises(ConfigError, match="`dev` already exists: you or somebody else started it at the same moment"):
        cluster.start()
    cluster.close()


def test_a_namespace_that_is_not_there_is_a_wrong_request_and_leaves_nothing_to_remove(tmp_path: Path) -> None:
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    cluster = KubernetesCluster(_Taken(NotFound('namespaces "team" not found')), NAMES, plan, tmp_path, print)
    with pytest.raises(ConfigError, match="namespace `team` does not exist"):
        cluster.start()
    cluster.close()


def test_a_quota_that_many_are_at_is_no_other_cluster(tmp_path: Path) -> None:
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    cluster = KubernetesCluster(_Taken(Raced("the object has been modified")), NAMES, plan, tmp_path, print)
    with pytest.raises(Raced):
        cluster.start()
    cluster.close()


class _Inhabited(_Willing):
    """Has objects that others made, and lets its user look at some kinds of them."""

    def __init__(self, *objects: Manifest, hidden: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.objects = list(objects)
        self.hidden = hidden
        self.made: list[str] = []

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        self._look_at(kind)
        for each in self.objects:
            if (each["kind"], each["metadata"]["name"]) == (kind, name):
                return each
        return super().get(kind, name, namespace)

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        self._look_at(kind)
        named = [each for each in self.objects if fields == f"metadata.name={each['metadata']['name']}"]
        return [each for each in named if each["kind"] == kind]

    def _look_at(self, kind: str) -> None:
        if kind in self.hidden:
            raise ForbiddenError(f"{kind} is forbidden: User")

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if any((each["kind"], each["metadata"]["name"]) == (kind, name) for each in self.objects):
            raise Conflict(f'{kind} "{name}" already exists')
        self.made.append(kind)
        return {**manifest, "metadata": {**manifest["metadata"], "uid": "u"}}

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        raise AssertionError("what is another's was removed")


def _of(kind: str, name: str = "dev", **metadata: Any) -> Manifest:
    return {"kind": kind, "metadata": {"name": name, **metadata}}


OURS = {"labels": NAMES.labels("certificates"), "annotations": NAMES.annotations()}
LEDGER = {"labels": {"app.kubernetes.io/managed-by": "skjob"}}


@pytest.mark.parametrize(
    ("objects", "message", "hint"),
    [
        ([_of("Job")], "there is a Job `dev` in namespace `team`, which is not skjob's", "choose another name"),
        ([_of("Secret")], "there is a Secret `dev` in namespace `team`, which is not skjob's", "choose another name"),
        (
            [_of("NetworkPolicy", labels=None)],
            "there is a NetworkPolicy `dev` in namespace `team`, which is not skjob's",
            "choose another name",
        ),
        (
            [_of("ConfigMap"), _of("Secret", **OURS), _of("Service", "dev-scheduler")],
            "there is a ConfigMap `dev` and a Service `dev-scheduler` in namespace `team`, which are not skjob's",
            "choose another name",
        ),
        (
            [_of("Secret", **OURS)],
            "there is a Secret `dev` in namespace `team`, left by an earlier cluster of ann that is being removed",
            "try again in a moment, or choose another name",
        ),
        (
            [_of("ConfigMap", **LEDGER)],
            "there is a ConfigMap `dev` in namespace `team`, which skjob needs for something else",
            "choose another name",
        ),
    ],
)
def test_a_name_that_another_object_has_is_refused_before_anything_is_made(
    objects: list[Manifest], message: str, hint: str
) -> None:
    api = _Inhabited(*objects)
    with pytest.raises(ConfigError) as refused:
        _check_absent(api, "dev")
    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert api.made == []


@pytest.mark.parametrize("name", ["dev-scheduler", "dev-default", "other"])
def test_a_name_that_is_taken_for_another_kind_alone_is_free(name: str) -> None:
    _check_absent(_Inhabited(_of("Secret", name), _of("Pod")), "dev")


def test_who_may_not_look_is_told_when_the_name_is_refused(tmp_path: Path) -> None:
    api = _Inhabited(_of("Secret"), hidden=("Secret", "NetworkPolicy"))
    _check_absent(api, "dev")
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    cluster = KubernetesCluster(api, NAMES, plan, tmp_path, lambda _: None)
    with pytest.raises(ConfigError) as refused:
        cluster.start()
    assert refused.value.message == "there is a Secret `dev` in namespace `team`, which does not belong to this cluster"
    assert refused.value.hint == "choose another name"
    assert "DaskCluster" not in api.made
    cluster.close()


def test_an_object_that_comes_in_between_is_told_as_one_that_was_there(tmp_path: Path) -> None:
    api = _Inhabited(_of("DaskCluster"))
    plan = make_plan(Settings(), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    cluster = KubernetesCluster(api, NAMES, plan, tmp_path, lambda _: None)
    with pytest.raises(ConfigError, match="there is a DaskCluster `dev` in namespace `team`, which is not skjob's"):
        cluster.start()
    cluster.close()
