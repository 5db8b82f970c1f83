"""Where data is: files on this machine or behind any address that fsspec knows, by name, by pattern or by folder.

An address is listed, never opened for its content here. What can't be found or listed is a ConfigError that names the
address, and says what is missing where that is known: a package, a permission, credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.errors import ConfigError, in_a_line
from skjob.utils.paths import expanded

PARQUET = (".parquet",)
CSV = (".csv", ".csv.gz")
SUFFIXES = (*CSV, *PARQUET)

_REMOTE = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(::|://)")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class File:
    """One file, as fsspec opens it on any machine that can reach it, and its size in bytes.

    `state` tells one content from another without reading it: an ETag or the time of the last change.
    """

    url: str
    size: int
    state: str

    @property
    def parquet(self) -> bool:
        """Whether it is Parquet; else it is CSV."""
        return self.url.endswith(PARQUET)

    @property
    def remote(self) -> bool:
        """Whether it is elsewhere than on this machine."""
        return is_remote(self.url)


def is_remote(address: str) -> bool:
    """Whether an address names its protocol, `s3://…`, and another one than this machine's files."""
    found = _REMOTE.match(address)
    return found is not None and found[1] not in ("file", "local")


def has_pattern(address: str) -> bool:
    """Whether it stands for all files whose names match."""
    return _PATTERN.search(address) is not None


def protocol(address: str) -> str:
    """`s3` of `s3://…`; `file` where none is named."""
    found = _REMOTE.match(address)
    return found[1] if found else "file"


def files_of(addresses: Iterable[str], folder: Path) -> tuple[File, ...]:
    """The files behind the addresses, in the order given and by name within each; a folder's are its Parquet files.

    Paths of this machine are relative to `folder`.

    Raises:
        ConfigError: with every address behind which there is nothing, or that can't be listed.
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
        raise ConfigError(f"`{files[0].url}` and the others are CSV and partly Parquet: a table is of one kind")
    return tuple({file.url: file for file in files}.values())


def _files(address: str, folder: Path) -> list[File]:
    import fsspec

    url = address if is_remote(address) else str(folder / expanded(address.removeprefix("file://")))
    try:
        system, path = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"`{address}` can't be read: {in_a_line(error)}") from error
    try:
        if has_pattern(path):
            found = system.glob(path, detail=True)
        elif (about := system.info(path))["type"] == "directory":
            found = system.find(path, detail=True)
        else:
            found = {about["name"]: about}
    except FileNotFoundError:
        raise ConfigError(f"`{address}` does not exist") from None
    except Exception as error:
        raise ConfigError(f"`{address}` can't be listed: {in_a_line(error)}") from error
    # What stands before a wildcard was named by the user, whatever it begins with.
    wildcard = _PATTERN.search(path)
    base = path[: wildcard.start()].rpartition("/")[0] if wildcard else path
    wanted = [
        File(system.unstrip_protocol(name) if is_remote(address) else name, int(about["size"] or 0), _state(about))
        for name, about in sorted(found.items())
        if about["type"] == "file" and name.endswith(SUFFIXES) and not _hidden(name.removeprefix(base))
    ]
    if not wanted:
        kinds = ", ".join(f"`{suffix}`" for suffix in SUFFIXES)
        raise ConfigError(f"`{address}` has no file whose name ends with one of {kinds}")
    return wanted


def _hidden(below: str) -> bool:
    """Whether some writer keeps its own notes there: `_SUCCESS`, `_temporary/…`, `.part`."""
    return any(part.startswith(("_", ".")) for part in below.split("/"))


def _state(about: dict[str, Any]) -> str:
    known = (about.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"))
    return str(next((value for value in known if value), ""))
