"""Report versions of distributions in this process, to compare a client's with a worker's."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from importlib import metadata

NUMERIC = ("scikit-learn", "numpy", "scipy")
"""Distributions on which the numbers of every fit depend."""

PYTHON = "python"


@functools.cache
def installed_version(distribution: str) -> str | None:
    """Return a distribution's version, None if it is not installed; Python's without the patch version."""
    if distribution == PYTHON:
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions_here() -> dict[str, str]:
    """Return the versions of Python and of `NUMERIC`; empty for those that are not installed."""
    return {name: installed_version(name) or "" for name in (PYTHON, *NUMERIC)}


def differences(expected: Mapping[str, str]) -> tuple[str, ...]:
    """Describe each of the expected versions that differs in this process."""
    return tuple(
        f"{name} {installed_version(name) or 'none'} instead of {version}"
        for name, version in expected.items()
        if (installed_version(name) or "") != version
    )
