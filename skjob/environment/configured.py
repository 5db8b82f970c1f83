"""What uv and pip are told on this machine of where to install packages from, as one value.

Read as they read it, from variables and files. Where both are told, uv's word leads, setting by setting: the indexes
(with find-links, no-index and the strategy among them) are one setting, and so are the hosts that need no valid
certificate, and each proxy. A certificate authority is the one that uv would trust, else pip's. Credentials of whatever
origin (URL, `UV_INDEX_…` variables, netrc) become part of the URLs. Not read: keyrings, and what `uv auth` keeps.
"""

from __future__ import annotations

import configparser
import netrc
import os
import re
import ssl
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from skjob.environment.index import (
    PROXY_VARIABLES,
    UV_FILE,
    Index,
    IndexSettings,
    shown,
    split_address,
    with_credentials,
)
from skjob.errors import ConfigError

MOST_BYTES = 900_000
"""Of all files together: a Secret holds one mebibyte."""

BEST_MATCH = "unsafe-best-match"

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TRUE = ("1", "true", "t", "yes", "y", "on")


@dataclass
class _Said:
    """What one tool is told, in its own terms. Indexes and find-links may be paths still."""

    indexes: list[Index] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool = False
    strategy: str = ""
    insecure_hosts: list[str] = field(default_factory=list)
    proxies: dict[str, str] = field(default_factory=dict)
    system_certificates: bool = False

    def locations(self) -> bool:
        return bool(self.indexes or self.find_links or self.no_index)


def index_settings(
    environ: Mapping[str, str],
    working: Path,
    pip_files: Sequence[Path] | None = None,
    uv_files: Sequence[Path] | None = None,
) -> IndexSettings:
    """What uv and pip would use here, in the folder `working`.

    `pip_files`, the weakest first, and `uv_files`, the strongest first, are those that the tools would read if not
    given.

    Raises:
        ConfigError: files that can't be read or understood, or that are too large to travel: all of them.
    """
    problems: list[str] = []
    settings = _pip_settings(environ, pip_config_files(environ) if pip_files is None else pip_files, problems)
    pip = _from_pip(settings)
    uv = _from_uv(environ, uv_config_files(environ, working) if uv_files is None else uv_files, problems)
    lead = uv if uv.locations() else pip
    authority = _authority(environ, settings.get("cert", ""), uv.system_certificates, problems)
    indexes, find_links, left_out = _reachable(lead)
    problems += [
        f"`{shown(url) or 'an index'}`, in the settings of uv or pip, is not an address"
        for url in (*(each.url for each in indexes), *find_links)
        if not _is_sound(url)
    ]
    credentials = _Netrc(environ, problems)
    found = IndexSettings(
        indexes=tuple(replace(each, url=credentials.added_to(each.url)) for each in indexes),
        find_links=tuple(credentials.added_to(url) for url in find_links),
        # A default index that pods can't reach is not replaced by the public one.
        no_index=lead.no_index or _default_is_left_out(lead),
        strategy=lead.strategy,
        insecure_hosts=tuple(dict.fromkeys(uv.insecure_hosts or pip.insecure_hosts)),
        proxies=_proxies(environ, uv.proxies, pip.proxies),
        authority=authority,
        left_out=tuple(left_out),
    )
    size = sum(map(len, found.files().values()))
    if size > MOST_BYTES:
        problems.append(
            f"the settings of the package index are {size:,} bytes, and a Secret holds {MOST_BYTES:,}; "
            "name a smaller certificate authority, with `SSL_CERT_FILE`"
        )
    if problems:
        raise ConfigError.collect(
            problems, "correct the settings of uv and pip; `--env none` takes the image as it is and needs none"
        )
    return found


def _reachable(said: _Said) -> tuple[list[Index], list[str], list[str]]:
    """Indexes and find-links that are addresses, and what is neither."""
    indexes = [each for each in said.indexes if _is_address(each.url)]
    # uv asks the default one last, wherever it stands.
    indexes.sort(key=lambda each: each.default)
    find_links = [each for each in said.find_links if _is_address(each)]
    named = [*(each.url for each in said.indexes), *said.find_links]
    return indexes, find_links, [*dict.fromkeys(each for each in named if not _is_address(each))]


def _is_sound(url: str) -> bool:
    """Whether it has a host, and a port that is one if any."""
    parts = split_address(url)
    try:
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _default_is_left_out(said: _Said) -> bool:
    return any(each.default and not _is_address(each.url) for each in said.indexes)


