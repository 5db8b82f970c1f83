"""Find programs that run as modules of a package: `skjob run -m proj.train`, as `python -m proj.train` runs them.

This only looks and runs nothing: a package is the user's code, and belongs into the program's own process.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path

from skjob.errors import ConfigError

SEARCH_HINT = "the module is looked for in the working directory, then where Python finds modules; nothing was started"


def find_module(name: str, folder: Path, path: Sequence[str]) -> Path:
    """Return the file that `python -m name` would run in `folder`; of a package, that of its `__main__`.

    `path` is the import path behind the folder.

    Raises:
        ConfigError: there is no such module, or it cannot be run.
    """
    parts = name.split(".")
    if not all(parts) or "/" in name:
        raise ConfigError(f"`{name}` is not the name of a module", "leave out `-m` to run a file")
    if parts[0] in sys.builtin_module_names:
        raise ConfigError(f"the module `{name}` is part of Python itself and has no file", "name a module of yours")
    spec = _find(name, [str(folder), *path])
    if spec.submodule_search_locations is not None:
        try:
            spec = _find(f"{name}.__main__", [str(folder), *path])
        except ConfigError:
            raise ConfigError(
                f"`{name}` is a package without a module `__main__`", f"name a module in it: `-m {name}.train`"
            ) from None
    if spec.origin is None or not spec.has_location:
        raise ConfigError(f"the module `{name}` has no file to run", "name a module of yours")
    return Path(spec.origin)


def _find(name: str, path: list[str]) -> importlib.machinery.ModuleSpec:
    above = ""
    spec: importlib.machinery.ModuleSpec | None = None
    for part in name.split("."):
        full = f"{above}.{part}" if above else part
        if spec is not None and spec.submodule_search_locations is None:
            hint = f"leave out `-m` to run the file `{above}.py`" if name == f"{above}.py" else SEARCH_HINT
            raise ConfigError(f"there is no module `{name}`: `{above}` is not a package", hint)
        spec = find_spec(full, path) or (None if above else _find_by_hook(full))
        if spec is None:
            raise ConfigError(f"there is no module `{full}`", SEARCH_HINT)
        above, path = full, list(spec.submodule_search_locations or ())
    assert spec is not None  # noqa: S101 - a name has a part
    return spec


def _find_by_hook(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return what an import hook finds, which is how some build backends install in editable mode."""
    for finder in sys.meta_path:
        if finder is not importlib.machinery.PathFinder and (spec := finder.find_spec(name, None)) is not None:
            return spec
    return None


def find_spec(name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Return what importing `name` would load from `path`, that of its package; None if there is nothing.

    Python's own search wants the package to be imported if it has no `__init__.py`: such folders are looked for here.
    """
    try:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
    except KeyError:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    except (ImportError, ValueError):
        return None
    if spec is not None and spec.origin is None and spec.submodule_search_locations is not None:
        places = (Path(entry or ".", name.rpartition(".")[2]) for entry in (sys.path if path is None else path))
        folders = [str(place) for place in places if place.is_dir()]
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = folders
    return spec


def relative_import(tree: ast.Module) -> ast.ImportFrom | None:
    """Return the first relative import that a script cannot do; None if there is none.

    One under a condition, in a `try` or in a function may never be reached, or may be meant for another way to run
    the file, and a script that sets `__package__` can do any.
    """
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    if any(node.id == "__package__" for node in names):
        return None
    return next((each for each in tree.body if isinstance(each, ast.ImportFrom) and each.level), None)


def module_command(script: Path, level: int, folder: Path) -> str | None:
    """Return the command that runs a script as a module of its package; None if its folders cannot be packages.

    `level` is the number of dots of a relative import in it: so many folders above it are packages at least.
    """
    script = script.resolve()
    parts = [] if script.stem == "__main__" else [script.stem]
    folders = level + len(parts)
    above = script.parent
    while (len(parts) < folders or (above / "__init__.py").exists()) and above != above.parent:
        parts.insert(0, above.name)
        above = above.parent
    if not all(part.isidentifier() for part in parts):
        return None
    command = f"skjob run -m {'.'.join(parts)}"
    return f"`{command}`" if above == folder.resolve() else f"`{command}` in `{above}`"
