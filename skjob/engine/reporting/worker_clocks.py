"""Bring times of workers onto the client's clock. Pure.

A worker's clock may be off by any amount. A result reaches the client at the earliest when its task has ended: the
smallest difference between the two, over all results of a worker, is how far its clock is behind, plus the time that
its fastest result travelled.
"""

from __future__ import annotations

MAX_DELAY = 60.0
"""Seconds. If a result seems to have travelled longer, the worker's clock has been set."""


class WorkerClocks:
    """How far the clock of each worker is behind the client's."""

    def __init__(self) -> None:
        self._behind: dict[str, float] = {}

    def on_client(self, worker: str, ended: float, arrived: float) -> float:
        """Return when a task ended on the client's clock: `ended` on its worker's, its result `arrived` here."""
        behind = arrived - ended
        known = self._behind.get(worker, behind)
        if behind < known or behind > known + MAX_DELAY:
            known = behind
        self._behind[worker] = known
        return ended + known
