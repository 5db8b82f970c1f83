"""Convert times of workers to the client's clock. Pure.

A worker's clock may be off by any amount. A result reaches the client after its task has ended: the smallest difference
between the two, over all results of a worker, is how far its clock is behind, plus the time that its fastest result
took to arrive.
"""

from __future__ import annotations

MAX_DELAY = 60.0
"""If a result seems to have travelled longer than these seconds, the worker's clock has been changed."""


class WorkerClocks:
    """Estimates how far the clock of each worker is behind the client's."""

    def __init__(self) -> None:
        self._behind: dict[str, float] = {}

    def on_client(self, worker: str, ended: float, arrived: float) -> float:
        """Return the client's time at which a task ended, from its worker's time and the arrival of its result."""
        behind = arrived - ended
        known = self._behind.get(worker, behind)
        if behind < known or behind > known + MAX_DELAY:
            known = behind
        self._behind[worker] = known
        return ended + known
