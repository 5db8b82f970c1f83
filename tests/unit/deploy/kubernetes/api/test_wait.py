"""Test waiting for a pod: what ends the wait, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clocks import Clock

from skjob.deploy.kubernetes.api import wait
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Throttled
from skjob.deploy.kubernetes.api.wait import wait_for_pod
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import Unanswered

AWAY = Unanswered("the API does not answer")


class Watched(Api):
    """An API whose watches return these results in order: pods, or that the API is unreachable."""

    def __init__(self, *watches: list[Manifest] | Unanswered) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.watches = list(watches)

    def watch(self, kind: str, namespace: str, *, selector: str, seconds: int) -> Iterator[Manifest]:
        assert (kind, namespace, selector) == ("Pod", "team", "a=b")
        told = self.watches.pop(0) if self.watches else []
        if isinstance(told, Unanswered):
            raise told
        yield from told


def name_of_ready(pod: Manifest) -> str | None:
    return pod["name"] if pod["ready"] else None


def nothing() -> None: ...


COMING, READY = {"name": "one", "ready": False}, {"name": "one", "ready": True}


@pytest.fixture(autouse=True)
def clock(clock_of: Callable[..., Clock]) -> Clock:
    return clock_of(wait)


@pytest.fixture
def soon(clock: Clock) -> float:
    """Return a deadline."""
    return clock.now + 10


def test_a_pod_that_changes_is_seen_in_the_watch(soon: float) -> None:
    api = Watched([COMING, READY])
    assert wait_for_pod(api, "a=b", name_of_ready, nothing, soon) == "one"


def test_between_two_watches_one_looks(soon: float) -> None:
    looks: list[str] = []
    api = Watched([COMING], [COMING], [READY])
    assert wait_for_pod(api, "a=b", name_of_ready, lambda: looks.append("look"), soon) == "one"
    assert looks == ["look", "look"]


def test_an_api_that_is_away_for_a_moment(soon: float) -> None:
    checks: list[str] = []
    looks: list[str] = []
    api = Watched(AWAY, [READY])
    assert wait_for_pod(
        api, "a=b", name_of_ready, lambda: looks.append("look"), soon, check=lambda: checks.append("check")
    ) == "one"  # fmt: skip
    assert (looks, checks) == ([], ["check"])


def test_an_api_that_stays_away(soon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "API_TIMEOUT", -1.0)
    with pytest.raises(Unanswered):
        wait_for_pod(Watched(AWAY), "a=b", name_of_ready, nothing, soon)


def test_an_api_that_has_put_off_the_watch_for_long(soon: float) -> None:
    """The request was already retried for as long as that makes sense."""
    busy = Throttled("the API has too much to do", "try again later", "1")
    with pytest.raises(Throttled):
        wait_for_pod(Watched(busy, [READY]), "a=b", name_of_ready, nothing, soon)


def test_an_api_that_was_slow_before_it_was_away_is_not_taken_for_long_away(
    clock: Clock, soon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "API_TIMEOUT", 0.5)
    answers: list[Any] = [AWAY]

    def look() -> None:
        if answers:
            clock.sleep(0.6)
            raise answers.pop()

    assert wait_for_pod(Watched([COMING], [READY]), "a=b", name_of_ready, look, soon) == "one"


def test_a_look_that_the_api_does_not_answer_is_no_answer(soon: float) -> None:
    answers: list[Any] = [AWAY]

    def look() -> None:
        if answers:
            raise answers.pop()

    assert wait_for_pod(Watched([COMING], [READY]), "a=b", name_of_ready, look, soon) == "one"


def test_the_deadline_comes_after_a_look(clock: Clock) -> None:
    looks: list[str] = []
    assert wait_for_pod(Watched(), "a=b", name_of_ready, lambda: looks.append("look"), clock.now - 1) is None
    assert looks == ["look"]
