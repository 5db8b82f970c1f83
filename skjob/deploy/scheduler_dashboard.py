"""Start Dask's dashboard of a scheduler when somebody first opens it.

Dask itself imports bokeh as a scheduler starts, which costs every start most of a second, although few users open it.
In a pod, Dask loads this module (`--preload`) and calls `dask_setup`; a local cluster calls it itself.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.web import ErrorHandler

if TYPE_CHECKING:
    from distributed import Scheduler

BOKEH_FOLDER = Path("/opt/skjob-dashboard")
"""Where skjob's image has bokeh. Only a scheduler looks there, if its environment has no bokeh."""

WITHOUT_BOKEH = HTTPStatus.NOT_IMPLEMENTED


class LazyDashboard:
    """The dashboard of a scheduler, started at most once."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = asyncio.Lock()
        self._started = False

    async def start(self) -> bool:
        """Start the dashboard if that has not been done. Return whether it is there: without bokeh it is not."""
        async with self._lock:
            if not self._started:
                try:
                    # In a thread, so that the scheduler answers meanwhile.
                    pages = await asyncio.to_thread(_import_dashboard)
                except ImportError:
                    return False
                pages.connect(self._scheduler.http_application, self._scheduler.http_server, self._scheduler)
                self._started = True
        return True


def _import_dashboard() -> Any:
    if find_spec("bokeh") is None and BOKEH_FOLDER.exists():
        sys.path.append(str(BOKEH_FOLDER))
    return importlib.import_module("distributed.dashboard.scheduler")


class StartHandler(ErrorHandler):
    """Handler of the dashboard's address until the dashboard is there.

    It is an ErrorHandler because Dask asks its other applications, of which the dashboard becomes one, only for
    addresses that no other handler has (`distributed.http.routing.RoutingApplication`).
    """

    def initialize(self, dashboard: LazyDashboard) -> None:  # type: ignore[override]
        self._dashboard = dashboard

    async def prepare(self) -> None:  # type: ignore[override]
        """Start the dashboard, and send the reader there."""
        if await self._dashboard.start():
            self.redirect("/status")
        else:
            self.set_status(WITHOUT_BOKEH)
            self.finish("Dask's dashboard needs bokeh, which is not in the scheduler's environment.")


def dask_setup(scheduler: Scheduler) -> None:
    """Add the address of the dashboard to a scheduler that has been made without one."""
    dashboard = {"dashboard": LazyDashboard(scheduler)}
    handlers = [(path, StartHandler, dashboard) for path in ("/", "/status")]
    scheduler.http_application.add_handlers(".*$", handlers)
