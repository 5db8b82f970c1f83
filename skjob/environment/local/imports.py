"""Which modules a program imports: so that what skjob happens to need too is sent where the program needs it.

Every module beside the script is read, whether the script reaches it or not; a notebook says by what it has imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from skjob.config.plan import JobSpec

DECLARED_JOB = frozenset({"pandas", "pyarrow"})


def imported_by(job: JobSpec) -> set[str]:
    """The top-level names of all modules that the program and those beside it import."""
    from skjob.engine.transfer.modules import find_sources  # and with it joblib: not before pods need it

    beside = [job.root / file for file in find_sources(job.root).files if file.suffix == ".py"]
    script = [job.path] if job.path.suffix == ".py" else []
    names = {name for file in [*script, *beside] for name in _imports(file)}
    if job.declared:
        return names | DECLARED_JOB
    return names if job.path.is_file() else names | _interactive_names()


def _imports(file: Path) -> Iterator[str]:
    """A file that is not valid Python is imported by no program."""
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
    """What a notebook has imported, or taken objects from."""
    values = list(vars(sys.modules["__main__"]).values())
    names = {getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in values}
    return {name.partition(".")[0] for name in names if isinstance(name, str)}
