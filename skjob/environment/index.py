"""Where this machine installs packages from, for pods that install the same: index, certificate authority, proxy.

As pip reads it: environment variables first, then its configuration files. Addresses may hold credentials, so all of it
travels in the run's Secret, as a `pip.conf` and the certificates it names.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skjob.errors import ConfigError

CONFIG_FILE = "pip.conf"
AUTHORITY_FILE = "authority.pem"

_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy")
_CERT_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def pip_files(environ: Mapping[str, str], config_files: Sequence[Path], mounted_at: str) -> dict[str, bytes]:
    """The files that make pip in a pod, where they are mounted, install as it does here; none where it needs none.

    Raises:
        ConfigError: a file of pip's, or a certificate authority that is named, can't be read.
    """
    found = _from_files(config_files)
    for name in _SETTINGS:
        value = environ.get(f"PIP_{name.replace('-', '_').upper()}")
        if value:
            found[name] = value
    found.setdefault("proxy", environ.get("HTTPS_PROXY") or environ.get("https_proxy") or "")
    authority = next((environ[name] for name in _CERT_VARIABLES if environ.get(name)), found.pop("cert", ""))
    files = {}
    if authority:
        files[AUTHORITY_FILE] = _read(authority)
        found["cert"] = f"{mounted_at}/{AUTHORITY_FILE}"
    lines = [f"{name} = {' '.join(value.split())}" for name, value in sorted(found.items()) if value]
    if lines:
        files[CONFIG_FILE] = "\n".join(["[global]", *lines, ""]).encode()
    return files


def pip_config_files() -> list[Path]:
    """The files that pip would read here, the weakest first."""
    own = os.environ.get("PIP_CONFIG_FILE")
    home = Path.home()
    files = [
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        home / ".config" / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    return files if own is None else [*files, Path(own)]


def _from_files(config_files: Sequence[Path]) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    for file in config_files:
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0]
            raise ConfigError(
                f"pip's configuration `{file}` can't be read: {why}", "mend the file; `pip config list` reads it too"
            ) from error
    found = {}
    for section in ("global", "install"):
        for name in (*_SETTINGS, "cert"):
            if parser.has_option(section, name):
                found[name] = parser.get(section, name)
    return found


def _read(authority: str) -> bytes:
    try:
        return Path(authority).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the certificate authority `{authority}`, which pip's settings name, can't be read: {error.strerror}",
            "correct the setting, or choose an image that has everything with `--image`",
        ) from error
