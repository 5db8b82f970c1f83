"""The Cluster protocol: everything that a run and the scaling loop know about a cluster, wherever it runs.

Workers requested, running and connected are counted separately because each step between them can fail on its own: a
requested worker may never get a node, and one whose pod runs may never reach the scheduler. Messages about waiting show
all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.utils.tls import TlsFiles


@dataclass(frozen=True)
class WorkerCounts:
    """Number of workers requested, running (as a process or pod), and connected to the scheduler."""

    asked: int
    running: int
    connected: int

    def __str__(self) -> str:
        return f"{self.connected} of {self.asked} workers connected, {self.running} running"


@dataclass(frozen=True)
class Problem:
    """Why something that was requested does not run, and what to do about it."""

    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class Cluster(Protocol):
    """A Dask cluster that one run owns. Every call has a deadline of its own; none waits forever."""

    @property
    def name(self) -> str:
        """Name of the cluster, as users refer to it."""

    @property
    def address(self) -> str:
        """Address of the scheduler for clients on this machine: `tls://…`."""

    @property
    def tls(self) -> TlsFiles:
        """Certificate that clients present, and the one they require."""

    @property
    def environment(self) -> dict[str, object]:
        """How the workers' environment was provided, for the record; empty if nothing had to be done."""

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start the scheduler and request the first workers; return when a client can connect.

        `check` is called repeatedly during long waits, and aborts them by raising.
        """

    def add_workers(self, total: int) -> None:
        """Request workers until there are `total`. Never reduce their number."""

    def remove_workers(self, names: list[str]) -> None:
        """Stop these workers, which the scheduler has already retired, and no others."""

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """Cancel up to `maximum` requested workers that are neither connected nor running."""

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return the workers among these whose machine is known to be gone."""
        ...

    def pending_problems(self) -> list[Problem]:
        """Return why requested workers are not running, in the user's words. Raise StartError if they never will.

        Word the same cause the same way each time, so that it is reported once.
        """
        ...

    def verify_lock(self, client: Any) -> None:
        """Check that the cluster is still this run's, once the scheduler answers again.

        Raises:
            ClusterLost: another run has locked it in the meantime.
        """

    def lost_reason(self) -> Problem | None:
        """Return why the cluster is gone for good, if known. Called when its scheduler does not answer."""

    def cost(self) -> Cost | None:
        """Return what the cluster has cost this run so far, and its hourly rate with all requested workers.

        None if no prices are known.
        """

    def requested(self) -> int:
        """Return how many workers were requested."""

    def running(self) -> int:
        """Return how many workers have a running process or pod."""

    def dashboard_port(self) -> int | None:
        """Return a port of this machine that leads to the scheduler's pages, from the first call on; None if none can.

        The pages have the dashboard only if bokeh is there: `deploy/dashboard.py` finds out.
        """

    def logs(self) -> dict[str, str]:
        """Return the last log lines of the scheduler and of each worker, as far as they can be read."""

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything and wait until it is gone, unless `hurried()`. Safe to call twice."""
