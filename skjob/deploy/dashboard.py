"""Dask's dashboard, the pages of a scheduler: where they are, and whether they can be shown.

A scheduler starts its dashboard when somebody first opens it (`scheduler_dashboard.py`).
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError

from skjob.deploy.scheduler_dashboard import WITHOUT_BOKEH

HEALTH_TIMEOUT = 10.0

PAGE_TIMEOUT = 60.0
"""Seconds that the dashboard's first page may take: the scheduler imports bokeh for the first reader."""

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
    status = _status_of(port, "/status", PAGE_TIMEOUT)
    if status == WITHOUT_BOKEH:
        return Pages.WITHOUT_BOKEH
    return Pages.DASHBOARD if status == HTTPStatus.OK else Pages.SILENT


def answers_at(port: int) -> bool:
    """Return whether a scheduler answers at a port of this machine, at little cost to it."""
    return _status_of(port, "/health", HEALTH_TIMEOUT) == HTTPStatus.OK


def _status_of(port: int, page: str, timeout: float) -> int | None:
    """Return the HTTP status of a page at a port of this machine; None without an answer within `timeout` seconds."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is behind no proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}{page}", timeout=timeout) as answer:
            answer.read()
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError, HTTPException):
        return None


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
