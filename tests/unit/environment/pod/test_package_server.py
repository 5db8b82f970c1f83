"""Test environments that are kept in a namespace: their names, and the platform they are made for."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from skjob.deploy.kubernetes import environment_cache
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.costs.ledger import read_entries
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.deploy.kubernetes.environment_cache import _name, _wait_until_ready, ensure_environment, keep, platform_of
from skjob.deploy.kubernetes.image_probe import Contents
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.environment import package_server_job
from skjob.deploy.kubernetes.manifests.labels import CLUSTER_NAME_MAX, COST_ANNOTATION, RunNames
from skjob.environment.image_cache import known_contents
from skjob.environment.index.settings import Index, IndexSettings
from skjob.environment.pod.entrypoint import EX_CONFIG
from skjob.environment.spec import EnvironmentSpec
from skjob.errors import DeadlineError, StartError


def _node(architecture: str) -> dict[str, Any]:
    return {"status": {"nodeInfo": {"architecture": architecture}}}


@pytest.mark.parametrize(
    ("architectures", "platform"),
    [
        (["amd64", "amd64"], "x86_64-manylinux_2_36"),
        (["arm64"], "aarch64-manylinux_2_36"),
        (["arm64", "amd64"], "x86_64-manylinux_2_36"),
        ([], "x86_64-manylinux_2_36"),
    ],
)
def test_the_platform_is_that_of_the_nodes(architectures: list[str], platform: str) -> None:
    assert platform_of([_node(architecture) for architecture in architectures]) == platform


def test_nodes_that_may_not_be_listed() -> None:
    assert platform_of(None) == "x86_64-manylinux_2_36"


def test_an_image_with_another_python_is_told_before_anything_is_made_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Make no request: the API has no client."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environment_cache, "image_contents", lambda *_, **__: Contents("3.12.4", {"numpy": "2.4.0"}))
    wanted = EnvironmentSpec("3.11", {"numpy": "2.4.0"}, b"", IndexSettings())
    api = Api(None, Context("c", "team", "https://api"))
    with pytest.raises(StartError) as raised:
        ensure_environment(api, wanted, "ours:1", "x86_64-manylinux_2_36", 60, lambda _: None)
    assert raised.value.message == "the image `ours:1` has Python 3.12.4, but this environment has 3.11"
    assert "choose an image with Python 3.11" in raised.value.hint
    assert known_contents("ours:1") is None  # it is inspected again


class _Keeping(Api):
    """A fake API with a Job and a ledger."""

    def __init__(self, job: Manifest) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.job = job
        self.patches: dict[str, Manifest] = {}

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        assert (kind, name) == ("Job", self.job["metadata"]["name"])
        return self.job

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        self.patches[kind] = patch
        return {}


@pytest.mark.parametrize("priced", [True, False])
def test_what_an_environment_costs_is_its_makers(priced: bool) -> None:
    names = RunNames("20261126-120000-aaaaaa", "environment", "Ann", existing="skjob-environment-1")
    job = package_server_job(names, "team", "an-image", [], 3600)
    made = datetime.now(UTC) - timedelta(hours=2)
    job["metadata"]["creationTimestamp"] = made.isoformat()
    if priced:
        job["metadata"]["annotations"][COST_ANNOTATION] = Cost(0.0, 0.5, made, "EUR").as_json()
    api = _Keeping(job)
    keep(api, "skjob-environment-1", 3600.0)
    assert api.patches["Job"]["spec"]["activeDeadlineSeconds"] == pytest.approx(3 * 3600, abs=2)
    if not priced:
        assert [*api.patches] == ["Job"]
        return
    entry = read_entries(api.patches["ConfigMap"]["data"])["20261126-120000-aaaaaa"]
    assert (entry.user, entry.program, entry.currency) == ("Ann", "environment", "EUR")
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    assert entry.by(in_an_hour) == pytest.approx(1.5, abs=0.01)
    assert entry.by(in_an_hour + timedelta(hours=9)) == pytest.approx(1.5, abs=0.01)


def test_no_environment_is_kept_for_longer_than_the_chart_allows() -> None:
    """Otherwise each run that needs it would be rejected until its time is over."""
    names = RunNames("20261126-120000-aaaaaa", "environment", "Ann", existing="skjob-environment-1")
    job = package_server_job(names, "team", "an-image", [], 30 * 86400 - 60)
    job["metadata"]["creationTimestamp"] = (datetime.now(UTC) - timedelta(days=30, minutes=-10)).isoformat()
    api = _Keeping(job)
    keep(api, "skjob-environment-1", 3600.0)
    assert api.patches["Job"]["spec"]["activeDeadlineSeconds"] == 30 * 86400


def test_an_environment_is_called_by_all_that_makes_it() -> None:
    nowhere, elsewhere = IndexSettings(), IndexSettings(indexes=(Index("https://index.example/simple"),))
    name = _name("python:3.11-slim", "3.11", {"a": "1", "b": "2"}, nowhere)
    assert name == _name("python:3.11-slim", "3.11", {"b": "2", "a": "1"}, nowhere)
    others = {
        _name("python:3.12-slim", "3.11", {"a": "1", "b": "2"}, nowhere),
        _name("python:3.11-slim", "3.12", {"a": "1", "b": "2"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1", "b": "2.1"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1"}, nowhere),
        _name("python:3.11-slim", "3.11", {"a": "1", "b": "2"}, elsewhere),
    }
    assert len(others | {name}) == 6
    assert len(name) <= CLUSTER_NAME_MAX


class _Making(Api):
    """A fake API with the pod that makes an environment: as watched, and as listed in between."""

    def __init__(self, *pods: Manifest, events: tuple[Manifest, ...] = (), job: Manifest | None = None) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.pods, self.events, self.job = list(pods), list(events), job

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        assert (kind, selector) == ("Pod", "app.kubernetes.io/instance=skjob-environment-1")
        yield from self.pods

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Manifest]:
        return self.events if kind == "Event" else self.pods[-1:]

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        if self.job is None:
            raise NotFound(name)
        return self.job

    def log(self, pod: str, namespace: str, **_: Any) -> str:
        return '{"seconds": 9}'


_JOB = {"metadata": {"name": "skjob-environment-1", "creationTimestamp": "2026-11-26T12:00:00Z"}}


def _pod(ready: bool = False, **state: Any) -> Manifest:
    metadata = {"name": "skjob-environment-1-x", "namespace": "team", "labels": {}}
    status = {"name": "keeper", "ready": ready, "state": state or {"running": {}}, "image": "no-such:1"}
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": "PodScheduled", "status": "True"}]
    spec = {"nodeName": "one", "containers": [{"name": "keeper", "image": "no-such:1"}]}
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [status]},
    }


def _waited_for(api: Api, seconds: float = 10.0, check: Callable[[], None] = lambda: None) -> dict[str, object]:
    return _wait_until_ready(api, "skjob-environment-1", time.monotonic() + seconds, seconds, check)


def test_what_a_pod_that_serves_says_of_its_work() -> None:
    assert _waited_for(_Making(_pod(), _pod(ready=True), job=_JOB)) == {"seconds": 9}


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (_Making(_pod(), _pod(terminated={"exitCode": EX_CONFIG, "message": "no `uv`"}), job=_JOB), "no `uv`"),
        (_Making(_pod(terminated={"exitCode": 137, "reason": "OOMKilled"}), job=_JOB), "exceeds its memory limit"),
        (_Making(_pod(terminated={"exitCode": 2}), job=_JOB), 'with exit code 2: {"seconds": 9}'),
        (_Making(_pod()), "`skjob-environment-1` was removed while it was being made"),
        (_Making(job=_JOB | {"status": {"conditions": [{"status": "True"}]}}), "keep failing"),
        (_Making(_pod(waiting={"reason": "InvalidImageName", "message": "?"}), job=_JOB), "the environment cannot be"),
        (_Making(_pod(), job=_JOB), "was not ready within `--start-timeout`, 0 s"),
    ],
    ids=["unfit", "memory", "exit code", "removed", "failed", "no image", "deadline"],
)
def test_why_an_environment_is_not_made(api: Api, told: str) -> None:
    with pytest.raises(StartError, match=re.escape(told)):
        _waited_for(api, 0.0 if "0 s" in told else 10.0)


def test_an_environment_is_waited_for_no_longer_than_the_run_may_take() -> None:
    def check() -> None:
        raise DeadlineError("the run has reached `--max-time`, 60 s")

    with pytest.raises(DeadlineError):
        _waited_for(_Making(_pod(), job=_JOB), 10.0, check)
