"""Read the indexes that uv is configured for, from its files and variables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skjob.environment.index.settings import UV_FILE, Index, with_credentials
from skjob.environment.index.tool_settings import BEST_MATCH, TRUE, ToolSettings, xdg_folders


def uv_config_files(environ: Mapping[str, str], working: Path) -> list[Path]:
    """Return the files that uv would read in the folder `working`, strongest first."""
    if environ.get("UV_CONFIG_FILE"):
        return [Path(environ["UV_CONFIG_FILE"])]
    if environ.get("UV_NO_CONFIG", "").lower() in TRUE:
        return []
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv" / UV_FILE
    shared = [*(Path(folder) / "uv" / UV_FILE for folder in xdg_folders(environ)), Path("/etc/uv") / UV_FILE]
    project = working.absolute()
    return [
        *next((file for folder in (project, *project.parents) if (file := _project_file(folder))), []),
        user,
        *[file for file in shared if file.is_file()][:1],
    ]


def _project_file(folder: Path) -> list[Path]:
    """Return the configuration file of a folder: uv.toml, or a pyproject.toml with a table for uv."""
    if (folder / UV_FILE).is_file():
        return [folder / UV_FILE]
    try:
        content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # uv warns, and looks further up
    tools = content.get("tool")
    return [folder / "pyproject.toml"] if isinstance(tools, dict) and "uv" in tools else []


def from_uv(environ: Mapping[str, str], config_files: Iterable[Path], problems: list[str]) -> ToolSettings:
    """Return uv's settings: variables before files, and lists of both one after the other."""
    tables = [table for file in config_files for table in _uv_tables(file, environ, problems)]
    configured = [each for table in tables for each in _uv_indexes(table)]
    by_name = {each.name: each for each in reversed(configured) if each.name}

    def variable(name: str, *, default: bool = False) -> Iterator[Index]:
        for word in environ.get(name, "").split():
            label, equals, url = word.partition("=")
            if equals and ":" not in label:
                yield Index(url, label, default)
            else:
                yield replace(by_name[word], default=default) if word in by_name else Index(word, default=default)

    indexes = [
        *variable("UV_INDEX"),
        *variable("UV_EXTRA_INDEX_URL"),
        *variable("UV_DEFAULT_INDEX", default=True),
        *variable("UV_INDEX_URL", default=True),
        *configured,
    ]

    def first(*names: str) -> Any:
        return next((table[name] for table in tables for name in names if name in table), "")

    def all_of(name: str) -> list[str]:
        return [each for table in tables for each in table.get(name, [])]

    certificates = environ.get("UV_SYSTEM_CERTS") or environ.get("UV_NATIVE_TLS") or ""
    proxies = {name: first(name.lower().replace("_", "-")) for name in ("HTTPS_PROXY", "HTTP_PROXY")}
    proxies["NO_PROXY"] = ",".join(first("no-proxy"))
    return ToolSettings(
        indexes=[_with_variables(each, environ) for each in _one_default(indexes)],
        find_links=[
            *filter(None, environ.get("UV_FIND_LINKS", "").split(",")),
            *all_of("find-links"),
            *(url for table in tables for url in _flat_indexes(table, environ)),
        ],
        no_index=first("no-index") is True,
        strategy=environ.get("UV_INDEX_STRATEGY") or first("index-strategy") or _strategy(tables),
        insecure_hosts=[*environ.get("UV_INSECURE_HOST", "").split(), *all_of("allow-insecure-host")],
        proxies={name: value for name, value in proxies.items() if value},
        system_certificates=certificates.lower() in TRUE or first("system-certs", "native-tls") is True,
    )


def _uv_tables(file: Path, environ: Mapping[str, str], problems: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the tables of a file: `pip`, which `uv pip` reads first, and the one that contains it."""
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if environ.get("UV_CONFIG_FILE"):
            problems.append(
                f"uv's configuration `{file}`, which `UV_CONFIG_FILE` names, cannot be read: {error.strerror}"
            )
        return
    except (OSError, ValueError) as error:
        problems.append(f"uv's configuration `{file}` cannot be read: {str(error).partition(chr(10))[0]}")
        return
    if file.name == "pyproject.toml":
        table = table["tool"]["uv"]
    inner = table.pop("pip", {}) if isinstance(table, dict) else {}
    for name, each in (("pip", inner), ("uv", table)):
        reason = _invalid_reason(each)
        if reason:
            problems.append(f"uv's configuration `{file}` cannot be read: {reason} in the table `{name}`")
        else:
            yield each


def _invalid_reason(table: Any) -> str:
    """Return what is wrong with the part of a table that is read here; empty if nothing is."""
    if not isinstance(table, dict):
        return "not a table"
    for name in ("find-links", "extra-index-url", "allow-insecure-host", "no-proxy"):
        if not _strings(table.get(name, [])):
            return f"`{name}` is not a list of strings"
    for name in ("index-url", "index-strategy", "http-proxy", "https-proxy"):
        if not isinstance(table.get(name, ""), str):
            return f"`{name}` is not a string"
    indexes = table.get("index", [])
    if not isinstance(indexes, list) or not all(isinstance(each, dict) for each in indexes):
        return "`index` is not a list of tables"
    if not all(isinstance(each.get("url"), str) and isinstance(each.get("name", ""), str) for each in indexes):
        return "an `index` has no `url`, or a `name` that is not a string"
    codes = [each.get("ignore-error-codes", []) for each in indexes]
    if not all(isinstance(each, list) and all(isinstance(code, int) for code in each) for each in codes):
        return "`ignore-error-codes` is not a list of numbers"
    return ""


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _uv_indexes(table: Mapping[str, Any]) -> Iterator[Index]:
    """Yield the indexes of a table in uv's order."""
    for each in table.get("index", []):
        if _is_flat(each):
            continue
        codes = tuple(each.get("ignore-error-codes", ()))
        yield Index(each["url"], each.get("name", ""), each.get("default") is True, codes)
    yield from (Index(url) for url in table.get("extra-index-url", []))
    if "index-url" in table:
        yield Index(table["index-url"], default=True)


def _flat_indexes(table: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the addresses of flat indexes, which are find-links."""
    for each in filter(_is_flat, table.get("index", [])):
        yield _with_variables(Index(each["url"], each.get("name", "")), environ).url


def _is_flat(index: Mapping[str, Any]) -> bool:
    return index.get("format") == "flat"


def _strategy(tables: Iterable[Mapping[str, Any]]) -> str:
    """Return the strategy: with explicit indexes, for packages pinned to them, two may have the same name."""
    return BEST_MATCH if any(each.get("explicit") for table in tables for each in table.get("index", [])) else ""


def _one_default(indexes: Iterable[Index]) -> Iterator[Index]:
    """Yield the first index of each name, and the first default one: the others are not used."""
    names: set[str] = set()
    default = False
    for each in indexes:
        if (each.name and each.name in names) or (each.default and default):
            continue
        names.add(each.name)
        default |= each.default
        yield each


def _with_variables(index: Index, environ: Mapping[str, str]) -> Index:
    """Return the index with the credentials of its variables, which uv prefers to those in the URL."""
    if not index.name:
        return index
    prefix = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', index.name.upper())}"
    user, password = environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")
    return replace(index, url=with_credentials(index.url, user, password)) if user or password else index
