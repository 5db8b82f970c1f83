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
from dask import config

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
        ([], "`ann` has no cluster in namespace `team-a`"),
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


@pytest.fixture(autouse=True)
def _at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTERHUB_SERVICE_PREFIX", "NB_PREFIX", "KUBERNETES_SERVICE_HOST", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)


def _serve(
    monkeypatch: pytest.MonkeyPatch, pages: Pages, answers: list[bool] | None = None
) -> tuple[SkjobError, list[str]]:
    """Return the error that ends the command, and the links that it has opened."""
    closed, opened, left = [], [], iter(answers or [])

    @asynccontextmanager
    async def forwarded(context: Any, name: str) -> AsyncIterator[int]:
        try:
            yield 4321
        finally:
            closed.append(name)

    monkeypatch.setattr("skjob.deploy.kubernetes.kubecluster.forwarded_pages", forwarded)
    monkeypatch.setattr("skjob.deploy.dashboard.pages_at", lambda port: pages)
    monkeypatch.setattr("skjob.deploy.dashboard.answers_at", lambda port: next(left))
    monkeypatch.setattr(dashboard, "POLL_INTERVAL", 0)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with pytest.raises(SkjobError) as caught:
        asyncio.run(dashboard._serve(API, "a", open_it=True))
    assert closed == ["a"]
    assert list(left) == []
    return caught.value, opened


LOST = [False] * dashboard.MAX_MISSED


@pytest.mark.parametrize(
    ("pages", "answers", "error", "message"),
    [
        (
            Pages.WITHOUT_BOKEH,
            [],
            ConfigError,
            "the scheduler of `a` has no dashboard: bokeh is not in its environment",
        ),
        (Pages.SILENT, [], Unanswered, "the scheduler of `a` does not answer"),
        (
            Pages.DASHBOARD,
            [False, True, *LOST],
            ClusterLost,
            "the dashboard of `a` does not answer any more",
        ),
    ],
)
def test_a_link_is_printed_only_while_it_works(
    pages: Pages,
    answers: list[bool],
    error: type[SkjobError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raised, opened = _serve(monkeypatch, pages, answers)
    assert (type(raised), raised.message) == (error, message)
    link = "http://127.0.0.1:4321/status"
    works = pages is Pages.DASHBOARD
    assert capsys.readouterr().out == (f"{link}\n" if works else "")
    assert opened == ([link] if works else [])


def test_the_link_has_the_form_that_the_user_has_set_for_dask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ann/")
    with config.set({"distributed.dashboard.link": "https://hub{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"}):
        _, opened = _serve(monkeypatch, Pages.DASHBOARD, LOST)
    assert opened == ["https://hub/user/ann/proxy/4321/status"]
    assert capsys.readouterr().out == f"{opened[0]}\n"


def test_over_ssh_the_command_that_leads_to_the_port_is_shown_and_nothing_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5022 10.0.0.2 22")
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    _, opened = _serve(monkeypatch, Pages.DASHBOARD, LOST)
    shown = capsys.readouterr()
    assert shown.out == "http://127.0.0.1:4321/status\n"
    assert shown.err == (
        "skjob: port 4321 of this machine; run `ssh -N -L 4321:127.0.0.1:4321 ann@10.0.0.2` where your browser is,"
        " and open there\n"
        "skjob: press Ctrl-C to stop forwarding\n"
    )
    assert opened == []


def test_where_no_link_can_work_an_error_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NB_PREFIX", "/notebook/ann")
    raised, _ = _serve(monkeypatch, Pages.DASHBOARD)
    assert raised.message == "your browser is on another machine, and nothing says how it reaches this one"
    assert "`DASK_DISTRIBUTED__DASHBOARD__LINK`" in raised.hint
    with config.set({"distributed.dashboard.link": "/{NONESUCH}/{port}"}):
        raised, _ = _serve(monkeypatch, Pages.DASHBOARD)
    assert raised.message == ("Dask's setting `distributed.dashboard.link`, `/{NONESUCH}/{port}`, makes no link here")
    assert capsys.readouterr().out == ""
