"""Test how a run's objects become a line of `skjob ps`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from run_objects import NAMES, NOW, OTHERS, Manifest, anchor, dask, item

from skjob.cli.commands.ps import duration, table
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.deploy.kubernetes.inventory.runs import RunState, choose, summarize
from skjob.deploy.kubernetes.manifests.labels import COST_ANNOTATION, KEPT_ANNOTATION, USE_ANNOTATION, RunNames
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

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
        "NAMESPACE  NAME                   USER     PROGRAM   AGE  WORKERS  COST  STATE    EXPIRES",
        "team       skjob-train-py-3f9a1c  Ann Lee  train.py  10m  2/3      -     running  in 5m unless renewed",
    ]


def test_what_a_run_has_cost_and_who_uses_a_cluster_that_was_left() -> None:
    cost = Cost(1.0, 6.0, NOW - timedelta(minutes=5), "EUR").as_json()
    use = {"owner": "bob@host", "program": "a.py", "until": (NOW + timedelta(minutes=1)).isoformat(), "account": "b"}
    left = RunNames("20261123-120000-bbbbbb", "skjob up", "ann", existing="dev")
    annotations = {**KEPT, COST_ANNOTATION: cost, USE_ANNOTATION: json.dumps(use)}
    (run,) = summarize({"Job": [anchor(left, annotations=left.annotations() | annotations)]}, NOW)
    assert (run.cost, run.currency, run.account) == (1.5, "EUR", "b")
    assert table([run], with_namespace=False) == [
        "NAME  USER  PROGRAM   AGE  WORKERS  COST      STATE   EXPIRES  USED BY",
        "dev   ann   skjob up  10m  0/0      1.50 EUR  in use  in 5m    bob@host for `a.py`",
    ]


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"until": 5}', '{"until": "x"}'])
def test_a_use_that_can_not_be_read_is_none(text: str) -> None:
    (run,) = summarize({"Job": [anchor(annotations={**KEPT, USE_ANNOTATION: text})]}, NOW)
    assert (run.state, run.used_by) == (RunState.KEPT, "")


def test_what_others_wrote_does_nothing_to_a_terminal() -> None:
    """Anyone who may create a Job in the namespace chooses its annotations."""
    hostile = {"skjob/user": "ann\x1b[2J", "skjob/program": "a\nskjob-forged  ann  b\r"}
    (run,) = summarize({"Job": [anchor(annotations=hostile)]}, NOW)
    assert (run.user, run.program) == ("ann?[2J", "a?skjob-forged  ann  b?")
    assert len(table([run], with_namespace=False)) == 2


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
        ({"ConfigMap": [item("files", metadata={"ownerReferences": [{"kind": "Job"}]})]}, RunState.REMOVING),
    ],
)
def test_how_a_run_stands(objects: dict[str, list[Manifest]], state: RunState) -> None:
    (run,) = summarize(objects, NOW)
    assert run.state is state


def test_a_worker_that_goes_is_not_the_end_of_its_run() -> None:
    leaving = dask("worker", deletionTimestamp="2026-11-23T16:09:20Z", ownerReferences=[{"kind": "ReplicaSet"}])
    (run,) = summarize({**RUNNING, "Pod": [*RUNNING["Pod"], leaving]}, NOW)
    assert (run.state, run.removing_for) == (RunState.RUNNING, None)
    (run,) = summarize({"Job": [anchor(deletionTimestamp="2026-11-23T16:09:57Z")], "Pod": [leaving]}, NOW)
    assert (run.state, run.removing_for) == (RunState.REMOVING, 3)
    (run,) = summarize({"Pod": [leaving]}, NOW)
    assert (run.state, run.removing_for) == (RunState.REMOVING, 40)


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
