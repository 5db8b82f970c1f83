"""Where a setting comes from: flag > SKJOB_* variable > project file > the cluster's ConfigMap > built-in.

Each source is a `Layer`: an origin, as the user calls it, and raw values. `resolve` parses them all and reports every
value that is wrong in one error, with the place it came from. Nothing here touches a cluster: the layer that is the
ConfigMap is handed in by whoever has read it.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any

from skjob.config.parsers import (
    parse_address,
    parse_cost,
    parse_cpu,
    parse_grace,
    parse_memory,
    parse_name,
    parse_namespace,
    parse_place,
    parse_retries,
    parse_seconds,
    parse_workers,
)
from skjob.config.settings import Settings
from skjob.errors import ConfigError
from skjob.utils.suggestions import did_you_mean

PROJECT_FILES = ("skjob.toml", "pyproject.toml")

LIMITS = {
    "limits.max-workers": ("max-workers", "most-workers"),
    "limits.max-cpu": ("max-cpu", "most-cpu"),
    "limits.max-memory": ("max-memory", "most-memory"),
    "limits.max-time": ("most-time",),
}
"""The limits of a platform team, each with the other names under which it counts.

A ConfigMap may have a default `max-time` beside the limit, which users can exceed: it is no name of the limit.
"""

TEAM_KEYS = (
    "team", "node-selector", "tolerations", "priority-class", "queue", "prices", "currency", "nodes",
    *LIMITS, *(name for names in LIMITS.values() for name in names),
)  # fmt: skip
"""What the ConfigMap alone can say (`skjob.config.namespace_policy`)."""

OPTIONS_ALONE = ("cluster", "keep", "resume", "json", "verbose")
"""What is for one run, and so has neither a variable nor a place in a file."""

_ELSEWHERE_CALLED = {"idle_timeout": "keep_time"}
"""Options of other commands than `skjob run`, and the setting that each of them is."""


@dataclass(frozen=True)
class Layer:
    """One source of settings. For messages: `name_of` tells how a field is called there, `place` where that is, and
    `hint` where its names are listed."""

    values: Mapping[str, Any]
    name_of: Callable[[str], str]
    strict: bool = True
    place: str = ""
    hint: str = ""

    def called(self, name: str) -> str:
        """A field with where it is set, for messages."""
        return f"`{self.name_of(name)}`" + (f" in `{self.place}`" if self.place else "")


class Problems:
    """Around each check of a request: what is wrong is told all at once, in the end, by `raise_any`."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def __enter__(self) -> None:
        """A check begins."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, ConfigError):
            self.found.append(error)
        return isinstance(error, ConfigError)

    def raise_any(self) -> None:
        """Raises ConfigError where any check did: with all their problems and hints."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            hints = dict.fromkeys(error.hint for error in self.found if error.hint)
            raise ConfigError.collect([each for error in self.found for each in error.problems], "; ".join(hints))


_PARSERS: dict[str, Callable[[str], Any]] = {
    "on": parse_place,
    "context": parse_name,
    "namespace": parse_namespace,
    "image": parse_name,
    "env": parse_name,
    "workers": parse_workers,
    "worker_cpu": parse_cpu,
    "worker_memory": parse_memory,
    "start_timeout": parse_seconds,
    "max_time": parse_seconds,
    "max_cost": parse_cost,
    "grace": parse_grace,
    "keep_time": parse_seconds,
    "checkpoint": parse_address,
    "retries": parse_retries,
}
assert set(_PARSERS) == {field.name for field in fields(Settings)}  # noqa: S101 - a setting without a parser


def flags(values: Mapping[str, str | None], command: str = "") -> Layer:
    """The options of a command, those that were given, each as the setting that it is."""
    option = {_ELSEWHERE_CALLED.get(name, name): name for name, value in values.items() if value is not None}
    return Layer(
        {name: values[option[name]] for name in option},
        lambda name: f"--{_hyphened(option.get(name, name))}",
        hint=help_of(command) if command else "",
    )


def help_of(command: str) -> str:
    """The hint where an option of a command is wrong."""
    return f"`skjob {command} --help` lists the options and their defaults"


def arguments(values: Mapping[str, str]) -> Layer:
    """The arguments of `skjob.cluster`, those that were given."""
    return Layer(values, lambda name: f"{name}=", hint="`help(skjob.cluster)` lists the arguments and their defaults")


