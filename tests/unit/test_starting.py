"""A cluster that does not come: for how long a run waits that has only so much time for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skjob.cluster.api import Api, Context, Manifest, NotFound
from skjob.cluster.kube import KubernetesCluster
from skjob.cluster.kubecluster import DaskCluster
from skjob.cluster.names import RunNames
from skjob.config import Place, Settings
from skjob.connecting import started
from skjob.environment.index import IndexSettings
from skjob.environment.wanted import Wanted
from skjob.errors import DeadlineError
from skjob.ground import ChosenCluster
from skjob.limit import Limit
from skjob.plan import JobSpec, Machine, make_plan

pytestmark = pytest.mark.unit


class _WithoutPods(Api):
    """Takes all that is made, and makes no pod of it."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        return {**manifest, "metadata": {**manifest["metadata"], "uid": "u"}}

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        raise NotFound(name)

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        return []

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        yield from ()

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        return {}

    def delete(self, kind: str, name: str, namespace: str = "", *, uid: str = "", at_once: bool = False) -> bool:
        return False

    def serves(self, group_version: str) -> bool:
        return True


@pytest.mark.parametrize(
    "wanted", [None, Wanted("3.11", {"numpy": "2.4.0"}, b"", IndexSettings())], ids=["the scheduler", "the image"]
)
def test_a_start_ends_when_the_time_of_the_whole_run_is_over(
    wanted: Wanted | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its waits may take `--start-timeout`, and there are several."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(DaskCluster, "begin", lambda self: self.wait_for_scheduler())
    settings = Settings(image="ours:1", max_time=60.0, start_timeout=60.0)
    plan = make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    names = RunNames("20261126-120000-aaaaaa", "train", "ann")
    cluster = KubernetesCluster(_WithoutPods(), names, plan, tmp_path, lambda _: None, wanted=wanted)
    limit = Limit(time.monotonic() - 61.0, plan, cluster.spent)
    job = JobSpec(tmp_path / "train.py")
    try:
        with (
            pytest.raises(DeadlineError, match="the run has reached `--max-time`, 60 s"),
            started(ChosenCluster(cluster, plan), job, wanted, lambda _: None, limit=limit),
        ):
            pass
    finally:
        cluster.close(hurried=lambda: True)
