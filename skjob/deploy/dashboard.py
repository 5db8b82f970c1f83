"""Dask's dashboard, the pages of a scheduler: where they are, and whether they can be shown.

Without bokeh in the scheduler's environment the address has a page that says so, which is no dashboard.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from enum import Enum, auto
from http.client import HTTPException

ANSWER_TIMEOUT = 10.0
"""Seconds that the first page may take: bokeh makes it anew for each reader."""

PLAIN_LINK = "{scheme}://{host}:{port}/status"
"""Dask's own form of a link, which is for a browser on the same machine."""


class Pages(Enum):
    """What a port of this machine shows."""

    DASHBOARD = auto()
    WITHOUT_BOKEH = auto()
    SILENT = auto()


def pages_at(port: int) -> Pages:
    """Return what a port of this machine shows."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is behind no proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}/status", timeout=ANSWER_TIMEOUT) as answer:
            content = answer.read()
    except (OSError, ValueError, HTTPException):
        return Pages.SILENT
    return Pages.WITHOUT_BOKEH if b"Dask needs bokeh" in content else Pages.DASHBOARD


def link_to(port: int, form: str = PLAIN_LINK, environ: Mapping[str, str] = os.environ) -> str:
    """Return the link to the dashboard at a port of this machine; empty if its reader could not open it.

    `form` is Dask's setting `distributed.dashboard.link`. In JupyterHub the browser is on another machine than the
    kernel: without a form of its own, which may lead through a proxy, there is no link.
    """
    if form == PLAIN_LINK and "JUPYTERHUB_SERVICE_PREFIX" in environ:
        return ""
    try:
        return form.format(**{**environ, "scheme": "http", "host": "127.0.0.1", "port": port})
    except (KeyError, IndexError, ValueError):
        return ""
