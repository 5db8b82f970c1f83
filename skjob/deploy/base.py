"""What a cluster can do, wherever it runs: the one thing that the session and the scaling loop know of it.

`asked`, `running` and `connected` are three numbers because each step between them can fail on its own: a worker that
was asked for may never get a node, and one whose pod runs may never reach the scheduler. A message about a wait shows
all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.utils.tls import TlsFiles

Tell = Callable[[str], None]
"""Takes one line about what goes on, for the user."""


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
    """Why something that was asked for does not run, and what to do about it."""

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
        """The certificates that a client shows and asks for."""

    @property
    def environment(self) -> dict[str, object]:
        """How the workers came to their environment, for the record; empty where nothing had to be done for it."""

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start the scheduler and ask for the first workers; returns when a client can connect.

        `check` is called in each wait that may be long, and ends it by raising.
        """

    def add_workers(self, total: int) -> None:
        """Ask for workers until there are `total`. Never fewer than now."""

    def remove_workers(self, names: list[str]) -> None:
        """End these workers, which the scheduler has retired already, and no others."""

    def withdraw(self, most: int, connected: list[str]) -> None:
        """Take back up to so many workers that were asked for, are not connected and do not run."""

    def unreachable(self, names: list[str]) -> list[str]:
        """Those of these workers whose machine is known to be gone."""
        ...

    def problems(self) -> list[Problem]:
        """Why workers that were asked for do not run, in the user's words; fatal causes are raised.

        Of one cause the words stay the same.
        """
        ...

    def reclaim(self, client: Any) -> None:
        """Called when the scheduler answers again. Raises ClusterLost where another run has taken it meanwhile."""

    def gone(self) -> Problem | None:
        """Why the cluster will not come back, where that is known; asked when it does not answer."""

    def spent(self) -> Cost | None:
        """What it has cost this run by now, and costs in an hour with all workers that were asked for.

        None where nobody has told what things cost.
        """

    def asked(self) -> int:
        """How many workers were asked for."""

    def running(self) -> int:
        """How many workers' processes or pods run."""

    def logs(self) -> dict[str, str]:
        """The last lines of each worker and of the scheduler that can still be had."""

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything. Waits until it is gone, unless `hurried`; asks for it in any case. Safe to call twice."""
