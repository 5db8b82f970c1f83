"""Find the modules that a program imports, so that skjob's own requirements are sent if the program needs them.

Every module beside the script is read, whether the script reaches it or not; a notebook counts by what it has imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from skjob.config.plan import JobSpec

DECLARED_JOB = frozenset({"pandas", "pyarrow"})


def imported_by(job: JobSpec) -> set[str]:
    """Return the top-level names of all modules that the program and those beside it import."""
    from skjob.engine.transfer.modules import find_sources  # this imports joblib, which nothing needs before

    beside = [job.root / file for file in find_sources(job.root).files if file.suffix == ".py"]
    script = [job.path] if job.path.suffix == ".py" else []
    names = {name for file in [*script, *beside] for name in _imports(file)}
    if job.declared:
        return names | DECLARED_JOB
    return names if job.path.is_file() else names | _interactive_names()


def _imports(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports; none if it is not valid Python, as no program can import it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _interactive_names() -> set[str]:
    """Return the modules that a notebook has imported, or imported objects from."""
    values = list(vars(sys.modules["__main__"]).values())
    names = {getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in values}
    return {name.partition(".")[0] for name in names if isinstance(name, str)}
