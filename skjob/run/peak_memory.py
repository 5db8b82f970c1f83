"""The most memory that each worker's process has had, for the record of a run.

The kernel keeps it (`getrusage`), so that no peak between two looks is missed. Workers tell it with each heartbeat, so
that it is known also of one that goes, or is killed, a moment later.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

METRIC = "skjob-peak-memory"


def peak_here(_: Any = None) -> int:
    """Of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class PeakMemory(WorkerPlugin):  # type: ignore[misc]
    """Adds the peak to what each worker tells the scheduler, also those that join later."""

    name = "skjob-peak-memory"

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        worker.metrics[METRIC] = peak_here


def peak_of(dask_worker: Any = None) -> tuple[str, int]:
    """Runs on a worker: its name, and its peak up to now."""
    return str(dask_worker.name), peak_here()
