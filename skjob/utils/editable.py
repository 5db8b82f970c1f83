"""Where the source of a distribution in editable mode is: as import finds it, without importing anything.

Build backends leave a `.pth` file in the folder of installed packages. It names folders for the import path, or starts
an import hook, whose file says where modules are: setuptools writes a table, hatchling, PDM and others calls of the
library `editables`. Both are read, not run. Hooks that build when something is imported (meson-python,
scikit-build-core) can't be followed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """`folders` are on the import path; `modules` are single ones: full name, and file or folder of a package."""

    folders: tuple[Path, ...] = ()
    modules: tuple[tuple[str, Path], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.folders or self.modules)


@dataclass(frozen=True)
class Followed:
    """What the files of an installation lead to. `hooks` are those of its files that only lead there.

    `missing` are paths that they name and that are not there, `unknown` hooks that can't be read.
    """

    sources: Sources
    hooks: frozenset[str]
    missing: tuple[Path, ...]
    unknown: tuple[str, ...]


def follow(site: Path, files: Iterable[str]) -> Followed:
    """Follow the `.pth` files among the installed `files` of a distribution, which are relative to `site`."""
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
                named = dict(_mapped(hook))
                if not named:
                    unknown.append(hook.name)
                for module, path in named.items():
                    place = _place(path)
                    if place is None:
                        missing.append(path)
                    else:
                        modules.setdefault(module, place)
    return Followed(
        Sources(tuple(folders), tuple(sorted(modules.items()))), frozenset(hooks), tuple(missing), tuple(unknown)
    )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _mapped(hook: Path) -> Iterator[tuple[str, Path]]:
    """Modules and their paths: `MAPPING = {name: path}`, or `finder.map_module(name, path)`."""
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


def _place(path: Path) -> Path | None:
    """The file or package meant: setuptools names modules without their suffix, `editables` packages by `__init__`."""
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent if path.name == "__init__.py" else path
    candidates = (path.with_name(path.name + suffix) for suffix in all_suffixes())
    return next((candidate for candidate in candidates if candidate.is_file()), None)
