"""Where a setting comes from: flag > SKJOB_* variable > project file > the namespace's ConfigMap > built-in.

Each source is a `Layer`: an origin, as the user calls it, and raw values. `resolve` parses them, once, and reports
every value that is wrong in one error, with the place it came from. Nothing here touches a cluster: whoever reads the
ConfigMap puts its layer below the others (`ResolvedSettings.over`). Context and namespace are all it takes to find it.
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

from skjob.config import environment_variables
from skjob.config.environment_variables import Variables, parse_secret_env, parse_set_env
from skjob.config.parsers import (
    parse_address,
    parse_arch,
    parse_cost,
    parse_cpu,
    parse_env,
    parse_gpu,
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
from skjob.errors import ConfigError, did_you_mean

PROJECT_FILES = ("skjob.toml", "pyproject.toml")

LIMITS = {
    "limits.max-workers": ("max-workers", "most-workers"),
    "limits.max-cpu": ("max-cpu", "most-cpu"),
    "limits.max-memory": ("max-memory", "most-memory"),
    "limits.max-gpus": ("max-gpus",),
    "limits.max-time": ("most-time",),
}
"""The limits of a platform team, each with the other names under which it counts.

A ConfigMap may have a default `max-time` beside the limit, which users can exceed: it is no name of the limit.
"""

TEAM_KEYS = (
    "team", "node-selector", "tolerations", "node-pools", "priority-class", "queue", "prices", "currency", "nodes",
    "pods", *LIMITS, *(name for names in LIMITS.values() for name in names),
)  # fmt: skip
"""What the ConfigMap alone can say (`skjob.config.namespace_policy`)."""

OPTIONS_ALONE = ("cluster", "keep", "resume", "mlflow", "json", "verbose", "quiet")
"""What is for one run, and so has neither a variable nor a place in a file."""

CONFIGMAP_HINT = "ask the platform team to fix the ConfigMap"

_ELSEWHERE_CALLED = {"idle_timeout": "keep_time"}
"""Options of other commands than `skjob run`, and the setting that each of them is."""


@dataclass(frozen=True)
class Layer:
    """One source of settings, with what messages need.

    `name_of` returns how a setting is called there, `place` says where that is, and `hint` where its names are listed.
    A layer that is not `strict` may have other names too.
    """

    values: Mapping[str, Any]
    name_of: Callable[[str], str]
    strict: bool = True
    place: str = ""
    hint: str = ""

    def called(self, name: str) -> str:
        """Return how a setting is called and where it is set, for messages."""
        return f"`{self.name_of(name)}`" + (f" in `{self.place}`" if self.place else "")


class Problems:
    """Collects what each check of a request finds wrong, to report all of it at once by `raise_any`."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def __enter__(self) -> None:
        """Begin a check."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, ConfigError):
            self.found.append(error)
        return isinstance(error, ConfigError)

    def raise_any(self) -> None:
        """Raise ConfigError with all problems and hints, if any check found one."""
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
    "arch": parse_arch,
    "env": parse_env,
    "workers": parse_workers,
    "worker_cpu": parse_cpu,
    "worker_memory": parse_memory,
    "worker_gpu": parse_gpu,
    "node_pool": parse_name,
    "start_timeout": parse_seconds,
    "max_time": parse_seconds,
    "max_cost": parse_cost,
    "grace": parse_grace,
    "keep_time": parse_seconds,
    "checkpoint": parse_address,
    "retries": parse_retries,
}
_VARIABLES: dict[str, Callable[[Any], tuple[Any, list[str]]]] = {
    "set_env": parse_set_env,
    "secret_env": parse_secret_env,
}
"""Settings with several values, which all layers add to. What is wrong with them shows no value."""

_NAMES = (*_PARSERS, *_VARIABLES)
assert set(_NAMES) == {field.name for field in fields(Settings)}  # noqa: S101 - a setting without a parser


def is_setting(name: str) -> bool:
    """Return whether an option of this name, of whichever command, is a setting."""
    return name in _NAMES or name in _ELSEWHERE_CALLED


def flags(values: Mapping[str, Any], command: str = "") -> Layer:
    """Return the options that were given to a command, each as the setting that it is."""
    option = {_ELSEWHERE_CALLED.get(name, name): name for name, value in values.items() if value not in (None, [])}
    return Layer(
        {name: values[option[name]] for name in option},
        lambda name: f"--{_hyphened(option.get(name, name))}",
        hint=help_of(command) if command else "",
    )


def help_of(command: str) -> str:
    """Return the hint for a wrong option of a command."""
    return f"`skjob {command} --help` lists the options and their defaults"


def arguments(values: Mapping[str, Any]) -> Layer:
    """Return the arguments that were given to `skjob.cluster`."""
    return Layer(values, lambda name: f"{name}=", hint="`help(skjob.cluster)` lists the arguments and their defaults")


def environment(environ: Mapping[str, str]) -> Layer:
    """Return `SKJOB_WORKERS`, `SKJOB_IMAGE`, …, and those with the prefix that look like a misspelled setting."""
    set_ = {name[6:].lower(): value for name, value in environ.items() if name.startswith("SKJOB_") and value}
    values = {
        name: value
        for name, value in set_.items()
        if name in (*_NAMES, *OPTIONS_ALONE, *_ELSEWHERE_CALLED)
        or _is_the_teams(name)
        or get_close_matches(name, _NAMES, n=1, cutoff=0.8)
    }
    return Layer(values, lambda name: f"SKJOB_{name.upper()}")


def project(folder: Path) -> Layer:
    """Return `skjob.toml`, or `[tool.skjob]` of `pyproject.toml`, from the nearest folder at or above this one.

    Raises:
        ConfigError: both files have settings, or the file is not valid, or belongs to somebody else.
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
                    f"`{path}` belongs to another user, in a folder that everybody may write to",
                    "work in a folder of your own, or have a `skjob.toml` in it",
                )
            values = {name.replace("-", "_"): value for name, value in tables[path].items()}
            return Layer(values, _hyphened, place=str(path))
        if tables:
            break
    return Layer({}, str)


