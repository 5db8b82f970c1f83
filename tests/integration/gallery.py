"""The folder of scikit-learn's own examples, and the comparison of their output."""

from __future__ import annotations

import os
import re
from pathlib import Path

ALL = "SKJOB_GALLERY"
"""The environment variable that names the folder if all examples are to run."""

GALLERY = Path(os.environ.get(ALL, Path(__file__).parents[2] / ".gallery")).absolute()
"""Folder with `examples`, and `packages` with the plotting libraries."""

_TIMES = re.compile(r"\b\d+(\.\d+)?(e-\d+)?( ?±? ?\d*(\.\d+)?)? ?(s|sec|secs|seconds|ms|min)\b")
_PROGRESS = re.compile(r"^\s*\[(CV|Parallel)|^\s*\d+: ")


def compared(printed: str) -> tuple[list[str], list[str]]:
    """Return the printed lines with times masked: progress lines sorted, and all other lines in order."""
    lines = [re.sub(r"\s+", " ", _TIMES.sub("TIME", line)).strip() for line in printed.splitlines()]
    progress = sorted(line for line in lines if _PROGRESS.search(line))
    return progress, [line for line in lines if not _PROGRESS.search(line)]
