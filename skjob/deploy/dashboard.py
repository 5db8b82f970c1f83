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

_ELSEWHERE = ("JUPYTERHUB_SERVICE_PREFIX", "NB_PREFIX", "KUBERNETES_SERVICE_HOST", "SSH_CONNECTION")
"""Environment variables of processes whose user's browser is on another machine."""


class Pages(Enum):
    """What a port of this machine shows."""

    DASHBOARD = auto()
    WITHOUT_BOKEH = auto()
    SILENT = auto()


def pages_at(port: int) -> Pages:
    """Return what a port of this machine shows. With bokeh, the scheduler opens a session for each such look."""
    content = _read(port, "/status")
    if content is None:
        return Pages.SILENT
    return Pages.WITHOUT_BOKEH if b"Dask needs bokeh" in content else Pages.DASHBOARD


def answers_at(port: int) -> bool:
    """Return whether a scheduler answers at a port of this machine, at little cost to it."""
    return _read(port, "/health") is not None


def _read(port: int, page: str) -> bytes | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is behind no proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}{page}", timeout=ANSWER_TIMEOUT) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError, HTTPException):
        return None
    return content


def link_form() -> str:
    """Return how links to a dashboard are made: Dask's setting `distributed.dashboard.link`."""
    from dask import config

    return str(config.get("distributed.dashboard.link", PLAIN_LINK))


def link_to(port: int, form: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the link to the dashboard at a port of this machine; empty if its reader could not open it.

    Where the browser is on another machine, as in JupyterHub, in a pod or over SSH, there is no link without a `form`
    of the user's, which may lead through a proxy.
    """
    if form == PLAIN_LINK and any(name in environ for name in _ELSEWHERE):
        return ""
    try:
        return form.format(**{**environ, "scheme": "http", "host": "127.0.0.1", "port": port})
    except (KeyError, IndexError, ValueError):
        return ""


def ssh_command(port: int, user: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return what to run on the other machine to have a port of this one there; empty without an SSH session.

    It is empty too where there is more between the two than SSH.
    """
    if [name for name in _ELSEWHERE if name in environ] != ["SSH_CONNECTION"]:
        return ""
    try:
        _, _, host, ssh_port = environ["SSH_CONNECTION"].split()
    except ValueError:
        return ""
    option = "" if ssh_port == "22" else f" -p {ssh_port}"
    return f"ssh -N -L {port}:127.0.0.1:{port}{option} {user}@{host}"
