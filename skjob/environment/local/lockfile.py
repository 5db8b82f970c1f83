"""Read the versions that a file requests: requirements, a project, or a lock of either, with all dependencies.

uv resolves what is not locked yet, for the workers' Python on Linux, and exports a project that it has locked. Both
give a `pylock.toml` (PEP 751), which the user's file may also be; `packaging.pylock` reads it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from skjob.environment.index.settings import IndexSettings, unconfigured
from skjob.environment.local.distributions import ENGINE
from skjob.errors import ConfigError
from skjob.utils.operating_system import machine

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageVcs, Pylock

RESOLVE_TIMEOUT = 300
"""Seconds for uv: it may have to read the metadata of hundreds of distributions over a slow line."""

_HINT = "`uv pip compile {path}` shows the same; `--env auto` sends the environment that skjob runs in"


def read_lock(
    path: Path,
    python: str,
    *,
    local: Collection[str] = (),
    engine: Mapping[str, str] = MappingProxyType({}),
    index: IndexSettings | None = None,
) -> dict[str, str]:
    """Return versions by normalized name, for `python`, a minor version, on Linux.

    `local` are distributions that travel as archives: the file may request those from a folder or a repository too.
    `engine` is what workers consist of; they have these versions, requested or not. `index` is where distributions
    are looked up; uv's own configuration by default.

    Raises:
        ConfigError: the file cannot be read or resolved, or requests what no index has, or another version of what
            both ends must share; with all that uv reports.
    """
    hint = _HINT.format(path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "is not text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        raise ConfigError(
            f"`{path}`, which `--env` names, {why}",
            "name a file of requirements, a pyproject.toml or a lock; or `auto`, or `none`",
        ) from error
    if not re.fullmatch(r"pylock(\..+)?\.toml", path.name):
        text = _resolve(path, python, engine, index, hint)
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    lock = _parse(text, path, hint)
    pins: dict[str, str] = {}
    problems = _python_problems(lock, path, python)
    variables = _marker_variables(python, lock)
    for package in lock.packages:
        name = package.name
        try:
            if name == "skjob" or name in local or not _applies(package, variables):
                continue
        except (UndefinedComparison, UndefinedEnvironmentName) as error:
            problems.append(f"`{path}` requests `{name}` under a condition that cannot be evaluated: {error}")
            continue
        if source := package.vcs or package.directory or package.archive:
            problems.append(
                f"`{path}` requests `{name}` from {_origin(source)}, which no index has: install it here too to send "
                "it as an archive"
            )
        elif package.version is None:
            problems.append(f"`{path}` requests `{name}` without a version")
        elif pins.setdefault(name, str(package.version)) != str(package.version):
            problems.append(f"`{path}` requests `{name}` in two versions, {pins[name]} and {package.version}")
    problems += [
        f"`{path}` requests `{name}` {pins[name]}, but {engine[name]} is installed here: both ends must have the same"
        for name in ENGINE
        if name in engine and pins.get(name, engine[name]) != engine[name]
    ]
    if problems:
        raise ConfigError.collect(problems, hint)
    return {**engine, **pins}


def _parse(text: str, path: Path, hint: str) -> Pylock:
    from packaging.pylock import Pylock, PylockValidationError

    try:
        return Pylock.from_dict(_as_specified(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise ConfigError(f"`{path}` is not a lock that skjob can read: {error}", hint) from error


def _as_specified(lock: dict[str, Any]) -> dict[str, Any]:
    """Add what uv 0.9 leaves out of a lock although PEP 751 requires it; skjob uses neither.

    These are `packages` of a project without dependencies, and hashes of files whose index has none.
    """
    packages = lock.setdefault("packages", [])
    packages = [package for package in packages if isinstance(package, dict)] if isinstance(packages, list) else []
    files = [file for package in packages for file in (*package.get("wheels", ()), package.get("sdist"))]
    for file in files:
        if isinstance(file, dict) and file.get("hashes") == {}:
            file["hashes"] = {"sha256": "0" * 64}
    return lock


def _resolve(path: Path, python: str, engine: Mapping[str, str], index: IndexSettings | None, hint: str) -> str:
    """Return the text of the lock that uv makes of the file."""
    import uv

    project = path.name in ("pyproject.toml", "uv.lock") and (path.parent / "uv.lock").is_file()
    if project:
        command = ["export", "--project", str(path.parent), "--frozen", "--no-dev", "--no-emit-project"]
    else:
        target = f"{machine()}-unknown-linux-gnu"
        command = ["pip", "compile", str(path), "--python-version", python, "--python-platform", target]
    with tempfile.TemporaryDirectory(prefix="skjob-") as scratch:
        folder, variables = Path(scratch), dict(os.environ)
        if not project:
            constraints = folder / "installed-here.txt"
            constraints.write_text("".join(f"{name}=={engine[name]}\n" for name in ENGINE if name in engine))
            command += ["--constraint", str(constraints)]
        if index is not None:
            for name, content in index.files().items():
                (folder / name).write_bytes(content)
            variables = unconfigured(os.environ) | index.uv_variables(folder)
        try:
            result = subprocess.run(
                [uv.find_uv_bin(), *command, "--format", "pylock.toml", "--quiet", "--color", "never"],
                env={**variables, "UV_NO_PROGRESS": "1", "GIT_TERMINAL_PROMPT": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=RESOLVE_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"`{path}` was not resolved within {RESOLVE_TIMEOUT} s", "the package index may be slow or unreachable"
            ) from error
    if result.returncode:
        stderr = index.redact(result.stderr) if index is not None else result.stderr
        if engine and not project:
            hint = f"workers have {_join(ENGINE)} in the versions that are installed here; {hint}"
        raise ConfigError(f"uv cannot resolve `{path}` for Python {python} on Linux: {_without_labels(stderr)}", hint)
    return result.stdout


def _join(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _without_labels(stderr: str) -> str:
    """Return uv's own message without its labels."""
    lines = [re.sub(r"^(error: |cause: |Caused by: |[×╰─▶ ]+)", "", line.strip()) for line in stderr.splitlines()]
    return "\n  ".join(line for line in lines if line) or "it gives no reason"


def _python_problems(lock: Pylock, path: Path, python: str) -> list[str]:
    accepted = lock.requires_python
    # Any patch version is enough: `>=3.11.4` is no reason to refuse 3.11.
    if accepted is None or any(accepted.contains(f"{python}.{patch}", prereleases=True) for patch in range(50)):
        return []
    return [f"`{path}` is for Python {accepted}, but this is {python}"]


def _marker_variables(python: str, lock: Pylock) -> dict[str, Any]:
    """Return the variables of markers as a worker has them."""
    here = platform.python_version()
    return {
        "python_version": python,
        "python_full_version": here if here.startswith(f"{python}.") else f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extra": "",
        "extras": frozenset[str](),
        "dependency_groups": frozenset(lock.default_groups or ()),
    }


def _applies(package: Package, variables: dict[str, Any]) -> bool:
    return package.marker is None or package.marker.evaluate(variables, context="lock_file")


def _origin(source: PackageVcs | PackageDirectory | PackageArchive) -> str:
    """Return the address of a source without credentials."""
    address = getattr(source, "url", None) or source.path or "elsewhere"
    return f"`{re.sub(r'//[^/@]*@', '//', address)}`"
