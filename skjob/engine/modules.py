"""The modules beside the user's script: found here, importable on every worker, as they are in the client now.

Two things reach the workers. The source files, once, through a worker plugin that new workers get too: it makes
`import features` work wherever it stands. And the state: functions and classes of these modules are pickled by value
with the globals they use, so that what the script has changed in them since the import is what the task sees; a module
object is imported on the worker and given the plain data that its counterpart here holds.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

MOST_FILES = 2000
LARGEST_FILE = 2**20
NOT_SOURCE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


class LocalModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks the source files into the worker's own folder and puts that on the import path."""

    idempotent = True

    def __init__(self, archive: bytes) -> None:
        self.name = f"skjob-modules-{hashlib.sha256(archive).hexdigest()[:16]}"
        self.archive = archive

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        folder = Path(worker.local_directory) / self.name
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            archive.extractall(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def source_files(root: Path) -> Iterator[Path]:
    """The modules and packages that `import` finds in `root`, relative to it: what stands beside a script.

    Packages are taken whole, with the small data files in them. Hidden folders and virtual environments are no source.
    """
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.name in NOT_SOURCE:
            continue
        if path.is_file() and path.suffix == ".py":
            yield path.relative_to(root)
        elif path.is_dir() and path.name.isidentifier() and not _is_environment(path):
            for file in sorted(path.rglob("*")):
                inside = file.relative_to(root)
                hidden = any(part.startswith(".") or part in NOT_SOURCE for part in inside.parts)
                in_package = file.suffix == ".py" or (file.parent / "__init__.py").exists()
                if not hidden and in_package and file.is_file() and file.stat().st_size <= LARGEST_FILE:
                    yield inside


def _is_environment(folder: Path) -> bool:
    """A virtual environment, or one of conda's."""
    return (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists()


def archive(root: Path) -> bytes:
    """The source files beside a script as a zip file, the same bytes for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for count, file in enumerate(source_files(root)):
            if count == MOST_FILES:
                break  # a home folder, not a project: what the script imports still travels by value
            target.writestr(zipfile.ZipInfo(str(file)), (root / file).read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def is_local(module: ModuleType, root: Path) -> bool:
    """Whether a module stands beside the script, and not in an environment that happens to be there too."""
    file = getattr(module, "__file__", None)
    if not file:
        return False
    path = Path(file)
    if not path.is_relative_to(root) or NOT_SOURCE.intersection(path.relative_to(root).parts):
        return False
    # Python's own modules, where it is installed below the script's folder: ~/.pyenv, a conda environment.
    pythons = [Path(folder) for folder in (sys.prefix, sys.base_prefix) if Path(folder).is_relative_to(root)]
    return not any(path.is_relative_to(python) for python in pythons if python != root)


def local_modules(root: Path | None) -> list[ModuleType]:
    """The imported modules that stand beside the script."""
    if root is None:
        return []
    folder = str(root)  # paths are slow to compare, and this looks at every module for every task
    return [
        module
        for name, module in list(sys.modules.items())
        if name not in ("__main__", "__mp_main__")
        and isinstance(module, ModuleType)
        and str(getattr(module, "__file__", None)).startswith(folder)
        and is_local(module, root)
    ]


def module_state(module: ModuleType) -> dict[str, bytes]:
    """The plain data among a module's globals, each pickled on its own, without what can't be pickled.

    Its own classes too: objects of them are pickled with their class, and must find the same one in the module.
    """
    import cloudpickle

    state = {}
    for name, value in list(vars(module).items()):
        if name.startswith("__") or isinstance(value, ModuleType | FunctionType):
            continue
        if isinstance(value, type) and value.__module__ != module.__name__:
            continue
        with suppress(Exception):
            state[name] = cloudpickle.dumps(value, protocol=5)
    return state


def restore_module(name: str, state: dict[str, bytes]) -> ModuleType:
    """On a worker: the module of that name, with the state it has in the client."""
    import cloudpickle

    module = importlib.import_module(name)
    for key, value in state.items():
        setattr(module, key, cloudpickle.loads(value))
    return module
