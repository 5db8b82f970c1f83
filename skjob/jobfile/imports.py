"""Import what a job file names from the folder beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skjob.utils.paths import expanded


def beside(folder: Path, text: str) -> Path:
    """A path as a job file writes it: relative to the file's folder, `~` is the user's home.

    Raises:
        ConfigError: `~` is of a user who isn't there.
    """
    return folder / expanded(text)


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Modules of `folder` can be imported inside, and are forgotten after: the next job file may have its own."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if stands_in(folder, sys.modules[name]):
                del sys.modules[name]


def stands_in(folder: Path, module: Any) -> bool:
    """Whether a module's file is in a folder. An environment inside it, `.venv`, is no code of the job."""
    origin = getattr(module, "__file__", None) or ""
    return bool(origin) and Path(origin).is_relative_to(folder) and "site-packages" not in origin