def _table(path: Path) -> dict[str, Any] | None:
    """Return the settings in a project file; None if it has no table for them."""
    if not path.is_file():
        return None
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{path}` is not valid TOML: {error}", "fix the file") from error
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}", "fix its permissions") from error
    if path.name == "pyproject.toml":
        tool = table.get("tool", {})
        table = tool.get("skjob") if isinstance(tool, dict) else tool
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"`[tool.skjob]` in `{path}` is not a table", "fix the file")
    return table


def _is_a_strangers(path: Path) -> bool:
    """Return whether another user can have put this file here, as in `/tmp`."""
    return bool(path.parent.stat().st_mode & stat.S_IWOTH) and path.lstat().st_uid not in (0, os.getuid())


def cluster_defaults(data: Mapping[str, str], origin: str) -> Layer:
    """Return a platform team's defaults. Keys that this version does not know are left to the version that does."""
    values = {name.replace("-", "_"): value for name, value in data.items()}
    return Layer(values, _hyphened, strict=False, place=origin, hint=CONFIGMAP_HINT)


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings, and the layers that they come from, the strongest first: what the command itself says."""

    settings: Settings
    layers: tuple[Layer, ...] = ()

    @property
    def given(self) -> Layer:
        """What the command itself says."""
        return self.layers[0] if self.layers else Layer({}, _hyphened)

    def called(self, name: str) -> str:
        """Return how a setting is called where it was last set, for messages: by option, argument, variable or file."""
        return next((layer.called(name) for layer in self.layers if name in layer.values), f"`{_hyphened(name)}`")

    def variables(self, environ: Mapping[str, str]) -> Variables:
        """Return the variables that are set for a program, those without a value from the user's environment.

        Raises:
            ConfigError: with every variable that is not there, or cannot be passed on.
        """
        called = {setting: self.called(setting) for setting in environment_variables.SETTINGS}
        settings = self.settings
        return environment_variables.resolve_variables(settings.set_env, settings.secret_env, environ, called)

    def over(self, layer: Layer) -> ResolvedSettings:
        """Return these settings with one more layer below the others.

        Raises:
            ConfigError: with every wrong value of that layer, also of those that another layer overrides.
        """
        below, problems, hints = _parse(layer)
        _raise_any(problems, hints, [layer])
        missing = {name: value for name, value in below.items() if not any(name in each.values for each in self.layers)}
        return ResolvedSettings(replace(self.settings, **missing), (*self.layers, layer))


def resolve(layers: Iterable[Layer]) -> ResolvedSettings:
    """Return the settings, each from the first layer that has it.

    Raises:
        ConfigError: with every wrong value of every layer, also of those that another layer overrides.
    """
    layers = tuple(layers)
    values: dict[str, Any] = {}
    problems, hints, wrong = list[str](), list[str](), list[Layer]()
    for layer in reversed(layers):
        parsed, found, names = _parse(layer)
        if "set_env" in parsed:
            parsed["set_env"] = {**values.get("set_env", {}), **parsed["set_env"]}
        if "secret_env" in parsed:
            parsed["secret_env"] = tuple(dict.fromkeys((*values.get("secret_env", ()), *parsed["secret_env"])))
        values |= parsed
        problems += found
        hints = hints or names
        wrong += [layer] * bool(found)
    resolved = ResolvedSettings(Settings(**values), layers)
    if both := [f"`{name}`" for name in resolved.settings.set_env if name in resolved.settings.secret_env]:
        where = " and ".join(resolved.called(setting) for setting in environment_variables.SETTINGS)
        problems.append(f"{where} both have {', '.join(both)}: a variable is either secret or not")
    _raise_any(problems, hints, [layer for layer in layers if layer.strict or layer in wrong])
    return resolved


def _parse(layer: Layer) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the parsed settings of a layer, its problems, and, if it has an unknown name, a list of the known ones."""
    values: dict[str, Any] = {}
    problems, hints = list[str](), list[str]()
    for name, raw in layer.values.items():
        called = layer.called(name)
        if name in _PARSERS:
            try:
                values[name] = _PARSERS[name](str(raw))
            except ValueError as error:
                shown = f", not `{raw}`" if name != "env" or "=" not in str(raw) else ""  # which may be a secret
                problems.append(f"{called} {error}{shown}")
        elif name in _VARIABLES and not layer.strict:
            problems.append(f"{called} is no default for others: each user sets variables for themselves")
        elif name in _VARIABLES:
            values[name], wrong = _VARIABLES[name](raw)
            problems += [f"{called} {each}" for each in wrong]
        elif layer.strict and _is_the_teams(name):
            problems.append(f"{called} can only be set by the platform team, in the namespace's ConfigMap")
        elif layer.strict and name in OPTIONS_ALONE:
            problems.append(f"{called} is not a setting: it can only be given as `--{name}`")
        elif layer.strict:
            meant = did_you_mean(_ELSEWHERE_CALLED.get(name, name), _NAMES, layer.name_of)
            problems.append(f"{called} is not a setting{meant}")
            hints = [f"the settings are {', '.join(f'`{layer.name_of(each)}`' for each in _NAMES)}"]
    return values, problems, hints


def _raise_any(problems: list[str], hints: list[str], layers: Iterable[Layer]) -> None:
    if problems:
        raise ConfigError.collect(problems, "; ".join([*hints, *(layer.hint for layer in layers if layer.hint)]))


def _is_the_teams(name: str) -> bool:
    return _hyphened(name) in TEAM_KEYS


def _hyphened(name: str) -> str:
    return name.replace("_", "-")
