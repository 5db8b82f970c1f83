"""From a run's objects to the line of `skjob ps`, and a removal against an API that has its own mind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from skjob.cli.ps import duration, table
from skjob.cluster.api import Context, NotFound
from skjob.cluster.inventory import KOPF_FINALIZER, RunState, choose, leftovers, remove, summarize
from skjob.cluster.names import KEPT_ANNOTATION, RunNames
from skjob.errors import AccessError, CleanupFailed, ConfigError, ForbiddenError

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]

NAMES = RunNames("20261123-155901-3f9a1c", "train.py", "Ann Lee")
NOW = datetime(2026, 11, 23, 16, 10, tzinfo=UTC)


def item(component: str, name: str = NAMES.cluster, run: RunNames = NAMES, **fields: Any) -> Manifest:
    """An object of a run, as a list returns it."""
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-11-23T16:00:00Z",
        "labels": run.labels(component),
        "annotations": run.annotations(),
        **fields.pop("metadata", {}),
    }
    return {"metadata": metadata, **fields}


def anchor(run: RunNames = NAMES, **metadata: Any) -> Manifest:
    spec, status = {"activeDeadlineSeconds": 900}, {"startTime": "2026-11-23T16:00:01Z"}
    return item("anchor", run.cluster, run, spec=spec, status=status, metadata=metadata)


def dask(role: str, kind: str = "pod", phase: str = "Running", **metadata: Any) -> Manifest:
    found = item(kind, f"{NAMES.cluster}-{role}", status={"phase": phase}, metadata=metadata)
    found["metadata"]["labels"]["dask.org/component"] = role
    return found


RUNNING = {
    "Job": [anchor()],
    "DaskCluster": [item("cluster")],
    "Deployment": [dask("scheduler"), dask("worker"), dask("worker"), dask("worker")],
    "Pod": [dask("scheduler"), dask("worker"), dask("worker"), dask("worker", phase="Pending")],
}


def test_a_run_in_one_line() -> None:
    (run,) = summarize(RUNNING, NOW)
    assert (run.name, run.namespace, run.run_id) == ("skjob-train-py-3f9a1c", "team", NAMES.run_id)
    assert (run.user, run.program) == ("Ann Lee", "train.py")
    assert (run.workers, run.workers_asked) == (2, 3)
    assert (run.age_seconds, run.expires_in) == (600.0, 301.0)
    assert run.state is RunState.RUNNING
    assert table([run], with_namespace=True) == [
        "NAMESPACE  NAME                   USER     PROGRAM   AGE  WORKERS  STATE    EXPIRES",
        "team       skjob-train-py-3f9a1c  Ann Lee  train.py  10m  2/3      running  in 5m unless renewed",
    ]


KEPT = {KEPT_ANNOTATION: "2026-11-23T20:00:00+00:00"}


@pytest.mark.parametrize(
    ("objects", "state"),
    [
        ({"Job": [anchor()]}, RunState.STARTING),
        ({**RUNNING, "Pod": [dask("scheduler", phase="Pending")]}, RunState.STARTING),
        (RUNNING, RunState.RUNNING),
        ({**RUNNING, "Job": [anchor(annotations=KEPT)]}, RunState.KEPT),
        ({**RUNNING, "Job": [anchor(deletionTimestamp="2026-11-23T16:09:59Z")]}, RunState.REMOVING),
        ({"DaskCluster": [item("cluster", metadata={"deletionTimestamp": "2026-11-23T16:09:59Z"})]}, RunState.REMOVING),
        ({"ConfigMap": [item("files")]}, RunState.ABANDONED),
    ],
)
def test_how_a_run_stands(objects: dict[str, list[Manifest]], state: RunState) -> None:
    (run,) = summarize(objects, NOW)
    assert run.state is state


def test_until_when_a_cluster_is_kept() -> None:
    (run,) = summarize({"Job": [anchor(annotations=KEPT)]}, NOW)
    assert run.kept_until == datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


def test_the_oldest_run_comes_first() -> None:
    older = RunNames("20261123-120000-aaaaaa", "old.py", "ann")
    found = summarize({"Job": [anchor(), anchor(older, creationTimestamp="2026-11-23T12:00:00Z")]}, NOW)
    assert [run.program for run in found] == ["old.py", "train.py"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7500, "2h05m"), (273600, "3d04h")]
)
def test_durations_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


OTHERS = RunNames("20261123-120000-bbbbbb", "other.py", "bob")
FOUND = summarize({"Job": [anchor(), anchor(OTHERS)]}, NOW)


@pytest.mark.parametrize(
    ("wanted", "user", "programs"),
    [
        (None, "bob", ["other.py"]),
        (None, "carol", []),
        (None, None, ["other.py", "train.py"]),
        ([NAMES.cluster, NAMES.cluster], "bob", ["train.py"]),
    ],
)
def test_which_runs_are_meant(wanted: list[str] | None, user: str | None, programs: list[str]) -> None:
    assert sorted(run.program for run in choose(FOUND, wanted, user)) == programs


def test_a_name_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(FOUND, ["nope", NAMES.cluster, "neither"], None)
    assert caught.value.message == (
        "2 problems:\n"
        "  - there is no cluster `nope` in this namespace\n"
        "  - there is no cluster `neither` in this namespace"
    )
    assert f"`{NAMES.cluster}`" in caught.value.hint
    assert f"`{OTHERS.cluster}`" in caught.value.hint


class StubbornApi:
    """An API that keeps objects until what holds them lets go."""

    context = Context("kind-skjob", "team", "https://localhost")

    def __init__(self, objects: dict[str, list[Manifest]], *, forbidden: tuple[str, ...] = (), away: int = 0) -> None:
        self.objects = {kind: [dict(found) for found in items] for kind, items in objects.items()}
        self.forbidden = forbidden
        self.away = away
        self.patched: list[tuple[str, Manifest]] = []

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

    def delete(self, kind: str, name: str, namespace: str = "", *, propagation: str = "Background") -> bool:
        assert (namespace, propagation) == ("team", "Background")
        if self.away:
            self.away -= 1
            raise AccessError("the API does not answer")
        for found in self.objects.get(kind, []):
            if found["metadata"]["name"] == name:
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
        # Nobody collects garbage here: what has an owner is left to it.
        remove(api, NAMES.cluster, "team", deadline=0.1)
    assert caught.value.message.startswith("`ConfigMap/owned` of `skjob-train-py-3f9a1c` still there after")
    assert caught.value.hint == (
        "`kubectl --context kind-skjob -n team delete configmap -l app.kubernetes.io/managed-by=skjob,"
        f"skjob/run={NAMES.run_id}` removes it"
    )
    assert leftovers(api, NAMES.run_id, "team") == ["ConfigMap/owned"]
    assert [found["metadata"]["name"] for found in api.objects["Job"]] == [OTHERS.cluster]


def test_the_finalizer_of_a_dead_operator_is_taken_off() -> None:
    held = item("cluster", metadata={"finalizers": [KOPF_FINALIZER]})
    api: Any = StubbornApi({"Job": [anchor()], "DaskCluster": [held]})
    remove(api, NAMES.cluster, "team", deadline=1.0)
    assert leftovers(api, NAMES.run_id, "team") == []
    assert api.patched == [(f"DaskCluster/{NAMES.cluster}", {"metadata": {"finalizers": [], "resourceVersion": "7"}})]


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
        remove(api, NAMES.cluster, "team", run_id=NAMES.run_id, wait=False)


def test_kinds_that_may_not_be_listed_are_not_counted() -> None:
    api: Any = StubbornApi({"Job": [anchor()]}, forbidden=("Secret", "ReplicaSet"))
    assert leftovers(api, NAMES.run_id, "team") == [f"Job/{NAMES.cluster}"]


def test_a_name_without_objects() -> None:
    api: Any = StubbornApi({"Job": []})
    with pytest.raises(NotFound, match="there is no cluster `nope` in namespace `team`"):
        remove(api, "nope", "team")
