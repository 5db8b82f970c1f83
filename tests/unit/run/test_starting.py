"""A cluster that does not come: for how long a run waits that has only so much time for all of it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clocks import Clock
from run_values import a_run

from skjob.config.environment_variables import Variables
from skjob.config.plan import Machine, make_plan
from skjob.config.settings import Place, Settings
from skjob.deploy.kubernetes import scheduler_start
from skjob.deploy.kubernetes.api import wait
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.cluster import KubernetesCluster
from skjob.deploy.kubernetes.kubecluster import DaskCluster
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.environment.index.settings import IndexSettings
from skjob.environment.spec import EnvironmentSpec
from skjob.errors import DeadlineError, ForbiddenError, OperatorError
from skjob.run.budget import RunBudget
from skjob.run.connect import start_and_connect
from skjob.run.target import ChosenCluster

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
    "spec",
    [None, EnvironmentSpec("3.11", {"numpy": "2.4.0"}, b"", IndexSettings())],
    ids=["the scheduler", "the image"],
)
def test_a_start_ends_when_the_time_of_the_whole_run_is_over(
    spec: EnvironmentSpec | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its waits may take `--start-timeout`, and there are several."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(DaskCluster, "begin", lambda self: self.wait_for_scheduler())
    settings = Settings(image="ours:1", max_time=60.0, start_timeout=60.0)
    plan = make_plan(settings, Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    names = RunNames("20261126-120000-aaaaaa", "train", "ann")
    cluster = KubernetesCluster(_WithoutPods(), names, plan, tmp_path, lambda _: None, environment_spec=spec)
    budget = RunBudget(time.monotonic() - 61.0, plan, cluster.cost)
    chosen = ChosenCluster(a_run(plan=plan, folder=tmp_path, environment=spec), cluster)
    try:
        with (
            pytest.raises(DeadlineError, match="the run has reached `--max-time`, 60 s"),
            start_and_connect(chosen, budget=budget),
        ):
            pass
    finally:
        cluster.close(hurried=lambda: True)


class _Remembering(_WithoutPods):
    """Knows what was made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, Manifest] = {}

    def create(self, manifest: Manifest, *, strict: bool = False, dry_run: bool = False) -> Manifest:
        self.made[manifest["kind"]] = manifest
        return super().create(manifest)


def test_secret_variables_are_in_the_runs_own_secret_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DaskCluster, "begin", lambda _: None)
    monkeypatch.setattr(DaskCluster, "scheduler_address", "tls://127.0.0.1:1")
    api = _Remembering()
    plan = make_plan(Settings(image="ours:1"), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    names = RunNames("20261126-120000-aaaaaa", "train", "ann")
    variables = Variables({"LEVEL": "1", "GOOGLE_APPLICATION_CREDENTIALS": "key.json"}, {"TOKEN": "sesame"})
    cluster = KubernetesCluster(api, names, plan, tmp_path, lambda _: None, variables=variables)
    cluster.start()
    cluster.close(hurried=lambda: True)
    secret = api.made.pop("Secret")
    assert base64.b64decode(secret["data"]["TOKEN"]) == b"sesame"
    assert secret["metadata"]["ownerReferences"][0]["name"] == cluster.name
    assert secret["metadata"]["labels"]["skjob/run"] == names.run_id
    assert {"Job", "DaskCluster", "ConfigMap"} <= set(api.made)
    assert "sesame" not in json.dumps(api.made)
    assert secret["data"]["TOKEN"] not in json.dumps(api.made)
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in json.dumps(api.made)  # the file is not there when a pod starts


class _WithOperator(_WithoutPods):
    """Has an operator that has not acted yet; None of its pods where nobody may look."""

    def __init__(self, pods: int | None) -> None:
        super().__init__()
        self.pods = pods

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        if kind != "Deployment":
            return []
        if self.pods is None:
            raise ForbiddenError("you may not list deployments")
        status = {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": self.pods}
        metadata = {"name": "op", "namespace": "dask", "generation": 1}
        pod = {"spec": {"containers": [{"image": "ours:1"}]}}
        return [{"metadata": metadata, "spec": {"template": pod}, "status": status}]


@pytest.mark.parametrize(
    ("pods", "seconds", "why"),
    [(0, 20, ": the Dask operator `dask/op` is not running"), (1, 90, ""), (None, 90, "")],
    ids=["does not run", "runs", "unknown"],
)
def test_an_operator_that_may_be_busy_has_more_time_than_one_that_does_not_run(
    pods: int | None, seconds: int, why: str, tmp_path: Path, clock_of: Callable[..., Clock]
) -> None:
    clock, notes = clock_of(scheduler_start, wait), list[str]()
    begun = clock.now
    plan = make_plan(Settings(image="ours:1"), Place.KUBERNETES, "", Machine(2, 2**33), "3.11")
    names = RunNames("20261126-120000-aaaaaa", "train", "ann")
    api = _WithOperator(pods)
    cluster = KubernetesCluster(api, names, plan, tmp_path, notes.append)
    start = scheduler_start.SchedulerStart(
        api, cluster.name, cluster._pods, plan.start_timeout, cluster.pending_problems, lambda: None, notes.append
    )
    with pytest.raises(OperatorError) as told:
        start.wait()
    assert told.value.message == f"the Dask operator has not acted on `{cluster.name}` for {seconds} s{why}"
    assert seconds < clock.now - begun < seconds + 1
    assert notes == [f"{why[2:]}; waiting up to {seconds} s"] * bool(why)
