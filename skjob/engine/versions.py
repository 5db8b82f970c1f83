"""The versions that a fit's numbers may depend on, as this process has them: a client's and a worker's to compare."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

DISTRIBUTIONS = ("scikit-learn", "numpy", "scipy")


@functools.cache
def versions_here() -> dict[str, str]:
    """By name; empty for a distribution that is not installed. Python's without its last digit."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return versions
