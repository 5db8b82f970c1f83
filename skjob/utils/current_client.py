"""Whether this process runs the program of a `skjob run`: `skjob.cluster()` in it is that run's cluster."""

from __future__ import annotations

from typing import Any

run_client: Any = None
"""The run's Dask client, set by `skjob.run.program.child` before the program begins; None in every other process."""
