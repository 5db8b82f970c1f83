"""Whether a port shows Dask's dashboard, and which link leads to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from skjob.deploy.dashboard import Pages, answers_at, link_form, link_to, pages_at, ssh_command

pytestmark = pytest.mark.unit

DASKS_OWN = "{scheme}://{host}:{port}/status"


@contextmanager
def answering(status: int, content: bytes, paths: list[str] | None = None) -> Iterator[int]:
    """A server at a port of this machine that answers to everything like this, and adds to `paths`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if paths is not None:
                paths.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "content", "pages"),
    [
        (200, b"<title>Dask: Status</title>", Pages.DASHBOARD),
        (501, b"Dask's dashboard needs bokeh", Pages.WITHOUT_BOKEH),
        (404, b"", Pages.SILENT),
        (500, b"", Pages.SILENT),
    ],
)
def test_what_a_port_shows(status: int, content: bytes, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not for this machine
    with answering(status, content) as port:
        assert pages_at(port) is pages
        assert answers_at(port) is (status == 200)
    assert pages_at(port) is Pages.SILENT
    assert not answers_at(port)


def test_only_what_shows_the_dashboard_makes_bokeh_open_a_session() -> None:
    paths: list[str] = []
    with answering(200, b"ok", paths) as port:
        answers_at(port)
        pages_at(port)
    assert paths == ["/health", "/status"]


@pytest.mark.parametrize(
    ("form", "environ", "link"),
    [
        (DASKS_OWN, {}, "http://127.0.0.1:4321/status"),
        (DASKS_OWN, {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, ""),
        (DASKS_OWN, {"NB_PREFIX": "/notebook/team-a/ann"}, ""),
        (DASKS_OWN, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, ""),
        (DASKS_OWN, {"SSH_CONNECTION": "10.0.0.1 5022 10.0.0.2 22"}, ""),
        (
            "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status",
            {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"},
            "/user/ann/proxy/4321/status",
        ),
        ("{NONESUCH}/{port}", {}, ""),
    ],
)
def test_a_link_is_there_only_if_its_reader_can_open_it(form: str, environ: dict[str, str], link: str) -> None:
    assert link_to(4321, form, environ) == link


def test_the_form_of_a_link_is_dasks_setting() -> None:
    from dask import config

    assert link_form() == DASKS_OWN
    with config.set({"distributed.dashboard.link": "/proxy/{port}/status"}):
        assert link_to(4321, link_form(), {"NB_PREFIX": "/ann"}) == "/proxy/4321/status"


@pytest.mark.parametrize(
    ("environ", "command"),
    [
        ({"SSH_CONNECTION": "10.0.0.1 5022 10.0.0.2 22"}, "ssh -N -L 4321:127.0.0.1:4321 ann@10.0.0.2"),
        ({"SSH_CONNECTION": "::1 5022 fd00::2 2222"}, "ssh -N -L 4321:127.0.0.1:4321 -p 2222 ann@fd00::2"),
        ({"SSH_CONNECTION": "10.0.0.1 5022 10.0.0.2 22", "NB_PREFIX": "/ann"}, ""),
        ({"SSH_CONNECTION": ""}, ""),
        ({}, ""),
    ],
)
def test_what_leads_to_a_port_over_ssh(environ: dict[str, str], command: str) -> None:
    assert ssh_command(4321, "ann", environ) == command
