"""Hold the Dask client of the run whose program this process runs: `skjob.cluster()` returns it there."""

from __future__ import annotations

from typing import Any

run_client: Any = None
"""The run's Dask client, set by `skjob.run.program.child` before the program starts; None in every other process."""
