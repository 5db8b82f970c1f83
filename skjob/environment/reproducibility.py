"""Predict whether a run gives the numbers of a local one to the last bit, or only nearly.

The same versions on the same kind of processor with the same number of inner threads add up in the same order. A BLAS
on another processor, or with more threads, adds up differently; both results are right to about 1e-9.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from skjob.utils.operating_system import processor

EXACT, CLOSE = "bit for bit", "rtol 1e-9"


@dataclass(frozen=True)
class NumericProfile:
    """What numbers depend on besides the program: kind of processor, threads of one fit, versions."""

    processor: str
    inner_threads: int
    versions: dict[str, str]


def local_profile() -> NumericProfile:
    """Return the profile of this process. Runs on workers too."""
    from skjob.utils.versions import versions_here

    threads = os.environ.get("OMP_NUM_THREADS", "")
    return NumericProfile(processor(), int(threads) if threads.isdigit() else os.cpu_count() or 1, versions_here())


def compare(local: NumericProfile, remote: NumericProfile) -> dict[str, Any]:
    """Return what to expect of the numbers, and why they may differ, for the run's record."""
    differences = [
        f"{name}: {ours} here, {theirs} there"
        for name, ours, theirs in (
            ("processor", local.processor, remote.processor),
            ("inner threads", local.inner_threads, remote.inner_threads),
            *((name, local.versions[name], remote.versions.get(name, "none")) for name in local.versions),
        )
        if ours != theirs
    ]
    return {"same_as_local": CLOSE if differences else EXACT, "because": differences, "processor": remote.processor}
