"""Find the source of a distribution in editable mode, as import finds it, without importing anything.

Build backends leave a `.pth` file in the folder of installed packages. It names folders for the import path, or starts
an import hook, whose file says where modules are: setuptools writes a table, hatchling, PDM and others write calls of
the library `editables`. Both are read, not run. Hooks that build on import (meson-python, scikit-build-core) cannot be
followed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path


@dataclass(frozen=True)
class EditableSources:
    """`folders` are on the import path; `modules` are full names with the module's file or the package's folder."""

    folders: tuple[Path, ...] = ()
    modules: tuple[tuple[str, Path], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.folders or self.modules)


@dataclass(frozen=True)
class EditableInstall:
    """What an editable installation points to. `hooks` are those of its files that only point there.

    `missing` are named paths that do not exist, `unknown` are hooks that cannot be read.
    """

    sources: EditableSources
    hooks: frozenset[str]
    missing: tuple[Path, ...]
    unknown: tuple[str, ...]


def resolve_editable(site: Path, files: Iterable[str]) -> EditableInstall:
    """Follow the `.pth` files among a distribution's installed `files`, which are relative to `site`."""
    folders: dict[Path, None] = {}
    modules: dict[str, Path] = {}
    hooks: set[str] = set()
    missing: list[Path] = []
    unknown: list[str] = []
    for file in files:
        if not file.endswith(".pth") or "/" in file:
            continue
        hooks.add(file)
        for line in _lines(site / file):
            if not line.startswith(("import ", "import\t")):
                folder = site / line
                if folder.is_dir():
                    folders[folder.resolve()] = None
                else:
                    missing.append(folder)
                continue
            for name in re.findall(r"\bimport\s+(\w+)", line):
                hook = site / f"{name}.py"
                if not hook.is_file():
                    continue  # `import sys; …`
                hooks.add(hook.name)
                modules_of_hook = dict(_modules_of_hook(hook))
                if not modules_of_hook:
                    unknown.append(hook.name)
                for module, path in modules_of_hook.items():
                    module_path = _module_path(path)
                    if module_path is None:
                        missing.append(path)
                    else:
                        modules.setdefault(module, module_path)
    return EditableInstall(
        EditableSources(tuple(folders), tuple(sorted(modules.items()))),
        frozenset(hooks),
        tuple(missing),
        tuple(unknown),
    )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _modules_of_hook(hook: Path) -> Iterator[tuple[str, Path]]:
    """Yield modules and their paths: `MAPPING = {name: path}`, or `finder.map_module(name, path)`."""
    try:
        tree = ast.parse(hook.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if "MAPPING" in names and isinstance(node.value, ast.Dict):
                yield from _constants(zip(node.value.keys, node.value.values, strict=True))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "map_module":
            yield from _constants([node.args[:2]])


def _constants(pairs: Iterable[Iterable[ast.expr | None]]) -> Iterator[tuple[str, Path]]:
    for pair in pairs:
        match [node.value if isinstance(node, ast.Constant) else None for node in pair]:
            case [str(name), str(path)]:
                yield name, Path(path)


def _module_path(path: Path) -> Path | None:
    """Return the file or package: setuptools names modules without suffix, `editables` names packages by `__init__`."""
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent if path.name == "__init__.py" else path
    candidates = (path.with_name(path.name + suffix) for suffix in all_suffixes())
    return next((candidate for candidate in candidates if candidate.is_file()), None)
