"""Tell the files of a task from those of the system: temporary ones, caches, and what belongs to Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from types import FrameType
from typing import Any

from skjob.engine.transfer.local_code import INSTALLED_IN, is_installed_beside

_OF_PYTHON = ("bin", "etc", "include", "lib", "lib64", "libexec", "share")
"""Folders of an environment. A program may be in others: in /usr/src/app, with Python in /usr or /usr/local."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108
"""Files in memory, below the folder of the devices: a program may keep its data there."""

ENVIRONMENT = tuple(
    folder + os.sep
    for folder in {
        *(os.path.join(prefix, part) for prefix in (sys.prefix, sys.base_prefix, "/usr") for part in _OF_PYTHON),
        *("/usr/sbin", "/etc", "/proc", "/sys", "/lib", "/lib64", "/bin", "/sbin"),
    }
)
"""Beginnings of paths that belong to Python, its packages and the system, which are known by their versions."""

_CODE = (".py", ".pyc", ".so", ".pyd", ".egg-info", ".dist-info")


def is_of_environment(path: str) -> bool:
    """Return whether a file is code, or belongs to Python, its packages or the system."""
    return path.endswith(_CODE) or path.startswith(ENVIRONMENT) or _is_archive_of_code(path)


def _is_archive_of_code(path: str) -> bool:
    return path.endswith((".zip", ".egg")) and any(path == absolute(entry) for entry in sys.path)


def is_of_library(frame: FrameType) -> bool:
    """Return whether running code is installed: with Python, in the user's own folder, or in a folder for a pod."""
    file = frame.f_code.co_filename
    if file.startswith(ENVIRONMENT) or INSTALLED_IN.intersection(file.split(os.sep)):
        return True
    return is_installed_beside(str(frame.f_globals.get("__name__")), file)


def temporary_folder() -> str:
    # Not `gettempdir()`: while `tempfile` itself is looking for a folder, that would wait forever.
    return str(tempfile.tempdir)


def absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def is_cache_or_device(path: str) -> bool:
    """Return whether a file is a cache or a device, and so no result of the program."""
    if "__pycache__" in path.split(os.sep):
        return True
    if is_below(path, ("/dev", "/proc")):
        return not is_below(path, (SHARED_MEMORY,))
    return is_below(path, _caches(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")))


@cache
def _caches(cache_home: str | None, _home: str | None) -> tuple[str, ...]:
    """Return the folders of caches, for these values of environment variables."""
    return cache_home or os.path.expanduser("~/.cache"), os.path.expanduser("~/.config/matplotlib")


def is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)
