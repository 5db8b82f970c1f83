"""Test how often the scaling loop queries the cluster, each time at the cost of an API request, and its
replacements."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import pytest
from clocks import wait_for

from skjob.config.settings import WorkerRange
from skjob.deploy.kubernetes.api.errors import Rejected
from skjob.deploy.scaling.loop import POLL_INTERVAL, CachedPoll, Progress, ScalingLoop
from skjob.deploy.scaling.scheduler import SchedulerSnapshot
from skjob.errors import ClusterLost, SkjobError, Unanswered, Unauthorized


def test_what_does_not_change_is_looked_at_every_few_seconds() -> None:
    looks = []
    seldom = CachedPoll(lambda: looks.append(1) or len(looks))
    seen = [seldom(now, "same", often=False) for now in range(100, 100 + 3 * int(POLL_INTERVAL))]
    assert seen == [1] * int(POLL_INTERVAL) + [2] * int(POLL_INTERVAL) + [3] * int(POLL_INTERVAL)


def test_what_changes_is_looked_at_each_time() -> None:
    looks = []
    seldom = CachedPoll(lambda **how: looks.append(how))
    for now in range(10):
        seldom(now, now // 3, often=False)
    assert len(looks) == 10 // 3 + 1
    for now in range(10, 15):
        seldom(now, "same", often=True, alone=True)
    assert looks[4:] == [{"alone": True}] * 5


class HalfGone:
    """A cluster of three workers: one's machine is gone, and the API fails once, just after that one was removed."""

    def __init__(self) -> None:
        self.workers = 3
        self.away = True

    def requested(self) -> int:
        return self.workers

    running = requested

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        return names

    def pending_problems(self) -> list[Any]:
        return []

    def remove_workers(self, names: list[str]) -> None:
        self.workers -= len(names)

    def add_workers(self, total: int) -> None:
        if self.away:
            self.away = False
            raise Unanswered("the API does not answer")
        self.workers = max(self.workers, total)


class Scheduler:
    def run_on_scheduler(self, *_: Any, **__: Any) -> None: ...


def loop_of(cluster: Any, **listeners: Callable[[Any], None]) -> ScalingLoop:
    """A loop for three workers; it notifies nobody unless given a listener."""
    told = dict.fromkeys(("observe", "progress", "notify", "lost", "memory"), lambda _: None) | listeners
    scheduler: Any = Scheduler()
    return ScalingLoop(cluster, scheduler, WorkerRange(3, 3), 1, reconnect_timeout=30, usual_start=5.0, **told)


def test_a_worker_that_was_taken_away_is_replaced_although_the_api_was_away() -> None:
    cluster: Any = HalfGone()
    said: list[str] = []
    loop = loop_of(cluster, notify=said.append, lost=said.append)
    with pytest.raises(Unanswered):
        loop._tick(sight("a", "b", "c", quiet=("c",)))
    assert cluster.workers == 2
    loop._tick(sight("a", "b"))
    assert cluster.workers == 3
    assert said == ["the node of 1 workers does not answer: others take over their tasks"]


def test_a_rule_of_the_cluster_is_told_without_a_hint_where_there_is_none() -> None:
    cluster: Any = HalfGone()
    said: list[str] = []
    loop = loop_of(cluster, notify=said.append, lost=said.append)
    loop._report_api_error(Rejected("a webhook denied the request"))
    assert said == ["a webhook denied the request: the run continues while its connection holds"]


class Unseen:
    """A client whose scheduler does not answer, while the API reports a reason of its own."""

    def __init__(self, error: SkjobError) -> None:
        self.error = error

    def lost_reason(self) -> None: ...

    def running(self) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (Unauthorized("the API does not accept its credentials", "log in again"), True),
        (Unanswered("the API does not answer"), False),
    ],
)
def test_credentials_that_have_ended_are_told_where_the_scheduler_is_not_seen(
    monkeypatch: pytest.MonkeyPatch, error: SkjobError, also: bool
) -> None:
    said: list[str] = []
    cluster: Any = Unseen(error)
    loop = loop_of(cluster, notify=said.append)
    monkeypatch.setattr(loop, "unseen_for", lambda: 5.0)
    assert not loop._is_lost(OSError("the connection broke"))
    told = ["the API does not accept its credentials; log in again"] if also else []
    assert said == ["the scheduler does not answer: retrying for 30 s", *told]


def sight(*workers: str, quiet: tuple[str, ...] = ()) -> SchedulerSnapshot:
    return SchedulerSnapshot({}, {}, {}, dict.fromkeys(workers, 0), None, quiet)


class TakenOver(HalfGone):
    """Another run has locked the cluster."""

    def lost_reason(self) -> None: ...

    def verify_lock(self, client: Any) -> None:
        raise ClusterLost("`dev` is in use")


def test_a_cluster_that_another_run_has_taken_is_scaled_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the scheduler did not answer for a while, first check whether the cluster is still this run's."""
    cluster: Any = TakenOver()
    lost: list[Exception] = []
    loop = loop_of(cluster, lost=lost.append)
    looks = iter([sight("a"), sight("a"), OSError("the connection broke"), sight("a", quiet=("a",))])

    def look() -> SchedulerSnapshot:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(loop, "_snapshot", look)
    monkeypatch.setattr("skjob.deploy.scaling.loop.INTERVAL", 0.01)
    loop.start()
    wait_for(lambda: lost)
    loop.stop()
    assert [str(error) for error in lost] == ["`dev` is in use"]
    assert (cluster.workers, cluster.away) == (3, True)


def test_what_an_earlier_run_has_done_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm cluster's scheduler has been counting since it started."""
    told: list[Progress] = []
    cluster: Any = HalfGone()
    loop = loop_of(cluster, progress=told.append, done_here=lambda: 100)
    before, now = (replace(sight("a"), done={"fit": (count, 9.0)}) for count in (56, 60))
    sights = chain([before], repeat(now))
    monkeypatch.setattr(loop, "_snapshot", lambda: next(sights))
    monkeypatch.setattr("skjob.deploy.scaling.loop.INTERVAL", 0.01)
    loop.start()
    wait_for(lambda: told)
    loop.stop()
    assert told == [Progress(104, 0)]  # including what the program has done itself


class Steady:
    """A cluster that does what it is asked to, at once."""

    def __init__(self) -> None:
        self.workers = ["a", "b", "c"]

    def requested(self) -> int:
        return len(self.workers)

    running = requested

    def pending_problems(self) -> list[Any]:
        return []

    def remove_workers(self, names: list[str]) -> None:
        self.workers = [each for each in self.workers if each not in names]

    def add_workers(self, total: int) -> None:
        self.workers += [f"w{number}" for number in range(len(self.workers), total)]


def test_another_number_of_workers_while_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: Any = Steady()
    loop = loop_of(cluster)
    monkeypatch.setattr(Scheduler, "run_on_scheduler", lambda _self, _function, names, **_: names)
    loop._tick(sight(*cluster.workers))
    assert len(cluster.workers) == 3
    loop.scale(WorkerRange(5, 5))
    loop._tick(sight(*cluster.workers))
    assert len(cluster.workers) == 5
    loop.scale(WorkerRange(1, 1))
    for _ in range(3):  # whoever is idle at two looks in a row goes
        loop._tick(sight(*cluster.workers))
    assert len(cluster.workers) == 1
