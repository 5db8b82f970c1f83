"""What a plain Python image needs before it can work for a program: the engine, and what the program imports.

Found here, pinned to the versions here, with everything they depend on, and installed by pip as the pod starts. What
the program imports is found by following its imports, into the modules beside it and no others: tests and notebooks
in the same folder have needs of their own. Only published distributions: one that is installed from elsewhere than an
index is named, and left out.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skjob.environment.index import pip_config_files, pip_files
from skjob.plan import JobSpec

PIP_FOLDER = "/skjob/pip"
ENGINE = ("cloudpickle", "dask", "distributed", "joblib", "numpy", "scikit-learn")
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
    wanted = [*ENGINE, *(DECLARED_JOB if job.declared else ()), *distributions_of(program_names(job))]
    pins, left_out = pinned(wanted)
    lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
    files = pip_files(os.environ, pip_config_files(), PIP_FOLDER)
    return Installation("\n".join([*lines, ""]), files, tuple(sorted(left_out)))


def program_names(job: JobSpec) -> set[str]:
    """The top-level modules that a program imports from elsewhere than its own folder."""
    if job.declared:
        return follow(job.root, class_paths(job.path))
    if job.path.is_file():
        return follow(job.root, imports(job.path.resolve(), job.root))
    # A notebook: what it will import is not known, and may be anything beside it.
    from skjob.engine.modules import find_sources  # and with it joblib: not before the pods need it

    beside = [job.root / file for file in find_sources(job.root).files if file.suffix == ".py"]
    return follow(job.root, [*interactive_names(), *(name for file in beside for name in imports(file, job.root))])


def follow(root: Path, names: Iterable[str]) -> set[str]:
    """The top-level modules that are not in `root`, of these full names and of what the modules in `root` import."""
    elsewhere: set[str] = set()
    read: set[Path] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        files = [*local_files(root, name)]
        if not files:
            elsewhere.add(name.partition(".")[0])
        for file in files:
            if file not in read:
                read.add(file)
                waiting += imports(file, root)
    return elsewhere


def imports(file: Path, root: Path) -> Iterator[str]:
    """Full names, `a.b.c` for `from a.b import c` too. A file that is not valid Python is imported by no program."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = [node.module] if node.module else []
            yield from (".".join([*above, *module, alias.name]) for alias in node.names)


def local_files(root: Path, name: str) -> Iterator[Path]:
    """What is run when `name` is imported: the module of that full name in `root`, and the packages it is in."""
    folder = root
    for part in name.split("."):
        if part == "*":  # `__all__` may name submodules
            yield from (*folder.glob("*.py"), *folder.glob("*/__init__.py"))
        choices = (folder / part / "__init__.py", folder / f"{part}.py")
        yield from [file for file in choices if os.access(file, os.R_OK)][:1]
        folder /= part


def class_paths(job_file: Path) -> Iterator[str]:
    """The import paths that a job file names. It has been checked before."""
    import yaml

    events = yaml.parse(job_file.read_bytes())
    words = [event.value for event in events if isinstance(event, yaml.ScalarEvent)]
    yield from (value for key, value in pairwise(words) if key == "class")


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
