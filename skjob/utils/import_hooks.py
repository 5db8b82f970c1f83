"""Has something done to a module of somebody else's as soon as it is imported, or now where it has been.

Importing it here, to change it before the program does, would cost a second that most programs need not pay.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Act = Callable[[ModuleType], None]

_acts: dict[str, list[Act]] = {}


def when_imported(name: str, act: Act) -> None:
    """Call `act` with the module of this full name when it has run. Once a module: the same act is not taken again."""
    acts = _acts.setdefault(name, [])
    if act in acts:
        return
    acts.append(act)
    if not any(isinstance(finder, _ActingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ActingFinder())
    if name in sys.modules:
        act(sys.modules[name])


class _ActingFinder(importlib.abc.MetaPathFinder):
    """Finds these modules as the other finders do, and acts on what they have loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python for each module that is imported."""
        if fullname not in _acts:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        spec = next((spec for finder in finders if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader)
        return spec


class _ActingLoader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the real one."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the real one, and what is new here."""
        self._loader.exec_module(module)
        for act in _acts[module.__name__]:
            act(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
