"""The versions that a file asks for: requirements, a project, or a lock of either, with all that they depend on.

What is not yet locked is resolved by uv, for the workers' Python on Linux. A project that uv has locked is taken as
locked. Either way uv gives one format, the one of `pylock.toml` (PEP 751), which a user may also have: it is read here.
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
from typing import Any

from skjob.environment.index.settings import IndexSettings, unconfigured
from skjob.environment.local.distributions import ENGINE
from skjob.environment.pod.requirements import normalized
from skjob.errors import ConfigError

TIMEOUT = 300
"""Seconds for uv: it may have to read the metadata of hundreds of distributions over a slow line."""

_HINT = "`uv pip compile {path}` shows the same; `--env auto` sends the environment that skjob runs in"
_SOURCES = ("archive", "directory", "vcs")


def read_lock(
    path: Path,
    python: str,
    *,
    local: Collection[str] = (),
    engine: Mapping[str, str] = MappingProxyType({}),
    index: IndexSettings | None = None,
) -> dict[str, str]:
    """Versions by normalized name, for `python`, a minor version, on Linux.

    `local` are distributions that travel as archives: the file may ask for those from a folder or a repository, too.
    `engine` is what workers are made of, which they have in these versions, asked for or not. `index` is where
    distributions are looked up; uv's own configuration by default.

    Raises:
        ConfigError: the file can't be read or resolved, or asks for what no index has, or for another version of what
            both ends must share; with all that uv says.
    """
    hint = _HINT.format(path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "is not text" if isinstance(error, UnicodeDecodeError) else f"can't be read: {error.strerror}"
        raise ConfigError(
            f"`{path}`, which `--env` names, {why}",
            "name a file of requirements, a pyproject.toml or a lock; or `auto`, or `none`",
        ) from error
    if not re.fullmatch(r"pylock(\..+)?\.toml", path.name):
        text = _resolved(path, python, engine, index, hint)
    try:
        lock = tomllib.loads(text)
        packages = [dict(each) for each in lock.get("packages", ())]
        names = [normalized(each["name"]) for each in packages]
    except (tomllib.TOMLDecodeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"`{path}` is not a lock that skjob can read: {error}", hint) from error
    pins: dict[str, str] = {}
    problems = _python_problems(lock, path, python)
    variables = _variables(python, lock)
    for name, package in zip(names, packages, strict=True):
        if name == "skjob" or name in local or not _applies(package, variables):
            continue
        source = next((kind for kind in _SOURCES if kind in package), None)
        if source:
            problems.append(
                f"`{path}` asks for `{name}` from {_where(package[source])}, which no index has: install it here too, "
                "and it is sent as an archive"
            )
        elif "version" not in package:
            problems.append(f"`{path}` asks for `{name}` without a version")
        else:
            pins[name] = str(package["version"])
    problems += [
        f"`{path}` asks for `{name}` {pins[name]}, and it is {engine[name]} here: both ends must have the same"
        for name in ENGINE
        if name in engine and pins.get(name, engine[name]) != engine[name]
    ]
    if problems:
        raise ConfigError.collect(problems, hint)
    return {**engine, **pins}


def _resolved(path: Path, python: str, engine: Mapping[str, str], index: IndexSettings | None, hint: str) -> str:
    """What uv makes of the file: the text of a lock."""
    import uv

    project = path.name in ("pyproject.toml", "uv.lock") and (path.parent / "uv.lock").is_file()
    if project:
        command = ["export", "--project", str(path.parent), "--frozen", "--no-dev", "--no-emit-project"]
    else:
        target = f"{platform.machine()}-unknown-linux-gnu"
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
            ended = subprocess.run(
                [uv.find_uv_bin(), *command, "--format", "pylock.toml", "--quiet", "--color", "never"],
                env={**variables, "UV_NO_PROGRESS": "1", "GIT_TERMINAL_PROMPT": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"`{path}` was not resolved within {TIMEOUT} s", "is the package index slow, or out of reach?"
            ) from error
    if ended.returncode:
        said = index.redact(ended.stderr) if index is not None else ended.stderr
        if engine and not project:
            hint = f"workers have {_listed(ENGINE)} in the versions that are installed here; {hint}"
        raise ConfigError(f"uv can't resolve `{path}` for Python {python} on Linux: {_told(said)}", hint)
    return ended.stdout


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _told(said: str) -> str:
    """What uv says, without its labels."""
    lines = [re.sub(r"^(error: |cause: |Caused by: |[×╰─▶ ]+)", "", line.strip()) for line in said.splitlines()]
    return "\n  ".join(line for line in lines if line) or "it doesn't say why"


def _python_problems(lock: Mapping[str, Any], path: Path, python: str) -> list[str]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        accepted = SpecifierSet(str(lock.get("requires-python", "")))
    except InvalidSpecifier:
        return []
    # Any patch version will do: `>=3.11.4` is no reason to refuse 3.11.
    if any(accepted.contains(f"{python}.{patch}", prereleases=True) for patch in range(50)):
        return []
    return [f"`{path}` is for Python {accepted}, and this is {python}"]


def _variables(python: str, lock: Mapping[str, Any]) -> dict[str, Any]:
    """Those of markers, on a worker."""
    here = platform.python_version()
    return {
        "python_version": python,
        "python_full_version": here if here.startswith(f"{python}.") else f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extras": frozenset[str](),
        "dependency_groups": frozenset(lock.get("default-groups", ())),
    }


def _applies(package: Mapping[str, Any], variables: dict[str, Any]) -> bool:
    from packaging.markers import InvalidMarker, Marker

    if "marker" not in package:
        return True
    try:
        return Marker(str(package["marker"])).evaluate(variables)
    except InvalidMarker:
        return True  # newer than what is known here: better one too many


def _where(source: Any) -> str:
    """For people: without credentials."""
    place = str(source.get("url") or source.get("path") or "elsewhere") if isinstance(source, dict) else "elsewhere"
    return f"`{re.sub(r'//[^/@]*@', '//', place)}`"
