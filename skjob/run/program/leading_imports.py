"""What a script imports before it does anything else, of packages that take long to import.

Python needs more than a second for scikit-learn and what comes with it. While a cluster starts, the program's process
and those of the workers can import it already, if the script cannot notice: nothing but imports stands before it (a
variable that is set first, such as `OMP_NUM_THREADS`, must still be in time), and no file beside the script has the
name of one of these packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = frozenset({"numpy", "pandas", "scipy", "sklearn"})
"""Packages whose import has no effect but time and memory: it starts no thread that computes, and reads no setting of
the script's. The rest of what a script imports may run code of the user's."""


def leading_imports(path: Path, module: str | None = None) -> tuple[str, ...]:
    """Return the modules of `PACKAGES` that the script at `path` imports first, in its order; none if it has no such.

    A script that cannot be read or parsed has none: running it reports the error. One that runs as the `module` of this
    name has none if the packages that it is in run code of their own before it.
    """
    folder = path.resolve().parent if module is None else Path.cwd()
    if module is not None:
        depth = module.count(".") + (path.stem == "__main__")
        packages = path.resolve().parents[:depth]
        if any(_has_code(package / "__init__.py") for package in packages):
            return ()
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    names = dict.fromkeys(_names(tree))
    roots = {name.partition(".")[0] for name in names}
    if any((folder / root).exists() or (folder / f"{root}.py").exists() for root in roots):
        return ()
    return tuple(names)


def _has_code(file: Path) -> bool:
    try:
        return bool(file.read_bytes().strip())
    except OSError:
        return False


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield modules of `PACKAGES` up to the first statement that is neither an import nor a string."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            modules = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
            modules = [statement.module]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        else:
            return
        for module in modules:
            root = module.partition(".")[0]
            if root in PACKAGES:
                yield module
            elif root not in sys.stdlib_module_names and root != "joblib":
                return  # its code may be the user's own
