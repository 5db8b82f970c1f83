"""Whether a port shows Dask's dashboard, and which link leads to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from skjob.deploy.dashboard import Pages, link_to, pages_at

pytestmark = pytest.mark.unit

DASKS_OWN = "{scheme}://{host}:{port}/status"


@contextmanager
def answering(status: int, content: bytes) -> Iterator[int]:
    """A server at a port of this machine that answers to everything like this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
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
        (200, b"<p>Dask needs bokeh >=3.1.0 for the dashboard.</p>", Pages.WITHOUT_BOKEH),
        (404, b"", Pages.SILENT),
        (500, b"", Pages.SILENT),
    ],
)
def test_what_a_port_shows(status: int, content: bytes, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not for this machine
    with answering(status, content) as port:
        assert pages_at(port) is pages
    assert pages_at(port) is Pages.SILENT


def test_dask_says_that_bokeh_is_missing_in_these_words() -> None:
    from distributed.versions import BOKEH_REQUIREMENT

    assert f"Dask needs {BOKEH_REQUIREMENT}".startswith("Dask needs bokeh")


@pytest.mark.parametrize(
    ("form", "environ", "link"),
    [
        (DASKS_OWN, {}, "http://127.0.0.1:4321/status"),
        (DASKS_OWN, {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, ""),
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
