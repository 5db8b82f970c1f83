"""The wait for the first worker: an API that is away meanwhile, and a scheduler that is lost after it has come."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from client_loop import client_loop
from clocks import Clock
from run_values import a_run

from skjob.config.settings import Settings
from skjob.deploy.base import Problem, WorkerCounts
from skjob.errors import StartError, Unanswered
from skjob.run import connect
from skjob.run.connect import _wait_for_workers, first_worker

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    """The first worker is waited for by this one."""
    return clock_of(connect)


class _Cluster:
    name = "skjob-train-1"

    def requested(self) -> int:
        return 1

    running = requested


class _Client:
    status = "running"

    def __init__(self, error: Exception) -> None:
        self.loop = client_loop()
        self.error = error

    async def ncores(self) -> dict[str, int]:
        return {"tls://10.0.0.1:1": 1}

    async def get_versions(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError()])
def test_a_scheduler_that_is_lost_is_told(error: Exception) -> None:
    cluster: Any = _Cluster()
    with pytest.raises(StartError, match="the scheduler of `skjob-train-1` does not answer any more: "):
        first_worker(a_run(settings=Settings(start_timeout=1.0)), cluster, _Client(error))


AWAY = Unanswered("the Kubernetes API does not answer: connection refused", "`kubectl version` should work first")
FULL = Problem("no node has room for a worker", "wait, or ask for less")


class _Looked(_Cluster):
    """What each look finds, one after the other: problems, or that the API is away; the last for good."""

    def __init__(self, *looks: list[Problem] | Unanswered) -> None:
        self.looks = list(looks)

    def pending_problems(self) -> list[Problem]:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Unanswered):
            raise found
        return found

    def running(self) -> int:
        raise AWAY


class _Joined(_Client):
    """Its first worker joins when the cluster has been looked at so often that one look is left."""

    def __init__(self, cluster: _Looked) -> None:
        super().__init__(ConnectionError())
        self.cluster = cluster

    async def ncores(self) -> dict[str, int]:
        return {"tls://10.0.0.1:1": 1} if len(self.cluster.looks) == 1 else {}


class _Alone(_Client):
    """No worker joins."""

    async def ncores(self) -> dict[str, int]:
        return {}


def test_an_api_that_is_away_for_a_moment_does_not_end_the_wait() -> None:
    """Nor does one that is away when the worker has joined: it runs, for it is there."""
    cluster: Any = _Looked(AWAY, [FULL], AWAY, [])
    noted: list[str] = []
    run = a_run(noted.append, Settings(start_timeout=30.0))
    assert _wait_for_workers(run, cluster, _Joined(cluster), None, first=1) == WorkerCounts(1, 1, 1)
    assert set(noted) == {str(FULL)}


@pytest.mark.parametrize(
    ("looks", "why", "hint"),
    [([[FULL], AWAY], FULL.message, FULL.hint), ([AWAY], AWAY.message, AWAY.hint)],
    ids=["something is known", "nothing is known"],
)
def test_what_is_told_where_the_api_stays_away(looks: Sequence[Any], why: str, hint: str) -> None:
    cluster: Any = _Looked(*looks)
    with pytest.raises(StartError, match=f"no worker within .*: {why}") as told:
        _wait_for_workers(a_run(settings=Settings(start_timeout=1.0)), cluster, _Alone(AWAY), None, first=1)
    assert told.value.hint == hint


class _GivenUp(_Client):
    """It has tried for long to have its scheduler back, and has closed itself."""

    status = "closed"

    async def ncores(self) -> dict[str, int]:
        raise AttributeError("'NoneType' object has no attribute 'ncores'")


@pytest.mark.parametrize(
    ("look", "why", "hint"),
    [([FULL], "the connection to the scheduler is lost", "run it again; .*"), (AWAY, AWAY.message, AWAY.hint)],
    ids=["the API answers", "the API is away too"],
)
def test_a_connection_that_is_given_up_ends_the_wait(look: Any, why: str, hint: str) -> None:
    cluster: Any = _Looked(look)
    with pytest.raises(StartError, match=f"the scheduler of `skjob-train-1` does not answer any more: {why}") as told:
        first_worker(a_run(settings=Settings(start_timeout=30.0)), cluster, _GivenUp(AWAY))
    assert re.fullmatch(hint, told.value.hint)
