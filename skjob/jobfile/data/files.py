"""Find data files on this machine or at any fsspec address, by name, by pattern or by folder.

Addresses are listed here, never opened. If one cannot be found or listed, the ConfigError names it and, if known, what
is missing: a package, a permission, credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.errors import ConfigError, in_a_line
from skjob.utils.paths import expand_user

PARQUET = (".parquet",)
CSV = (".csv", ".csv.gz")
SUFFIXES = (*CSV, *PARQUET)

_REMOTE = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(::|://)")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class File:
    """One file: the URL by which fsspec opens it on any machine, and its size in bytes.

    `state` identifies its content without reading it: an ETag or the time of the last change.
    """

    url: str
    size: int
    state: str

    @property
    def parquet(self) -> bool:
        """Whether the file is Parquet; otherwise it is CSV."""
        return self.url.endswith(PARQUET)

    @property
    def remote(self) -> bool:
        """Whether the file is not on this machine."""
        return is_remote(self.url)


def is_remote(address: str) -> bool:
    """Return whether an address names a protocol, `s3://…`, other than that of this machine's files."""
    matches = _REMOTE.match(address)
    return matches is not None and matches[1] not in ("file", "local")


def has_pattern(address: str) -> bool:
    """Return whether an address is a pattern for files whose names match."""
    return _PATTERN.search(address) is not None


def protocol(address: str) -> str:
    """Return the protocol of an address: `s3` of `s3://…`, `file` if none is named."""
    matches = _REMOTE.match(address)
    return matches[1] if matches else "file"


def files_of(addresses: Iterable[str], folder: Path) -> tuple[File, ...]:
    """Return the files at the addresses, in the given order, sorted by name within each; a folder's Parquet files.

    Paths of this machine are relative to `folder`.

    Raises:
        ConfigError: addresses have no files, or cannot be listed; all of them.
    """
    files: list[File] = []
    problems: list[str] = []
    for address in addresses:
        try:
            files += _files(address, folder)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError.collect(problems)
    kinds = {file.parquet for file in files}
    if len(kinds) > 1:
        raise ConfigError(
            f"`{files[0].url}` and the others are a mix of CSV and Parquet: a table's files must have the same format"
        )
    return tuple({file.url: file for file in files}.values())


def _files(address: str, folder: Path) -> list[File]:
    import fsspec

    url = address if is_remote(address) else str(folder / expand_user(address.removeprefix("file://")))
    try:
        system, path = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"`{address}` cannot be read: {in_a_line(error)}") from error
    try:
        if has_pattern(path):
            matches = system.glob(path, detail=True)
        elif (info := system.info(path))["type"] == "directory":
            matches = system.find(path, detail=True)
        else:
            matches = {info["name"]: info}
    except FileNotFoundError:
        raise ConfigError(f"`{address}` does not exist") from None
    except Exception as error:
        raise ConfigError(f"`{address}` cannot be listed: {in_a_line(error)}") from error
    # The part before a wildcard is named by the user, and may begin with `_` or `.`.
    wildcard = _PATTERN.search(path)
    base = path[: wildcard.start()].rpartition("/")[0] if wildcard else path
    files = [
        File(system.unstrip_protocol(name) if is_remote(address) else name, int(info["size"] or 0), _state(info))
        for name, info in sorted(matches.items())
        if info["type"] == "file" and name.endswith(SUFFIXES) and not _is_hidden(name.removeprefix(base))
    ]
    if not files:
        kinds = ", ".join(f"`{suffix}`" for suffix in SUFFIXES)
        raise ConfigError(f"`{address}` has no file whose name ends with one of {kinds}")
    return files


def _is_hidden(below: str) -> bool:
    """Return whether a file is a by-product of the program that wrote the data: `_SUCCESS`, `_temporary/…`, `.part`."""
    return any(part.startswith(("_", ".")) for part in below.split("/"))


def _state(info: dict[str, Any]) -> str:
    known = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"))
    return str(next((value for value in known if value), ""))