def _proxies(environ: Mapping[str, str], uv: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """uv's file or pip's own setting before the variables that all programs read."""
    common = {name: environ.get(name) or environ.get(name.lower()) or "" for name in PROXY_VARIABLES}
    return {name: value for name, value in {**common, **pip, **uv}.items() if value}


# ------------------------------------------------------------------------------------------------- pip


def pip_config_files(environ: Mapping[str, str]) -> list[Path]:
    """The files that pip would read here, the weakest first."""
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        shared = [Path("/Library/Application Support/pip/pip.conf")]
        user = home / "Library" / "Application Support" / "pip"
        user = user if user.is_dir() else home / ".config" / "pip"
    else:
        shared = [Path(folder) / "pip" / "pip.conf" for folder in _xdg_folders(environ)]
        shared.append(Path("/etc/pip.conf"))
        user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    users = [home / ".pip" / "pip.conf", user / "pip.conf"]
    if own and Path(own).exists():
        users = []
    return [*shared, *users, Path(sys.prefix) / "pip.conf", *([Path(own)] if own else [])]


def _pip_settings(environ: Mapping[str, str], config_files: Iterable[Path], problems: list[str]) -> dict[str, str]:
    """By pip's long names: the environment first, then `[install]` of all files, then `[global]`."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in config_files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0]
            problems.append(f"pip's configuration `{file}` can't be read: {why}")
            continue
        for section, found in sections.items():
            if parser.has_section(section):
                found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return {**sections["global"], **sections["install"], **variables}


def _from_pip(settings: Mapping[str, str]) -> _Said:
    extra = settings.get("extra-index-url", "").split()
    default = settings.get("index-url", "").split()
    proxy = settings.get("proxy", "")
    return _Said(
        indexes=[*(Index(url) for url in extra), *(Index(url, default=True) for url in default[:1])],
        find_links=settings.get("find-links", "").split(),
        no_index=settings.get("no-index", "").lower() in _TRUE,
        # pip takes the best version of all indexes, uv by default that of the first one that knows the name.
        strategy=BEST_MATCH if extra else "",
        insecure_hosts=settings.get("trusted-host", "").split(),
        proxies={"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy} if proxy else {},
    )


# ------------------------------------------------------------------------------------------------- uv


def uv_config_files(environ: Mapping[str, str], working: Path) -> list[Path]:
    """The files that uv would read in the folder `working`, the strongest first."""
    if environ.get("UV_CONFIG_FILE"):
        return [Path(environ["UV_CONFIG_FILE"])]
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv" / UV_FILE
    shared = [*(Path(folder) / "uv" / UV_FILE for folder in _xdg_folders(environ)), Path("/etc/uv") / UV_FILE]
    project = working.absolute()
    return [
        *next((file for folder in (project, *project.parents) if (file := _project_file(folder))), []),
        user,
        *[file for file in shared if file.is_file()][:1],
    ]


def _project_file(folder: Path) -> list[Path]:
    """The one that counts in this folder: uv.toml, or a pyproject.toml that speaks of uv."""
    if (folder / UV_FILE).is_file():
        return [folder / UV_FILE]
    try:
        found = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # uv warns, and looks further up
    tools = found.get("tool")
    return [folder / "pyproject.toml"] if isinstance(tools, dict) and "uv" in tools else []


def _from_uv(environ: Mapping[str, str], config_files: Iterable[Path], problems: list[str]) -> _Said:
    """Variables before files, and lists of both one after the other."""
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

    asked = [
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
    return _Said(
        indexes=[_with_variables(each, environ) for each in _one_default(asked)],
        find_links=[
            *filter(None, environ.get("UV_FIND_LINKS", "").split(",")),
            *all_of("find-links"),
            *(url for table in tables for url in _flat_indexes(table, environ)),
        ],
        no_index=first("no-index") is True,
        strategy=environ.get("UV_INDEX_STRATEGY") or first("index-strategy") or _strategy(tables),
        insecure_hosts=[*environ.get("UV_INSECURE_HOST", "").split(), *all_of("allow-insecure-host")],
        proxies={name: value for name, value in proxies.items() if value},
        system_certificates=certificates.lower() in _TRUE or first("system-certs", "native-tls") is True,
    )


def _uv_tables(file: Path, environ: Mapping[str, str], problems: list[str]) -> Iterator[dict[str, Any]]:
    """The tables of a file: `pip`, which is what `uv pip` reads first, and the one it is in."""
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if environ.get("UV_CONFIG_FILE"):
            problems.append(
                f"uv's configuration `{file}`, which `UV_CONFIG_FILE` names, can't be read: {error.strerror}"
            )
        return
    except (OSError, ValueError) as error:
        problems.append(f"uv's configuration `{file}` can't be read: {str(error).partition(chr(10))[0]}")
        return
    if file.name == "pyproject.toml":
        table = table["tool"]["uv"]
    inner = table.pop("pip", {}) if isinstance(table, dict) else {}
    for name, each in (("pip", inner), ("uv", table)):
        wrong = _wrong(each)
        if wrong:
            problems.append(f"uv's configuration `{file}` can't be read: {wrong} in the table `{name}`")
        else:
            yield each


def _wrong(table: Any) -> str:
    """What of a table is not as uv wants it, of what is read here."""
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
    """In uv's order."""
    for each in table.get("index", []):
        if _is_flat(each):
            continue
        codes = tuple(each.get("ignore-error-codes", ()))
        yield Index(each["url"], each.get("name", ""), each.get("default") is True, codes)
    yield from (Index(url) for url in table.get("extra-index-url", []))
    if "index-url" in table:
        yield Index(table["index-url"], default=True)


def _flat_indexes(table: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What uv calls a flat index is one more place of find-links."""
    for each in filter(_is_flat, table.get("index", [])):
        yield _with_variables(Index(each["url"], each.get("name", "")), environ).url


def _is_flat(index: Mapping[str, Any]) -> bool:
    return index.get("format") == "flat"


def _strategy(tables: Iterable[Mapping[str, Any]]) -> str:
    """Where indexes are for the packages only that a project pins to them, a name that two know is no mistake."""
    return BEST_MATCH if any(each.get("explicit") for table in tables for each in table.get("index", [])) else ""


def _one_default(indexes: Iterable[Index]) -> Iterator[Index]:
    """The first of each name, and of those that are the default: the others are not asked."""
    names: set[str] = set()
    default = False
    for each in indexes:
        if (each.name and each.name in names) or (each.default and default):
            continue
        names.add(each.name)
        default |= each.default
        yield each


def _with_variables(index: Index, environ: Mapping[str, str]) -> Index:
    """With the credentials of the variables that are named after it, which uv prefers to those in the URL."""
    if not index.name:
        return index
    prefix = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', index.name.upper())}"
    user, password = environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")
    return replace(index, url=with_credentials(index.url, user, password)) if user or password else index


# ------------------------------------------------------------------------------------------------- credentials, trust


class _Netrc:
    """The entries of the user's netrc, read when an address without a password is met, and not before."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        home = Path(environ.get("HOME") or Path.home())
        own = environ.get("NETRC")
        self._files = [Path(own)] if own else [home / ".netrc", home / "_netrc"]
        self._problems = problems
        self._entries: netrc.netrc | None = None
        self._read = False

    def added_to(self, url: str) -> str:
        """The address, with the credentials of its host where it has no password."""
        parts = split_address(url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        entry = None if password or not parts.hostname else self._entry(parts.hostname)
        if not entry or (user and entry[0] != unquote(user)):
            return url
        return with_credentials(url, entry[0], entry[2] or "")

    def _entry(self, host: str) -> tuple[str, str, str | None] | None:
        if not self._read:
            self._read = True
            file = next((file for file in self._files if file.is_file()), None)
            try:
                self._entries = netrc.netrc(str(file)) if file else None
            except (netrc.NetrcParseError, OSError, ValueError) as error:
                why = error.msg if isinstance(error, netrc.NetrcParseError) else error
                self._problems.append(f"the netrc file `{file}` can't be read: {why}")
        return self._entries.authenticators(host) if self._entries else None


def _authority(environ: Mapping[str, str], pip_cert: str, system: bool, problems: list[str]) -> bytes | None:
    """The bundle of the strongest setting that names one; the system's if uv is told to trust that."""
    named = [
        ("SSL_CERT_FILE", environ.get("SSL_CERT_FILE")),
        ("pip's setting `cert`", pip_cert),
        ("REQUESTS_CA_BUNDLE", environ.get("REQUESTS_CA_BUNDLE")),
        ("CURL_CA_BUNDLE", environ.get("CURL_CA_BUNDLE")),
        ("SSL_CERT_DIR", environ.get("SSL_CERT_DIR")),
    ]
    if system:
        usual = ssl.get_default_verify_paths()
        named.append(("the system's store", usual.cafile or usual.capath))
    who, place = next(((who, place) for who, place in named if place), ("", ""))
    if not place:
        return None
    where = f"the certificate authority `{place}` of {who if ' ' in who else f'`{who}`'}"
    try:
        return _bundle([Path(each) for each in (place.split(os.pathsep) if who == "SSL_CERT_DIR" else [place])])
    except OSError as error:
        problems.append(f"{where} can't be read: {error.strerror}")
    except ValueError:
        problems.append(f"{where} holds no certificate in PEM")
    return None


def _bundle(places: Iterable[Path]) -> bytes:
    """The certificates in these files, and in the files of these folders; each once, and nothing else."""
    found: dict[bytes, None] = {}
    for place in places:
        if place.is_dir():
            contents = [
                file.read_bytes() for file in sorted(place.iterdir()) if file.is_file() and os.access(file, os.R_OK)
            ]
        else:
            contents = [place.read_bytes()]
        for content in contents:
            found |= dict.fromkeys(match.group().replace(b"\r\n", b"\n") for match in _CERTIFICATE.finditer(content))
    if not found:
        raise ValueError
    return b"\n".join([*found, b""])


def _xdg_folders(environ: Mapping[str, str]) -> list[str]:
    return [each for each in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep) if each]


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))
