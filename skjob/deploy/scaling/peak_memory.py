"""The most memory that each worker's process has used, for the record of a run.

The kernel keeps it (`getrusage`), so that no peak between two looks is missed. Workers report it with each heartbeat,
so that it is also known of one that goes away, or is killed, a moment later.
"""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.utils.operating_system import peak_memory

METRIC = "skjob-peak-memory"


def peak_here(_: Any = None) -> int:
    """Return the peak of this process, in bytes."""
    return peak_memory()


class PeakMemory(WorkerPlugin):  # type: ignore[misc]
    """Adds the peak to what each worker reports to the scheduler, also those that join later."""

    name = METRIC

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        worker.metrics[METRIC] = peak_here


def peak_of(dask_worker: Any = None) -> tuple[str, int]:
    """Return a worker's name and its peak up to now. Runs on the worker."""
    return str(dask_worker.name), peak_here()
