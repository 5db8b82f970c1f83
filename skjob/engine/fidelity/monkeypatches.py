"""Find functions of libraries that the program has replaced.

A worker imports a library as it is installed. If the program has put a method of its own into a class of scikit-learn,
tasks on workers would use the original, and silently give other results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from skjob.engine.transfer.local_code import SCRIPT, CodeOrigin, local_modules, origin_of

HARMLESS = frozenset({"sys", "warnings", "threading", "logging", "skjob", "pytest", "_pytest"})
"""Packages whose functions a program may replace without changing results: hooks, and display of warnings and logs."""

ACCESSORS = "pandas.core.accessor"
"""The module of what pandas puts into its classes for a registered accessor."""


def patched_by_program(root: Path | None) -> str | None:
    """Return the name of a library's function that the program has replaced, as `GaussianNB.predict`; None if none is.

    It checks every imported module, which takes about ten milliseconds: do this once for each line of the program that
    makes calls.
    """
    own = SCRIPT | {module.__name__ for module in local_modules(root)}
    for name, module in list(sys.modules.items()):
        if name in own or name.partition(".")[0] in HARMLESS or not isinstance(module, ModuleType):
            continue
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and origin_of(name, file, root) not in (CodeOrigin.PYTHON, CodeOrigin.INSTALLED):
            continue  # the user's own code, which may import functions of the program
        for path, code in _code_of(name, module):
            if code.__module__ in own:
                return path
    return None


def _code_of(name: str, module: ModuleType) -> Iterator[tuple[str, FunctionType | type]]:
    """Yield the functions and classes in a module and in its classes, with how a message names them."""
    for key, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            for attribute, part in list(vars(value).items()):
                # An accessor that is registered with pandas has its class inside.
                part = getattr(part, "_accessor", part) if type(part).__module__ == ACCESSORS else part
                if type(part) is FunctionType or isinstance(part, type):
                    yield f"{key}.{attribute}", part
        elif type(value) is FunctionType or isinstance(value, type):
            yield f"{name}.{key}", value
