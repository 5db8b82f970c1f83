"""The most memory that each worker's process has used, for the record of a run.

The kernel keeps it (`getrusage`), so that no peak between two looks is missed. Workers report it with each heartbeat,
so that it is also known of one that goes away, or is killed, a moment later.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

METRIC = "skjob-peak-memory"


def peak_here(_: Any = None) -> int:
    """Return the peak of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class PeakMemory(WorkerPlugin):  # type: ignore[misc]
    """Adds the peak to what each worker reports to the scheduler, also those that join later."""

    name = METRIC

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        worker.metrics[METRIC] = peak_here


def peak_of(dask_worker: Any = None) -> tuple[str, int]:
    """Return a worker's name and its peak up to now. Runs on the worker."""
    return str(dask_worker.name), peak_here()
