"""Lock a cluster, which serves one run at a time. The scheduler keeps the lock.

Two runs on one cluster would scale it against each other and wait in each other's queue. A lock is acquired on the
scheduler's event loop, so only one of two runs gets it. It holds as long as its client is connected: a run that ends or
dies frees the cluster, and one that reconnects still holds it, unless another acquired it in the meantime.
"""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from skjob.deploy.kubernetes.manifests.labels import shown
from skjob.errors import StartError, in_a_line

KEY = "skjob-claim"
_ANSWER_TIMEOUT = 30.0


class ClusterLocked(StartError):
    """Another run has locked the cluster."""


@dataclass(frozen=True)
class RunLock:
    """A run's lock on a cluster: `user@host`, the program's name, and since when, in UTC."""

    owner: str
    program: str
    since: str

    def __str__(self) -> str:
        return shown(f"{self.owner} for `{self.program}`, since {self.since}")


def new_lock(program: str) -> RunLock:
    """Return a lock for this user, starting now."""
    now = datetime.now(UTC)
    return RunLock(f"{getpass.getuser()}@{socket.gethostname()}", program, f"{now:%Y-%m-%d %H:%M} UTC")


def lock_cluster(client: Any, lock: RunLock, cluster: str) -> None:
    """Lock the cluster that this Dask client is connected to. `cluster` is its name.

    Raises:
        ClusterLocked: another run holds it; the message names that run.
        StartError: the scheduler does not answer.
    """
    try:
        held = client.run_on_scheduler(_try_lock, client.id, asdict(lock), callback_timeout=_ANSWER_TIMEOUT)
    except (OSError, TimeoutError) as error:
        raise StartError(
            f"the scheduler of `{cluster}` does not answer: {in_a_line(error)}",
            "try again; `skjob ps` shows whether the cluster is still there",
        ) from error
    if held is not None:
        raise ClusterLocked(
            f"`{cluster}` is in use by {RunLock(**held)}",
            "wait until that run has ended, or start your own cluster: omit the name, or `skjob up` with another",
        )


def _try_lock(client_id: str, claim: dict[str, str], dask_scheduler: Any = None) -> dict[str, str] | None:
    """Acquire the lock, or return the one that another client holds. Runs on the scheduler."""
    held: dict[str, Any] | None = dask_scheduler.get_metadata([KEY], default=None)
    if held is not None and held["client"] != client_id and held["client"] in dask_scheduler.clients:
        return dict(held["claim"])
    dask_scheduler.set_metadata([KEY], {"client": client_id, "claim": claim})
    return None
