"""Read the indexes that pip is configured for, from its files and variables."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from skjob.environment.index.settings import Index
from skjob.environment.index.tool_settings import BEST_MATCH, TRUE, ToolSettings, xdg_folders
from skjob.utils.operating_system import ON_MACOS


def pip_config_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that pip would read here, weakest first."""
    configured = environ.get("PIP_CONFIG_FILE")
    if configured == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    if ON_MACOS:
        shared = [Path("/Library/Application Support/pip/pip.conf")]
        user = home / "Library" / "Application Support" / "pip"
        user = user if user.is_dir() else home / ".config" / "pip"
    else:
        shared = [Path(folder) / "pip" / "pip.conf" for folder in xdg_folders(environ)]
        shared.append(Path("/etc/pip.conf"))
        user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    users = [home / ".pip" / "pip.conf", user / "pip.conf"]
    if configured and Path(configured).exists():
        users = []
    return [*shared, *users, Path(sys.prefix) / "pip.conf", *([Path(configured)] if configured else [])]


def pip_settings(environ: Mapping[str, str], config_files: Iterable[Path], problems: list[str]) -> dict[str, str]:
    """Return settings by pip's long names: the environment first, then `[install]` of all files, then `[global]`."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in config_files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0]
            problems.append(f"pip's configuration `{file}` cannot be read: {why}")
            continue
        for section, content in sections.items():
            if parser.has_section(section):
                content |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return {**sections["global"], **sections["install"], **variables}


def from_pip(settings: Mapping[str, str]) -> ToolSettings:
    """Return pip's settings of indexes in the terms that it shares with uv."""
    extra = settings.get("extra-index-url", "").split()
    default = settings.get("index-url", "").split()
    proxy = settings.get("proxy", "")
    return ToolSettings(
        indexes=[*(Index(url) for url in extra), *(Index(url, default=True) for url in default[:1])],
        find_links=settings.get("find-links", "").split(),
        no_index=settings.get("no-index", "").lower() in TRUE,
        # pip chooses the best version of all indexes, uv by default that of the first index that has the name.
        strategy=BEST_MATCH if extra else "",
        insecure_hosts=settings.get("trusted-host", "").split(),
        proxies={"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy} if proxy else {},
    )
