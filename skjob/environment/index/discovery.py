"""Find the settings by which uv and pip install packages on this machine, as one value.

Variables and files are read as the tools read them. If both tools are configured, uv's settings win, one by one: the
indexes (with find-links, no-index and the strategy) are one setting, and so are the hosts that need no valid
certificate, and each proxy. The certificate authority is the one that uv would trust, else pip's. Credentials of any
origin (URL, `UV_INDEX_…` variables, netrc) become part of the URLs. Keyrings, and what `uv auth` stores, are not read.
"""

from __future__ import annotations

import netrc
import os
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from skjob.environment.index.pip_config import from_pip, pip_config_files, pip_settings
from skjob.environment.index.settings import (
    PROXY_VARIABLES,
    Index,
    IndexSettings,
    public_address,
    split_address,
    with_credentials,
)
from skjob.environment.index.tool_settings import ToolSettings, is_address
from skjob.environment.index.uv_config import from_uv, uv_config_files
from skjob.errors import ConfigError

MAX_SETTINGS_BYTES = 900_000
"""Maximum size of all files together: a Secret holds one mebibyte."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def index_settings(
    environ: Mapping[str, str],
    working: Path,
    pip_files: Sequence[Path] | None = None,
    uv_files: Sequence[Path] | None = None,
) -> IndexSettings:
    """Return what uv and pip would use in the folder `working`.

    `pip_files`, weakest first, and `uv_files`, strongest first, are by default those that the tools would read.

    Raises:
        ConfigError: files cannot be read or understood, or are too large to send; all of them.
    """
    problems: list[str] = []
    settings = pip_settings(environ, pip_config_files(environ) if pip_files is None else pip_files, problems)
    pip = from_pip(settings)
    uv = from_uv(environ, uv_config_files(environ, working) if uv_files is None else uv_files, problems)
    preferred = uv if uv.locations() else pip
    authority = _authority(environ, settings.get("cert", ""), uv.system_certificates, problems)
    indexes, find_links, left_out = _reachable(preferred)
    problems += [
        f"`{public_address(url) or 'an index'}`, in the settings of uv or pip, is not an address"
        for url in (*(each.url for each in indexes), *find_links)
        if not _is_sound(url)
    ]
    credentials = _Netrc(environ, problems)
    result = IndexSettings(
        indexes=tuple(replace(each, url=credentials.add_to(each.url)) for each in indexes),
        find_links=tuple(credentials.add_to(url) for url in find_links),
        # A default index that pods cannot reach is not replaced by the public one.
        no_index=preferred.no_index or _default_is_left_out(preferred),
        strategy=preferred.strategy,
        insecure_hosts=tuple(dict.fromkeys(uv.insecure_hosts or pip.insecure_hosts)),
        proxies=_proxies(environ, uv.proxies, pip.proxies),
        authority=authority,
        left_out=tuple(left_out),
    )
    size = sum(map(len, result.files().values()))
    if size > MAX_SETTINGS_BYTES:
        problems.append(
            f"the settings of the package index take {size:,} bytes, but a Secret holds {MAX_SETTINGS_BYTES:,}; "
            "name a smaller certificate authority, with `SSL_CERT_FILE`"
        )
    if problems:
        raise ConfigError.collect(
            problems, "fix the settings of uv and pip; `--env none` uses the image as it is and needs none"
        )
    return result


def _reachable(settings_of_tool: ToolSettings) -> tuple[list[Index], list[str], list[str]]:
    """Return indexes and find-links that are addresses, and entries that are not."""
    indexes = [each for each in settings_of_tool.indexes if is_address(each.url)]
    # uv asks the default one last, wherever it stands.
    indexes.sort(key=lambda each: each.default)
    find_links = [each for each in settings_of_tool.find_links if is_address(each)]
    named = [*(each.url for each in settings_of_tool.indexes), *settings_of_tool.find_links]
    return indexes, find_links, [*dict.fromkeys(each for each in named if not is_address(each))]


def _is_sound(url: str) -> bool:
    """Return whether an address has a host, and a valid port if any."""
    parts = split_address(url)
    try:
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _default_is_left_out(settings_of_tool: ToolSettings) -> bool:
    return any(each.default and not is_address(each.url) for each in settings_of_tool.indexes)


def _proxies(environ: Mapping[str, str], uv: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies: uv's file or pip's own setting before the variables that all programs read."""
    common = {name: environ.get(name) or environ.get(name.lower()) or "" for name in PROXY_VARIABLES}
    return {name: value for name, value in {**common, **pip, **uv}.items() if value}


# ------------------------------------------------------------------------------------------------- credentials, trust


class _Netrc:
    """The entries of the user's netrc, read only if an address has no password."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        home = Path(environ.get("HOME") or Path.home())
        configured = environ.get("NETRC")
        self._files = [Path(configured)] if configured else [home / ".netrc", home / "_netrc"]
        self._problems = problems
        self._entries: netrc.netrc | None = None
        self._read = False

    def add_to(self, url: str) -> str:
        """Return the address, with the credentials of its host if it has no password."""
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
                self._problems.append(f"the netrc file `{file}` cannot be read: {why}")
        return self._entries.authenticators(host) if self._entries else None


def _authority(environ: Mapping[str, str], pip_cert: str, use_system: bool, problems: list[str]) -> bytes | None:
    """Return the bundle of the strongest setting that names one; the system's if uv is configured to trust it."""
    named = [
        ("SSL_CERT_FILE", environ.get("SSL_CERT_FILE")),
        ("pip's setting `cert`", pip_cert),
        ("REQUESTS_CA_BUNDLE", environ.get("REQUESTS_CA_BUNDLE")),
        ("CURL_CA_BUNDLE", environ.get("CURL_CA_BUNDLE")),
        ("SSL_CERT_DIR", environ.get("SSL_CERT_DIR")),
    ]
    if use_system:
        defaults = ssl.get_default_verify_paths()
        named.append(("the system's store", defaults.cafile or defaults.capath))
    setting, place = next(((setting, place) for setting, place in named if place), ("", ""))
    if not place:
        return None
    where = f"the certificate authority `{place}` of {setting if ' ' in setting else f'`{setting}`'}"
    try:
        return _bundle([Path(each) for each in (place.split(os.pathsep) if setting == "SSL_CERT_DIR" else [place])])
    except OSError as error:
        problems.append(f"{where} cannot be read: {error.strerror}")
    except ValueError:
        problems.append(f"{where} contains no certificate in PEM")
    return None


def _bundle(places: Iterable[Path]) -> bytes:
    """Return the certificates in these files, and in the files of these folders, each once."""
    result: dict[bytes, None] = {}
    for place in places:
        if place.is_dir():
            contents = [
                file.read_bytes() for file in sorted(place.iterdir()) if file.is_file() and os.access(file, os.R_OK)
            ]
        else:
            contents = [place.read_bytes()]
        for content in contents:
            result |= dict.fromkeys(match.group().replace(b"\r\n", b"\n") for match in _CERTIFICATE.finditer(content))
    if not result:
        raise ValueError
    return b"\n".join([*result, b""])
