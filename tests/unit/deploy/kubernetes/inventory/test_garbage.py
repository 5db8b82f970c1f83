"""Test what `skjob gc` removes, and what it says about runs that Kubernetes is removing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clocks import Clock
from typer.testing import CliRunner

from skjob.cli import options
from skjob.cli.root import app
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.inventory import cleanup
from skjob.deploy.kubernetes.inventory.garbage import Garbage, Terminating, classify
from skjob.deploy.kubernetes.inventory.runs import OVERDUE, RunningCluster, RunState
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import RunNames

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    """A clock and sleep for removals."""
    return clock_of(cleanup)


LIVES = RunningCluster("dev", "team", "1", "ann", "a.py", 60.0, 1, 1, None, 300.0, RunState.RUNNING)
GOES = replace(LIVES, state=RunState.REMOVING, removing_for=3.2)
STAYS = replace(LIVES, name="old", state=RunState.REMOVING, removing_for=OVERDUE + 5)


@pytest.mark.parametrize(
    ("run", "verdict"),
    [
        (LIVES, None),
        (replace(LIVES, state=RunState.KEPT), None),
        (replace(LIVES, state=RunState.ABANDONED), Garbage(LIVES, "nothing owns its objects")),
        # A dead node's pods go last.
        (GOES, Terminating(LIVES, "its removal was requested 3 s ago", OVERDUE - 3.2)),
        # For a pod, the API reports when its grace period ends.
        (replace(GOES, removing_for=-1.0), Terminating(LIVES, "its removal was requested 0 s ago", OVERDUE + 1)),
        (replace(GOES, removing_for=OVERDUE), Terminating(LIVES, "its removal was requested 15 s ago", 0.0)),
        (STAYS, Garbage(LIVES, "its removal was requested 20 s ago, and it still exists")),
        (replace(LIVES, overdue=2.0), Terminating(LIVES, "its deadline passed 2 s ago", OVERDUE - 2.0)),
        (replace(LIVES, overdue=20.0), Garbage(LIVES, "its deadline passed 20 s ago, and it still exists")),
        (
            replace(LIVES, state=RunState.REMOVING),
            Terminating(LIVES, "its anchor is gone, and the rest will follow", None),
        ),
    ],
)
def test_what_is_garbage_and_what_is_on_its_way_out(run: RunningCluster, verdict: Garbage | Terminating | None) -> None:
    found = classify([run])
    assert [*found.garbage, *found.terminating] == ([] if verdict is None else [replace(verdict, run=run)])
    assert len(found.garbage) == isinstance(verdict, Garbage)


NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


class _DeadNode(Api):
    """An API with pods that their node does not end, each of another run."""

    def __init__(self, **removed_ago: float) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.pods = {name: _pod(name, seconds) for name, seconds in removed_ago.items()}

    def now(self) -> datetime:
        return NOW

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        raise NotFound(f"there is no {kind} {name}")

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        run_id = selector.partition("skjob/run=")[2]
        return [pod for name, pod in self.pods.items() if kind == "Pod" and run_id in ("", name)]

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        assert (kind, at_once) == ("Pod", True)
        del self.pods[name]
        return True


def _pod(name: str, removed_ago: float) -> Manifest:
    names = RunNames(name, "a.py", "ann", existing=name)
    metadata = {
        "name": name, "namespace": "team", "uid": name, "labels": names.labels("worker"),
        "annotations": names.annotations(), "ownerReferences": [{"kind": "ReplicaSet"}],
        "deletionTimestamp": (NOW - timedelta(seconds=removed_ago)).isoformat(),
    }  # fmt: skip
    return {"metadata": metadata}


def _gc(monkeypatch: pytest.MonkeyPatch, api: _DeadNode, *arguments: str) -> tuple[str, str]:
    """Return its stdout and stderr."""
    monkeypatch.setattr(options, "connect_with_options", lambda *_: api)
    done = CliRunner().invoke(app, ["gc", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


CLEAN = "skjob: nothing to clean up\n"
BEING_REMOVED = (
    "skjob: `dev` of `ann` in `team` is being removed: its removal was requested 3 s ago;"
    " `skjob gc` removes it in 12 s, if it still exists\n"
)


def test_nothing_is_called_clean_while_something_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _gc(monkeypatch, _DeadNode()) == ("", CLEAN)
    api = _DeadNode(dev=3.2)
    assert _gc(monkeypatch, api) == ("", BEING_REMOVED)
    assert list(api.pods) == ["dev"]


def test_what_goes_is_told_beside_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    api = _DeadNode(old=20, dev=3.2)
    told = "`old` of `ann` in `team`: its removal was requested 20 s ago, and it still exists\n"
    assert _gc(monkeypatch, api, "--dry-run") == ("", f"skjob: would remove {told}{BEING_REMOVED}")
    assert list(api.pods) == ["old", "dev"]
    assert _gc(monkeypatch, api) == ("", f"skjob: removing {told}{BEING_REMOVED}")
    assert list(api.pods) == ["dev"]


def test_json_has_what_is_garbage_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    written, told = _gc(monkeypatch, _DeadNode(old=20, dev=3.2), "--json", "--dry-run")
    assert [each["run"]["name"] for each in json.loads(written)] == ["old"]
    assert told == BEING_REMOVED
    assert _gc(monkeypatch, _DeadNode(dev=3.2), "--json") == ("[]\n", BEING_REMOVED)
