"""Hold the settings by which this machine installs packages: one value, to check here and to install from in pods.

`skjob.environment.index.discovery` makes it; it travels in a Secret, as files. Credentials of any origin are part of
the URLs, and `redact` knows them all.

Pods import this file from an archive, before anything is installed, so it imports the standard library only.
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

_MIN_TOKEN_LENGTH = 16
"""A shorter text in place of the user is a user name, not a token."""

PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Index:
    """One package index. `name` is uv's, empty if it has none; uv asks the default one last.

    `ignored` are HTTP statuses that mean "not here" on this index, for uv.
    """

    url: str
    name: str = ""
    default: bool = False
    ignored: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Index({public_address(self.url)!r}, {self.name!r}, default={self.default}, ignored={self.ignored})"


@dataclass(frozen=True)
class IndexSettings:
    """Everything that decides where packages come from. The default value stands for the tools' own defaults.

    `indexes` are in the order in which uv asks them. `find_links` are addresses of pages; with `no_index` they are the
    only places. `strategy` is uv's index strategy, empty for its default. `proxies` have the upper-case names of their
    variables. `authority` is a bundle in PEM. `left_out` are folders and files of this machine that are configured as
    indexes, but that pods cannot reach.
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
        """Return the files of the Secret; none for the default value."""
        stored = {
            name: value for name, value in asdict(self).items() if value and name not in ("authority", "left_out")
        }
        files = {}
        if stored:
            files[SETTINGS_FILE] = json.dumps(stored, sort_keys=True).encode()
        if uv := self._uv_file():
            files[UV_FILE] = uv.encode()
        if self.authority:
            files[AUTHORITY_FILE] = self.authority
        return files

    @classmethod
    def from_files(cls, folder: Path) -> IndexSettings:
        """Read what `files` wrote from the folder where a Secret is mounted. A missing folder means the default."""
        settings, authority = folder / SETTINGS_FILE, folder / AUTHORITY_FILE
        stored: dict[str, Any] = json.loads(settings.read_bytes()) if settings.is_file() else {}
        return cls(
            indexes=tuple(Index(**{**each, "ignored": tuple(each["ignored"])}) for each in stored.get("indexes", ())),
            find_links=tuple(stored.get("find_links", ())),
            no_index=stored.get("no_index", False),
            strategy=stored.get("strategy", ""),
            insecure_hosts=tuple(stored.get("insecure_hosts", ())),
            proxies=stored.get("proxies", {}),
            authority=authority.read_bytes() if authority.is_file() else None,
        )

    def uv_variables(self, folder: Path) -> dict[str, str]:
        """Return the environment variables that make uv install as here, with `files` in `folder`.

        A configuration file has most settings, as not all of them have variables. uv's own variables would override
        that file; `unconfigured` removes them.
        """
        files = self.files()
        return {
            **self.proxies,
            **({"UV_CONFIG_FILE": str(folder / UV_FILE)} if UV_FILE in files else {}),
            **({"SSL_CERT_FILE": str(folder / AUTHORITY_FILE)} if self.authority else {}),
        }

    def pip_variables(self, folder: Path) -> dict[str, str]:
        """Return the environment variables that make pip install as here, with `files` in `folder`."""
        default = [each.url for each in self.indexes if each.default]
        extra = [each.url for each in self.indexes if not each.default]
        # pip asks a plain HTTP index only if it is trusted; uv always does.
        plain = [host(url) for url in (*default, *extra, *self.find_links) if url.startswith("http://")]
        stored = {
            "PIP_INDEX_URL": default,
            "PIP_EXTRA_INDEX_URL": extra,
            "PIP_FIND_LINKS": self.find_links,
            "PIP_TRUSTED_HOST": dict.fromkeys([*self.insecure_hosts, *plain]),
            "PIP_NO_INDEX": ["1"] if self.no_index else [],
            "PIP_CERT": [str(folder / AUTHORITY_FILE)] if self.authority else [],
        }
        return {**self.proxies, **{name: " ".join(values) for name, values in stored.items() if values}}

    def secrets(self) -> set[str]:
        """Return the strings that must never be printed: passwords and tokens, in each form that may appear."""
        secrets = set()
        for url in (*(each.url for each in self.indexes), *self.find_links, *self.proxies.values()):
            parts = split_address(url)
            user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
            # A token may stand in the place of the user, with no password or a constant word.
            token = user if len(user) >= _MIN_TOKEN_LENGTH or (colon and not password) else ""
            for secret in (password, token, parts.query):
                secrets |= {secret, unquote(secret), quote(unquote(secret), safe="")}
        return secrets - {""}

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in sorted(self.secrets(), key=len, reverse=True):
            text = text.replace(secret, "****")
        return text

    def notes(self) -> list[str]:
        """Return a line for each part of this machine's configuration that does not apply in pods."""
        return [f"`{self.redact(each)}` is on this machine only: pods cannot install from it" for each in self.left_out]

    def _uv_file(self) -> str:
        # A JSON string is also a TOML string.
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


def public_address(url: str) -> str:
    """Return an address without credentials."""
    parts = split_address(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def unconfigured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those by which uv or pip choose where to install from."""
    replaced = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"}
    passed_on = {"UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"}
    return {
        name: value
        for name, value in environ.items()
        if name in passed_on
        or not (name.startswith(("UV_", "PIP_")) or name in replaced or name.upper() in PROXY_VARIABLES)
    }


def split_address(url: str) -> SplitResult:
    """Split a URL, or a host and port alone; all parts are empty if it is neither."""
    try:
        return urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return urlsplit("")


def host(url: str) -> str:
    """Return the host of an address, and its port if it has one."""
    return split_address(url).netloc.rpartition("@")[2]


def with_credentials(url: str, user: str, password: str) -> str:
    """Return the address with these credentials instead of its own."""
    parts = split_address(url)
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{who}@{host(url)}"))
