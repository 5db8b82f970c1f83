"""Test how far a heartbeat moves the deadline of a run's anchor: never past the platform team's limit."""

from collections.abc import Callable
from typing import Any

import pytest
from clocks import Clock, wait_for

from skjob.deploy.kubernetes import heartbeat as module
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.heartbeat import Heartbeat
from skjob.deploy.kubernetes.manifests import Manifest


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    """The age of an anchor by this clock."""
    return clock_of(module)


class _Recording(Api):
    """An API that records its patches."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.deadlines: list[int] = []
        self.timeout: float | None = None

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        assert (kind, name, namespace) == ("Job", "skjob-train-1", "team")
        self.timeout = timeout
        self.deadlines.append(patch["spec"]["activeDeadlineSeconds"])
        return {}


def _heartbeat(api: Api, **how: Any) -> Heartbeat:
    return Heartbeat(api, "skjob-train-1", "team", 300.0, lambda _: None, **how)


@pytest.mark.parametrize(
    ("age", "max_lifetime", "deadline"),
    [
        (1000.5, None, 1300),
        (1000.5, 3600.0, 1300),
        (3500.5, 3600.0, 3600),
        (5000.5, 3600.0, 3600),  # a clock that runs ahead
        (0.5, 60.0, 60),
    ],
)
def test_the_deadline_of_the_anchor(age: float, max_lifetime: float | None, deadline: int) -> None:
    api = _Recording()
    _heartbeat(api, age=age, max_lifetime=max_lifetime).extend(300.0)
    assert api.deadlines == [deadline]


@pytest.mark.parametrize(("affordable", "deadline"), [(1e9, 1300), (100.0, 1100), (0.0, 1000)])
def test_no_deadline_that_costs_more_than_it_may(affordable: float, deadline: int) -> None:
    """If this process dies, Kubernetes ends the cluster before more is spent."""
    api = _Recording()
    heartbeat = _heartbeat(api, age=1000.5, max_lifetime=3600.0, affordable=lambda: affordable)
    heartbeat.extend(300.0)
    assert api.deadlines == [deadline]
    assert heartbeat.allowed(300.0) == min(300.0, affordable)


@pytest.mark.parametrize(
    ("age", "max_lifetime", "seconds"),
    [(0.0, None, 300.0), (0.0, 3600.0, 300.0), (3500.0, 3600.0, 100.0), (4000.0, 3600.0, 0.0)],
)
def test_what_is_left_of_the_time(age: float, max_lifetime: float | None, seconds: float) -> None:
    heartbeat = _heartbeat(_Recording(), age=age, max_lifetime=max_lifetime)
    assert heartbeat.allowed(300.0) == pytest.approx(seconds, abs=1.0)


@pytest.mark.parametrize(("grace", "timeout"), [(20.0, 4.0), (4 * 3600.0, 15.0)])
def test_a_beat_waits_for_no_part_of_a_long_grace(grace: float, timeout: float) -> None:
    """A warm cluster's grace is its idle timeout: hours, for which nobody waits at the end of a run."""
    api = _Recording()
    Heartbeat(api, "skjob-train-1", "team", grace, lambda _: None).extend(grace)
    assert api.timeout == timeout


def test_the_end_of_its_time_is_told_once() -> None:
    said: list[str] = []
    heartbeat = Heartbeat(_Recording(), "skjob-train-1", "team", 0.1, said.append, age=59.95, max_lifetime=60.0)
    heartbeat.start()
    wait_for(lambda: bool(heartbeat.ending))
    heartbeat.stop()
    heartbeat.join()
    assert heartbeat.ending == "`limits.max-time`, 60 s, is reached"
    assert said == ["the cluster ends in 0 s, when `limits.max-time`, 60 s, is reached"]


def test_a_cluster_that_is_gone_is_not_kept_alive() -> None:
    said: list[str] = []
    heartbeat = Heartbeat(_Gone(), "skjob-train-1", "team", 0.1, said.append)
    heartbeat.start()
    wait_for(lambda: heartbeat._thread.stopped)
    assert said == []


class _Gone(_Recording):
    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        raise NotFound("jobs.batch not found")
