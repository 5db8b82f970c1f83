"""Notice that the program has replaced functions of libraries.

A worker imports a library as it is installed. If the program has put a method of its own into a class of
scikit-learn's, tasks on workers would compute with the original, and give other results in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from skjob.engine.transfer.local_code import SCRIPT, Home, home_of, local_modules

HARMLESS = frozenset({"sys", "warnings", "threading", "logging", "skjob", "pytest", "_pytest"})
"""Packages whose functions a program may replace without another result: hooks, and what shows warnings and logs."""

ACCESSORS = "pandas.core.accessor"
"""The module of what pandas puts into its classes for a registered accessor."""


def patched_by_program(root: Path | None) -> str | None:
    """Return the name of a library's function that the program has replaced, as `GaussianNB.predict`; None if none is.

    It looks at every module that is imported, which takes some ten milliseconds: once for each line of the program
    that makes calls.
    """
    own = SCRIPT | {module.__name__ for module in local_modules(root)}
    for name, module in list(sys.modules.items()):
        if name in own or name.partition(".")[0] in HARMLESS or not isinstance(module, ModuleType):
            continue
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and home_of(name, file, root) not in (Home.PYTHON, Home.INSTALLED):
            continue  # code of the user's, which may import functions of the program
        for path, code in _code_of(name, module):
            if code.__module__ in own:
                return path
    return None


def _code_of(name: str, module: ModuleType) -> Iterator[tuple[str, FunctionType | type]]:
    """Yield the functions and classes in a module and in its classes, with how a message names them."""
    for key, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            for attribute, part in list(vars(value).items()):
                # Of an accessor that is registered with pandas, its class.
                part = getattr(part, "_accessor", part) if type(part).__module__ == ACCESSORS else part
                if type(part) is FunctionType or isinstance(part, type):
                    yield f"{key}.{attribute}", part
        elif type(value) is FunctionType or isinstance(value, type):
            yield f"{name}.{key}", value
