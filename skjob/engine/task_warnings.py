"""Capture the warnings of a task, and issue them again in the client.

As text on stderr they could be neither filtered nor caught, and each would be shown once a fit. On a worker
`warnings.showwarning` is replaced once a process, and the warnings of a thread are captured while it runs a call. In
the client each is issued again, and the filters there decide what happens to it.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from skjob.engine.fidelity.effects.task_threads import inherit

MAX_WARNINGS = 100
"""Limit for one call: repeated warnings must not fill the client's memory."""


@dataclass(frozen=True)
class TaskWarning:
    """A warning: its text, its category by module and name, and the file, line and module that it points to."""

    text: str
    module: str
    category: str
    file: str
    line: int
    source: str | None = None


class _ShowWarning:
    """Replaces `warnings.showwarning`: each thread may capture its own warnings."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.of_thread = threading.local()
        inherit(self.of_thread, "captured")

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        captured: list[TaskWarning] | None = getattr(self.of_thread, "captured", None)
        if captured is None or file is not None:
            self._original(message, category, filename, lineno, file, line)
        elif len(captured) < MAX_WARNINGS:
            where = filename, lineno, _module_of(filename)
            captured.append(TaskWarning(str(message), category.__module__, category.__qualname__, *where))


_installing = threading.Lock()
_WARN = warnings.warn


@contextmanager
def captured_warnings() -> Iterator[list[TaskWarning]]:
    """Capture what this thread warns of in the block."""
    with _installing:
        if not isinstance(warnings.showwarning, _ShowWarning):
            warnings.showwarning = _ShowWarning(warnings.showwarning)
        shown = warnings.showwarning
    captured: list[TaskWarning] = []
    shown.of_thread.captured = captured
    try:
        yield captured
    finally:
        shown.of_thread.captured = None


def warn_again(warned: TaskWarning, registry: dict[Any, Any]) -> None:
    """Issue a warning in this process. Raises it if the filters turn such warnings into errors.

    `registry` records what has been shown, as each module's own does.
    """
    try:
        category = restore_category(warned.module, warned.category)
        message: Warning | str = category(warned.text)
    except Exception:  # a category that takes other arguments
        category, message = UserWarning, f"{warned.category}: {warned.text}"
    if warnings.warn is not _WARN:  # the program's own, which may show it or not
        warnings.warn(message, category, stacklevel=2)
        return
    # Without a module it would count as one that is issued as Python exits, and not be shown.
    source = warned.source or Path(warned.file).stem
    warnings.warn_explicit(message, category, warned.file, warned.line, module=source, registry=registry)


@functools.lru_cache(maxsize=256)
def _module_of(filename: str) -> str | None:
    """Return the name of the module that has this file: filters match it."""
    return next(
        (name for name, module in list(sys.modules.items()) if getattr(module, "__file__", None) == filename), None
    )


def restore_category(module: str, name: str) -> type[Warning]:
    """Return a category of warnings; if its package is missing here, a new one that no warning here belongs to."""
    try:
        category = importlib.import_module(module)
        for part in name.split("."):
            category = getattr(category, part)
    except (ImportError, AttributeError):
        return type(name, (Warning,), {"__module__": module})
    return cast(type[Warning], category)
