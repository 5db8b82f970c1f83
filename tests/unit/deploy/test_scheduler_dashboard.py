"""Test that a scheduler imports and starts the dashboard when somebody first opens it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.http.routing import RoutingApplication
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from skjob.deploy import scheduler_dashboard

pytestmark = pytest.mark.unit

Get = Callable[[str], Awaitable[tuple[int, str]]]


class _Status(RequestHandler):
    def get(self) -> None:
        self.write("the dashboard")


class _BokehPages:
    """What stands for Dask's pages, which need bokeh: its function `connect` adds an application."""

    def __init__(self) -> None:
        self.connected = 0

    def connect(self, application: Any, _server: Any, _scheduler: Any) -> None:
        self.connected += 1
        application.add_application(Application([("/status", _Status)]))


def _visit(visit: Callable[[Get], Awaitable[None]]) -> None:
    """Call `visit` with a function that gets pages of a scheduler with `dask_setup`."""

    async def serve() -> None:
        scheduler: Any = SimpleNamespace(http_application=RoutingApplication([]), http_server=None)
        scheduler_dashboard.dask_setup(scheduler)
        socket, port = bind_unused_port()
        server = HTTPServer(scheduler.http_application)
        server.add_sockets([socket])
        client = AsyncHTTPClient()

        async def get(page: str) -> tuple[int, str]:
            response = await client.fetch(f"http://127.0.0.1:{port}{page}", raise_error=False)
            return response.code, response.body.decode()

        try:
            await visit(get)
        finally:
            client.close()
            server.stop()
            await server.close_all_connections()

    asyncio.run(serve())


def test_the_first_request_starts_the_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = _BokehPages()
    monkeypatch.setattr(scheduler_dashboard, "_import_dashboard", lambda: pages)

    async def visit(get: Get) -> None:
        assert pages.connected == 0
        assert await asyncio.gather(get("/"), get("/status")) == [(200, "the dashboard")] * 2
        assert await get("/status") == (200, "the dashboard")
        assert (await get("/elsewhere"))[0] == 404
        assert pages.connected == 1

    _visit(visit)


def test_without_bokeh_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> object:
        raise ImportError("bokeh")

    monkeypatch.setattr(scheduler_dashboard, "_import_dashboard", fail)

    async def visit(get: Get) -> None:
        assert await get("/status") == (
            501,
            "Dask's dashboard needs bokeh, which is not in the scheduler's environment.",
        )

    _visit(visit)


@pytest.mark.parametrize("has_bokeh", [False, True])
def test_the_images_bokeh_is_used_only_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, has_bokeh: bool
) -> None:
    monkeypatch.setattr(scheduler_dashboard, "BOKEH_FOLDER", tmp_path)
    monkeypatch.setattr(scheduler_dashboard, "find_spec", lambda name: name if has_bokeh else None)
    monkeypatch.setattr(scheduler_dashboard.importlib, "import_module", lambda name: name)
    monkeypatch.setattr(sys, "path", ["a"])
    assert scheduler_dashboard._import_dashboard() == "distributed.dashboard.scheduler"
    assert sys.path == (["a"] if has_bokeh else ["a", str(tmp_path)])
