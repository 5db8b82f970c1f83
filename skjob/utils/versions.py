"""Versions of distributions in this process: a client's, and a worker's to compare with them."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from importlib import metadata

NUMERIC = ("scikit-learn", "numpy", "scipy")
"""What any fit's numbers depend on."""

PYTHON = "python"


@functools.cache
def installed_version(distribution: str) -> str | None:
    """None where it is not installed. Python's without its last digit."""
    if distribution == PYTHON:
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions_here() -> dict[str, str]:
    """Of Python and what is `NUMERIC`; empty for what is not installed."""
    return {name: installed_version(name) or "" for name in (PYTHON, *NUMERIC)}


def differences(expected: Mapping[str, str]) -> tuple[str, ...]:
    """Those of these versions that this process has otherwise, in words."""
    return tuple(
        f"{name} {installed_version(name) or 'none'} instead of {version}"
        for name, version in expected.items()
        if (installed_version(name) or "") != version
    )
