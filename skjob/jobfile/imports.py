"""Import what a job file names from the folder beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skjob.utils.paths import expand_user


def resolve_path(folder: Path, text: str) -> Path:
    """Resolve a path of a job file: relative to the file's folder, with `~` for the user's home.

    Raises:
        ConfigError: `~` belongs to a user who does not exist.
    """
    return folder / expand_user(text)


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Import modules from `folder` within the block, and forget them after it: the next job file may have its own."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if is_module_in(folder, sys.modules[name]):
                del sys.modules[name]


def is_module_in(folder: Path, module: Any) -> bool:
    """Return whether a module's file is in a folder, and not in an environment in it, such as `.venv`."""
    origin = getattr(module, "__file__", None) or ""
    return bool(origin) and Path(origin).is_relative_to(folder) and "site-packages" not in origin
