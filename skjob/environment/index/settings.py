"""Where this machine installs packages from: one value for both ends, here to check and in pods to install.

Found by `skjob.environment.index.discovery`; travels in a Secret, as files. Credentials of whatever origin are part of
the URLs, and `redact` knows them all.

Pods import this file from an archive, before anything is installed: the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

SETTINGS_FILE = "index.json"
UV_FILE = "uv.toml"
AUTHORITY_FILE = "authority.pem"

_TOKEN = 16
"""The least length of a token; what is shorter is a user's name."""

PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Index:
    """One package index. `name` is uv's, empty where it has none; uv asks the default one last.

    `ignored` are HTTP statuses that mean "not here" on this index, for uv.
    """

    url: str
    name: str = ""
    default: bool = False
    ignored: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Index({shown(self.url)!r}, {self.name!r}, default={self.default}, ignored={self.ignored})"


@dataclass(frozen=True)
class IndexSettings:
    """Everything that decides where packages come from. The default value says nothing: the tools' own defaults.

    `indexes` are in the order in which uv asks them. `find_links` are addresses of pages. `no_index`: only those.
    `strategy` is uv's index strategy, empty for its default. `proxies` are by the upper-case name of their variable.
    `authority` is a bundle in PEM. `left_out` are folders and files of this machine that were named as indexes, and
    that pods can't reach.
    """

    indexes: tuple[Index, ...] = ()
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    strategy: str = ""
    insecure_hosts: tuple[str, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: bytes | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()

    def files(self) -> dict[str, bytes]:
        """The content of the Secret; nothing where there is nothing to say."""
        said = {name: value for name, value in asdict(self).items() if value and name not in ("authority", "left_out")}
        files = {}
        if said:
            files[SETTINGS_FILE] = json.dumps(said, sort_keys=True).encode()
        if uv := self._uv_file():
            files[UV_FILE] = uv.encode()
        if self.authority:
            files[AUTHORITY_FILE] = self.authority
        return files

    @classmethod
    def from_files(cls, folder: Path) -> IndexSettings:
        """What `files` wrote, from the folder where a Secret is mounted. An absent folder says nothing."""
        settings, authority = folder / SETTINGS_FILE, folder / AUTHORITY_FILE
        said: dict[str, Any] = json.loads(settings.read_bytes()) if settings.is_file() else {}
        return cls(
            indexes=tuple(Index(**{**each, "ignored": tuple(each["ignored"])}) for each in said.get("indexes", ())),
            find_links=tuple(said.get("find_links", ())),
            no_index=said.get("no_index", False),
            strategy=said.get("strategy", ""),
            insecure_hosts=tuple(said.get("insecure_hosts", ())),
            proxies=said.get("proxies", {}),
            authority=authority.read_bytes() if authority.is_file() else None,
        )

    def uv_variables(self, folder: Path) -> dict[str, str]:
        """The environment variables that make uv install as here, where `files` are in `folder`.

        A configuration file says the most of it, as there are no variables for all of it. What uv's own variables
        say comes before that file; `unconfigured` removes them.
        """
        files = self.files()
        return {
            **self.proxies,
            **({"UV_CONFIG_FILE": str(folder / UV_FILE)} if UV_FILE in files else {}),
            **({"SSL_CERT_FILE": str(folder / AUTHORITY_FILE)} if self.authority else {}),
        }

    def pip_variables(self, folder: Path) -> dict[str, str]:
        """The same for pip."""
        default = [each.url for each in self.indexes if each.default]
        extra = [each.url for each in self.indexes if not each.default]
        # pip asks no plain HTTP index that it is not told to trust; uv does.
        plain = [host(url) for url in (*default, *extra, *self.find_links) if url.startswith("http://")]
        said = {
            "PIP_INDEX_URL": default,
            "PIP_EXTRA_INDEX_URL": extra,
            "PIP_FIND_LINKS": self.find_links,
            "PIP_TRUSTED_HOST": dict.fromkeys([*self.insecure_hosts, *plain]),
            "PIP_NO_INDEX": ["1"] if self.no_index else [],
            "PIP_CERT": [str(folder / AUTHORITY_FILE)] if self.authority else [],
        }
        return {**self.proxies, **{name: " ".join(values) for name, values in said.items() if values}}

    def secrets(self) -> set[str]:
        """The strings that must never be printed: passwords, tokens, in each form in which they may appear."""
        found = set()
        for url in (*(each.url for each in self.indexes), *self.find_links, *self.proxies.values()):
            parts = split_address(url)
            user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
            # A token may stand in the place of the user, with nothing or a constant word for its password.
            token = user if len(user) >= _TOKEN or (colon and not password) else ""
            for secret in (password, token, parts.query):
                found |= {secret, unquote(secret), quote(unquote(secret), safe="")}
        return found - {""}

    def redact(self, text: str) -> str:
        """The text without them."""
        for secret in sorted(self.secrets(), key=len, reverse=True):
            text = text.replace(secret, "****")
        return text

    def notes(self) -> list[str]:
        """What of this machine's configuration does not hold in pods, one line each."""
        return [f"`{self.redact(each)}` is on this machine only: pods don't install from it" for each in self.left_out]

    def _uv_file(self) -> str:
        # A JSON string is a string of TOML too.
        lines = []
        if self.no_index:
            lines.append("no-index = true")
        if self.strategy:
            lines.append(f"index-strategy = {json.dumps(self.strategy)}")
        if self.find_links:
            lines.append(f"find-links = {json.dumps(self.find_links)}")
        if self.insecure_hosts:
            lines.append(f"allow-insecure-host = {json.dumps(self.insecure_hosts)}")
        for each in self.indexes:
            lines += ["[[index]]", f"url = {json.dumps(each.url)}"]
            if each.name:
                lines.append(f"name = {json.dumps(each.name)}")
            if each.default:
                lines.append("default = true")
            if each.ignored:
                lines.append(f"ignore-error-codes = {json.dumps(each.ignored)}")
        return "\n".join([*lines, ""]) if lines else ""


def shown(url: str) -> str:
    """An address without credentials."""
    parts = split_address(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def unconfigured(environ: Mapping[str, str]) -> dict[str, str]:
    """These variables without those that tell uv or pip where to install from: what a value of ours replaces."""
    ours = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"}
    kept = {"UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"}
    return {
        name: value
        for name, value in environ.items()
        if name in kept or not (name.startswith(("UV_", "PIP_")) or name in ours or name.upper() in PROXY_VARIABLES)
    }


def split_address(url: str) -> SplitResult:
    """Of a URL, or of a host and port alone; all parts are empty where it is neither."""
    try:
        return urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return urlsplit("")


def host(url: str) -> str:
    """Its host, and its port if it names one."""
    return split_address(url).netloc.rpartition("@")[2]


def with_credentials(url: str, user: str, password: str) -> str:
    """The address with these in the place of those it has."""
    parts = split_address(url)
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{who}@{host(url)}"))
