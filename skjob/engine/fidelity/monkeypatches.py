"""Find functions of libraries that the program has replaced.

A worker imports a library as it is installed. If the program has put a method of its own into a class of scikit-learn,
tasks on workers would use the original, and silently give other results.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from skjob.engine.transfer.local_code import SCRIPT, CodeOrigin, is_installed_beside, local_modules, origin_of

HARMLESS = frozenset({"sys", "warnings", "threading", "skjob", "pytest", "_pytest"})
"""Packages whose functions a program may replace without changing results: hooks, and display of warnings."""

_HARMLESS_NAMES = frozenset({"joblib.parallel.BatchCompletionCallBack"})
"""What a program replaces to show the progress of its calls; only its own process uses it."""

LOGGING = frozenset({"logging"})
"""Changes only what is logged; libraries do not use what a program adds to it."""

ACCESSORS = "pandas.core.accessor"
"""The module of what pandas puts into its classes for a registered accessor."""


class Patches:
    """Finds functions of libraries that the program has replaced.

    Every search compares the content of all imported modules and classes with what it was in the last one, and looks
    only into those that differ.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: frozenset[str] = frozenset()
        self._searched: dict[int, tuple[Any, list[Any]]] = {}
        self._classes: dict[int, list[type]] = {}

    def find(self, root: Path | None, harmless: frozenset[str] = frozenset()) -> str | None:
        """Return a library's function that the program has replaced, as `GaussianNB.predict`; None if none is.

        `harmless` are packages that do not count besides those that never do.
        """
        own = SCRIPT | {module.__name__ for module in local_modules(root) if not _is_of_library(module)}
        ignored = HARMLESS | harmless
        with self._lock:
            if own != self._own:
                self._own, self._searched = own, {}
            for name, module in list(sys.modules.items()):
                if name in own or name.partition(".")[0] in ignored or not isinstance(module, ModuleType):
                    continue
                if (path := self._find_in(name, module, root)) is not None:
                    return path
        return None

    def _find_in(self, name: str, module: ModuleType, root: Path | None) -> str | None:
        if not self._is_known(module):
            if _is_users(name, module, root):
                return None  # it may import functions of the program
            for key, value in list(vars(module).items()):
                if _is_code(value) and self._is_own(value) and f"{name}.{key}" not in _HARMLESS_NAMES:
                    return f"{name}.{key}"
            self._note(module)
            self._classes[id(module)] = [
                value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name
            ]
        for kind in self._classes[id(module)]:
            if not self._is_known(kind):
                for key, value in list(vars(kind).items()):
                    # An accessor that is registered with pandas has its class inside.
                    part = getattr(value, "_accessor", value) if type(value).__module__ == ACCESSORS else value
                    if _is_code(part) and self._is_own(part):
                        return f"{kind.__name__}.{key}"
                self._note(kind)
        return None

    def _is_known(self, owner: Any) -> bool:
        """Return whether a module or class has the content that it had when it was searched."""
        known, content = self._searched.get(id(owner), (None, []))
        try:
            return known is owner and content == list(vars(owner).values())  # identical ones are equal
        except Exception:  # what was replaced cannot be compared
            return False

    def _note(self, owner: Any) -> None:
        self._searched[id(owner)] = owner, list(vars(owner).values())

    def _is_own(self, value: Any) -> bool:
        """Return whether the program has made this: a function or class of its own, or an object of such a class."""
        return value.__module__ in self._own if _has_name(value) else type(value).__module__ in self._own


def _is_of_library(module: ModuleType) -> bool:
    """Return whether a module travels, but belongs to a library, which replaces the same where workers import it."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_installed_beside(module.__name__, file)


def _is_users(name: str, module: ModuleType, root: Path | None) -> bool:
    """Return whether the user has written a module."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or origin_of(name, file, root) in (CodeOrigin.PYTHON, CodeOrigin.INSTALLED):
        return False
    return not is_installed_beside(name, file)


def _is_code(value: Any) -> bool:
    return _has_name(value) or (callable(value) and type(value).__module__ != "builtins")


def _has_name(value: Any) -> bool:
    return type(value) is FunctionType or isinstance(value, type)