def environment(environ: Mapping[str, str]) -> Layer:
    """`SKJOB_WORKERS`, `SKJOB_IMAGE`, …; of others with the prefix, those that look like a slip of the pen."""
    set_ = {name[6:].lower(): value for name, value in environ.items() if name.startswith("SKJOB_") and value}
    values = {
        name: value
        for name, value in set_.items()
        if name in (*_PARSERS, *OPTIONS_ALONE, *_ELSEWHERE_CALLED)
        or _is_the_teams(name)
        or get_close_matches(name, _PARSERS, n=1, cutoff=0.8)
    }
    return Layer(values, lambda name: f"SKJOB_{name.upper()}")


def project(folder: Path) -> Layer:
    """`skjob.toml`, or `[tool.skjob]` of `pyproject.toml`, of the folder or the nearest one above it that has one.

    Raises:
        ConfigError: both have settings, or the file is not what it should be, or somebody else's.
    """
    for candidate in (folder, *folder.parents):
        tables = {path: table for name in PROJECT_FILES if (table := _table(path := candidate / name)) is not None}
        telling = [path for path, table in tables.items() if table]
        if len(telling) > 1:
            both = " and ".join(f"`{path}`" for path in telling)
            raise ConfigError(f"{both} both have settings", "move them into one of the two")
        for path in telling:
            if _is_a_strangers(path):
                raise ConfigError(
                    f"`{path}` belongs to somebody else, in a folder where everybody may write",
                    "work in a folder of your own, or have a `skjob.toml` in it",
                )
            values = {name.replace("-", "_"): value for name, value in tables[path].items()}
            return Layer(values, _hyphened, place=str(path))
        if tables:
            break
    return Layer({}, str)


def _table(path: Path) -> dict[str, Any] | None:
    """The settings in a project file; None where it has no place for them."""
    if not path.is_file():
        return None
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{path}` is not valid TOML: {error}", "fix the file") from error
    except OSError as error:
        raise ConfigError(f"`{path}` can't be read: {error.strerror}", "fix its permissions") from error
    if path.name == "pyproject.toml":
        tool = table.get("tool", {})
        table = tool.get("skjob") if isinstance(tool, dict) else tool
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"`[tool.skjob]` in `{path}` is not a table", "fix the file")
    return table


def _is_a_strangers(path: Path) -> bool:
    """Whether anybody may have put this file here, for whoever works below: in `/tmp`, say."""
    return bool(path.parent.stat().st_mode & stat.S_IWOTH) and path.lstat().st_uid not in (0, os.getuid())


def cluster_defaults(data: Mapping[str, str], origin: str) -> Layer:
    """A platform team's defaults. Keys this version does not know are left to the version that does."""
    values = {name.replace("-", "_"): value for name, value in data.items()}
    return Layer(values, _hyphened, strict=False, place=origin)


def resolve(layers: Iterable[Layer]) -> Settings:
    """The settings of the first layer that has each of them.

    Raises:
        ConfigError: with every wrong value of every layer, also of those that another layer overrides.
    """
    layers = list(layers)
    settings, problems, hints = Settings(), list[str](), list[str]()
    for layer in reversed(layers):
        for name, raw in layer.values.items():
            called = layer.called(name)
            if name in _PARSERS:
                try:
                    settings = replace(settings, **{name: _PARSERS[name](str(raw))})
                except ValueError as error:
                    problems.append(f"{called} {error}, not `{raw}`")
            elif layer.strict and _is_the_teams(name):
                problems.append(f"{called} is the platform team's to set, in the namespace's ConfigMap")
            elif layer.strict and name in OPTIONS_ALONE:
                problems.append(f"{called} is no setting: it can only be given as `--{name}`")
            elif layer.strict:
                meant = did_you_mean(_ELSEWHERE_CALLED.get(name, name), _PARSERS, layer.name_of)
                problems.append(f"{called} is not a setting{meant}")
                hints = hints or [f"the settings are {', '.join(f'`{layer.name_of(each)}`' for each in _PARSERS)}"]
    if problems:
        hints += [layer.hint for layer in layers if layer.hint]
        raise ConfigError.collect(problems, "; ".join(hints))
    return settings


def called(layers: Iterable[Layer], name: str) -> str:
    """How a setting is called where it was last set, for messages: by option, argument, variable or file."""
    return next((layer.called(name) for layer in layers if name in layer.values), f"`{_hyphened(name)}`")


def _is_the_teams(name: str) -> bool:
    return _hyphened(name) in TEAM_KEYS


def _hyphened(name: str) -> str:
    return name.replace("_", "-")
