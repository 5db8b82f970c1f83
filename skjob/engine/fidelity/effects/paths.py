"""Tell the files of a task from those of the system: temporary ones, caches, and what belongs to Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

ENVIRONMENT = tuple(
    folder + os.sep for folder in {sys.prefix, sys.base_prefix, "/usr", "/etc", "/proc", "/sys", "/dev", "/lib"}
)
"""Beginnings of paths that belong to Python, its packages and the system, which are known by their versions."""

_CODE = (".py", ".pyc", ".so", ".pyd", ".zip", ".egg-info", ".dist-info")


def is_of_environment(path: str) -> bool:
    """Return whether a file is code, or belongs to Python, its packages or the system."""
    return path.endswith(_CODE) or path.startswith(ENVIRONMENT)


def temporary_folder() -> str:
    # Not `gettempdir()`: while `tempfile` itself is looking for a folder, that would wait forever.
    return str(tempfile.tempdir)


def absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def is_cache_or_device(path: str) -> bool:
    """Return whether a file is a cache or a device, and so no result of the program."""
    if "__pycache__" in path.split(os.sep):
        return True
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return is_below(path, (caches, os.path.expanduser("~/.config/matplotlib"), "/dev", "/proc"))


def is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)
