"""Whether the numbers of a run are those of a local one to the last bit, or only nearly: what they depend on.

The same versions on the same kind of processor with as many inner threads add up in the same order. A BLAS on another
processor takes other steps, and so does one with more threads; both are right to about 1e-9.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXACT, CLOSE = "bit for bit", "rtol 1e-9"


@dataclass(frozen=True)
class NumericProfile:
    """What numbers depend on, beside the program: kind of processor, threads of one fit, versions."""

    processor: str
    inner_threads: int
    versions: dict[str, str]


def local_profile() -> NumericProfile:
    """Of this process. Sent to workers too."""
    from skjob.utils.versions import versions_here

    threads = os.environ.get("OMP_NUM_THREADS", "")
    return NumericProfile(_processor(), int(threads) if threads.isdigit() else os.cpu_count() or 1, versions_here())


def compare(here: NumericProfile, there: NumericProfile) -> dict[str, Any]:
    """For the record: what to expect of the numbers, and why where they may differ."""
    differences = [
        f"{name}: {mine} here, {others} there"
        for name, mine, others in (
            ("processor", here.processor, there.processor),
            ("inner threads", here.inner_threads, there.inner_threads),
            *((name, here.versions[name], there.versions.get(name, "none")) for name in here.versions),
        )
        if mine != others
    ]
    return {"same_as_local": CLOSE if differences else EXACT, "because": differences, "processor": there.processor}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
