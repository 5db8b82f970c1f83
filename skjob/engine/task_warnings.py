"""Warnings of a task, brought to the client and given there as what they are.

As text on stderr they could be neither filtered nor caught, and each would be seen once a fit. On a worker
`warnings.showwarning` is stood in for, once a process; what a thread warns of while it runs a call is noted. In the
client each is warned of again, and the filters there decide what becomes of it.
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

MOST_WARNINGS = 100
"""Of one call; the same again and again must not fill the client's memory."""


@dataclass(frozen=True)
class Warned:
    """A warning: its text, its category by module and name, and the file, line and module that it was given for."""

    text: str
    module: str
    category: str
    file: str
    line: int
    source: str | None = None


class _Shown:
    """In the place of `warnings.showwarning`."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.of_thread = threading.local()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        noted: list[Warned] | None = getattr(self.of_thread, "noted", None)
        if noted is None or file is not None:
            self._original(message, category, filename, lineno, file, line)
        elif len(noted) < MOST_WARNINGS:
            where = filename, lineno, _module_of(filename)
            noted.append(Warned(str(message), category.__module__, category.__qualname__, *where))


_installing = threading.Lock()


@contextmanager
def noted_warnings() -> Iterator[list[Warned]]:
    """What this thread warns of in the block."""
    with _installing:
        if not isinstance(warnings.showwarning, _Shown):
            warnings.showwarning = _Shown(warnings.showwarning)
        shown = warnings.showwarning
    noted: list[Warned] = []
    shown.of_thread.noted = noted
    try:
        yield noted
    finally:
        shown.of_thread.noted = None


def warn_again(warned: Warned, registry: dict[Any, Any]) -> None:
    """Give a warning in this process. Raises it, where the filters make errors of such warnings.

    `registry` remembers what has been shown, as each module does for its own.
    """
    try:
        category = restore_category(warned.module, warned.category)
        message: Warning | str = category(warned.text)
    except Exception:  # a category that is made in another way
        category, message = UserWarning, f"{warned.category}: {warned.text}"
    # Without a module it would be taken for one that comes as Python ends, and not be shown.
    source = warned.source or Path(warned.file).stem
    warnings.warn_explicit(message, category, warned.file, warned.line, module=source, registry=registry)


@functools.lru_cache(maxsize=256)
def _module_of(filename: str) -> str | None:
    """The module whose file this is: filters go by its name."""
    return next(
        (name for name, module in list(sys.modules.items()) if getattr(module, "__file__", None) == filename), None
    )


def restore_category(module: str, name: str) -> type[Warning]:
    """A category of warnings; where its package is not here, one that no warning here belongs to."""
    try:
        category = importlib.import_module(module)
        for part in name.split("."):
            category = getattr(category, part)
    except (ImportError, AttributeError):
        return type(name, (Warning,), {"__module__": module})
    return cast(type[Warning], category)
