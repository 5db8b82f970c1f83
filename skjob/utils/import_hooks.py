"""Act on a third-party module as soon as it is imported, or now if it has been.

Importing it here, to change it before the program does, would cost a second that most programs need not pay.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], None]

_actions: dict[str, list[Action]] = {}


def when_imported(name: str, action: Action) -> None:
    """Call `action` with the module of this full name once it is loaded. The same action is not repeated."""
    actions = _actions.setdefault(name, [])
    if action in actions:
        return
    actions.append(action)
    if not any(isinstance(finder, _ActingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ActingFinder())
    if name in sys.modules:
        action(sys.modules[name])


class _ActingFinder(importlib.abc.MetaPathFinder):
    """Finds modules by the other finders, and acts on those that have actions after they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the other finders, with a loader that acts on the module."""
        if fullname not in _actions:
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
        """Create the module by the original loader."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module by the original loader, then the actions."""
        self._loader.exec_module(module)
        for action in _actions[module.__name__]:
            action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
