"""What a plain Python image needs before it can work for a program: the engine, and what the program imports.

Found here, pinned to the versions here, with everything they depend on, and installed by pip as the pod starts. Only
published distributions: one that is installed from a folder of this machine is named, and left out.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skjob.engine.modules import find_sources
from skjob.environment.index import pip_config_files, pip_files
from skjob.plan import JobSpec

PIP_FOLDER = "/skjob/pip"
ENGINE = ("cloudpickle", "dask", "distributed", "joblib", "numpy", "scikit-learn", "cryptography")
DECLARED_JOB = ("pandas", "pyarrow")


@dataclass(frozen=True)
class Installation:
    """Pinned requirements, and the files of pip's configuration, which may hold credentials.

    `left_out` names distributions that the program imports and that can't be installed from an index.
    """

    requirements: str
    pip_files: dict[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def installation(job: JobSpec) -> Installation:
    """What the pods of this job install."""
    names = {name for file in program_files(job) for name in _imported_names(file)}
    if not job.path.exists():
        names |= interactive_names()
    wanted = [*ENGINE, *(DECLARED_JOB if job.declared else ()), *distributions_of(names)]
    pins, left_out = pinned(wanted)
    lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
    files = pip_files(os.environ, pip_config_files(), PIP_FOLDER)
    return Installation("\n".join([*lines, ""]), files, tuple(sorted(left_out)))


def program_files(job: JobSpec) -> list[Path]:
    """The script and the modules beside it."""
    own = [] if job.declared else [job.path]
    return [*own, *(job.root / file for file in find_sources(job.root).files if file.suffix == ".py")]


def distributions_of(names: Iterable[str]) -> set[str]:
    """The installed distributions that provide these top-level modules."""
    providers = metadata.packages_distributions()
    return {
        distribution
        for name in names
        if name not in sys.stdlib_module_names
        for distribution in providers.get(name, ())
    }


def interactive_names() -> set[str]:
    """The top-level modules of what a notebook has imported, or taken objects from."""
    values = list(vars(sys.modules["__main__"]).values())
    names = {getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in values}
    return {name.partition(".")[0] for name in names if isinstance(name, str)}


def _imported_names(file: Path) -> Iterator[str]:
    """Top-level names. A file that is not valid Python is not imported by a program that works."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def pinned(names: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Versions of these distributions and of all they depend on, as installed here; and those not from an index."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    left_out: set[str] = set()
    waiting = [(canonicalize_name(name), frozenset[str]()) for name in names]
    seen = set()
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        name, extras = item
        if name == "skjob":
            continue  # travels with the run
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional dependency that is not there
        if _is_on_an_index(distribution.read_text("direct_url.json")):
            pins[name] = distribution.version
        else:
            left_out.add(name)
        for line in distribution.requires or ():
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return pins, left_out


def _is_on_an_index(direct_url: str | None) -> bool:
    """Judged by the record of where a distribution was installed from, where there is one (PEP 610).

    Packages of conda often have one of the folder in which they were built, on another machine.
    """
    if not direct_url:
        return True
    try:
        origin = json.loads(direct_url)
        url = urlsplit(origin["url"])
        editable = origin.get("dir_info", {}).get("editable", False)
    except (ValueError, LookupError, TypeError, AttributeError):
        return True  # no such record
    if editable or "vcs_info" in origin or url.scheme != "file":
        return False
    return not os.access(unquote(url.path), os.F_OK)
