"""Report each worker's peak memory, for the record of a run.

The kernel tracks it (`getrusage`), so that no peak between two measurements is missed. Workers report it with each
heartbeat, so that it is known even of one that goes away, or is killed, a moment later.
"""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.utils.operating_system import peak_memory

METRIC = "skjob-peak-memory"


def current_peak(_: Any = None) -> int:
    """Return the peak memory of this process in bytes."""
    return peak_memory()


class PeakMemory(WorkerPlugin):  # type: ignore[misc]
    """Adds the peak to what each worker reports to the scheduler, including workers that join later."""

    name = METRIC

    def setup(self, worker: Any) -> None:
        """Add the metric. Called by each worker as it joins."""
        worker.metrics[METRIC] = current_peak


def peak_of(dask_worker: Any = None) -> tuple[str, int]:
    """Return a worker's name and its peak so far. Runs on the worker."""
    return str(dask_worker.name), current_peak()
