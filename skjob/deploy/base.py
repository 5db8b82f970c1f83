"""The Cluster protocol: all that a run and the scaling loop know of a cluster, wherever it runs.

Workers requested, running and connected are three numbers because each step between them can fail on its own: a worker
that was requested may never get a node, and one whose pod runs may never reach the scheduler. A message about a wait
shows all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.utils.tls import TlsFiles


@dataclass(frozen=True)
class WorkerCounts:
    """Workers asked for, those whose process or pod runs, and those that have joined the scheduler."""

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
    """A Dask cluster that one run owns. Every call has a deadline of its own; none waits for ever."""

    @property
    def name(self) -> str:
        """What a user calls it."""

    @property
    def address(self) -> str:
        """Where a client on this machine reaches the scheduler: `tls://…`."""

    @property
    def tls(self) -> TlsFiles:
        """The certificates that a client presents and requires."""

    @property
    def environment(self) -> dict[str, object]:
        """How the workers got their environment, for the record; empty if nothing had to be done for it."""

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start the scheduler and request the first workers; return when a client can connect.

        `check` is called in each wait that may be long, and ends it by raising.
        """

    def add_workers(self, total: int) -> None:
        """Request workers until there are `total`. Never lower their number."""

    def remove_workers(self, names: list[str]) -> None:
        """End these workers, which the scheduler has retired already, and no others."""

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """Cancel up to `maximum` requested workers that are neither connected nor running."""

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return those of these workers whose machine is known to be gone."""
        ...

    def pending_problems(self) -> list[Problem]:
        """Return why requested workers do not run, in the user's words. Raise StartError if they never will.

        The words for one cause stay the same.
        """
        ...

    def verify_lock(self, client: Any) -> None:
        """Check, once the scheduler answers again, that the cluster is still this run's.

        Raises:
            ClusterLost: another run has taken it meanwhile.
        """

    def lost_reason(self) -> Problem | None:
        """Return why the cluster will not come back, if that is known. Called when its scheduler does not answer."""

    def cost(self) -> Cost | None:
        """Return what it has cost this run by now, and costs in an hour with all requested workers.

        None if no prices are known.
        """

    def requested(self) -> int:
        """Return how many workers were requested."""

    def running(self) -> int:
        """Return how many workers' processes or pods run."""

    def logs(self) -> dict[str, str]:
        """Return the last lines of the scheduler and of each worker, as far as they can be read."""

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything and wait until it is gone, but do not wait if `hurried`. Safe to call twice."""
