"""`skjob dashboard`: whose dashboard it is, and what is said if there is none."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from skjob.cli.commands import dashboard
from skjob.deploy.dashboard import Pages
from skjob.errors import ClusterLost, ConfigError, SkjobError, Unanswered

pytestmark = pytest.mark.unit

API: Any = SimpleNamespace(context=SimpleNamespace(name="lab", namespace="team-a"))


@dataclass
class Found:
    name: str
    user: str


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "`ann` has 0 clusters in namespace `team-a`"),
        (["a", "b"], "`ann` has 2 clusters in namespace `team-a`: `a`, `b`"),
    ],
)
def test_without_a_name_there_must_be_one(names: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*(Found(name, "ann") for name in names), Found("other", "bob")]
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("skjob.deploy.kubernetes.inventory.runs.runs", lambda *_: found)
    with pytest.raises(ConfigError) as caught:
        dashboard._only_name(API)
    assert caught.value.message == message


def test_without_a_name_it_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr(
        "skjob.deploy.kubernetes.inventory.runs.runs", lambda *_: [Found("other", "bob"), Found("a", "ann")]
    )
    assert dashboard._only_name(API) == "a"


@pytest.mark.parametrize(
    ("seen", "error", "message"),
    [
        ([Pages.WITHOUT_BOKEH], ConfigError, "the scheduler of `a` has no dashboard: bokeh is not in its environment"),
        ([Pages.SILENT], Unanswered, "the scheduler of `a` does not answer"),
        (
            [Pages.DASHBOARD, Pages.SILENT, Pages.DASHBOARD, *[Pages.SILENT] * dashboard.MAX_MISSED],
            ClusterLost,
            "the dashboard of `a` does not answer any more",
        ),
    ],
)
def test_a_link_is_printed_only_while_it_works(
    seen: list[Pages],
    error: type[SkjobError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed, opened, left = [], [], iter(seen)

    @asynccontextmanager
    async def forwarded(context: Any, name: str) -> AsyncIterator[int]:
        try:
            yield 4321
        finally:
            closed.append(name)

    monkeypatch.setattr("skjob.deploy.kubernetes.kubecluster.forwarded_pages", forwarded)
    monkeypatch.setattr("skjob.deploy.dashboard.pages_at", lambda port: next(left))
    monkeypatch.setattr(dashboard, "POLL_INTERVAL", 0)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with pytest.raises(error) as caught:
        asyncio.run(dashboard._serve(API, "a", open_it=True))
    assert caught.value.message == message
    link = "http://127.0.0.1:4321/status"
    works = seen[0] is Pages.DASHBOARD
    assert capsys.readouterr().out == (f"{link}\n" if works else "")
    assert opened == ([link] if works else [])
    assert closed == ["a"]
    assert list(left) == []
