"""Store the results of finished fits by their identity, in a folder or at any fsspec address.

An entry is `<address>/<digest of the data>/<digest of the fit>.json`. Each is one atomic write, so several clients may
write at once: they write the same. Writes are not synced to the disk one by one: a power cut may damage the last
entries. An entry is used only with the right checksum, identity and types; any other is a miss, and reported in
`problems`. Entries are plain JSON, floats in their shortest exact form.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from skjob.engine.checkpoint.fit_key import KEY_VERSION, FitIdentity
from skjob.engine.checkpoint.serialization import NotSerializable, from_plain, to_plain
from skjob.errors import ConfigError
from skjob.utils.paths import expand_user

FORMAT = 1
ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"})
"""Protocols of stores in which an object appears completely or not at all."""

UNFINISHED_TTL = 3600.0
"""Age in seconds from which an unfinished file is a leftover of a killed client."""

_INSTALL = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


FilesRead = tuple[tuple[str, int, int], ...]
"""Files and folders, each with its size and the time of its last change in nanoseconds."""


@dataclass(frozen=True)
class StoredFit:
    """A finished fit: its result as the fit returned it, the run that did it, and the seconds it took.

    `files` are those that it read.
    """

    result: Any
    run: str
    seconds: float
    files: FilesRead = ()


def _is_not_the_stores(record: logging.LogRecord) -> bool:
    """Return whether a record is not of a file of a store: a program that logs everything must not see those."""
    return not getattr(_at_work, "store", False)


_at_work = threading.local()
logging.getLogger("fsspec.local").addFilter(_is_not_the_stores)


class DamagedEntry(ValueError):
    """An entry that is not what was written; the message says why."""


class UnknownFormat(ValueError):
    """An entry in the format of another version of skjob."""


class FitStore:
    """Finished fits at one address. Thread-safe.

    Parameters
    ----------
    address : str
        A folder, or any address that fsspec knows: `s3://bucket/fits`.
    run : str
        The id of this run, written into its entries.

    Raises
    ------
    ConfigError
        There is no such kind of address, or it cannot be written to.
    """

    def __init__(self, address: str, run: str) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._problems: dict[str, None] = {}
        self._damaged = 0
        self._backend = StoreBackend(address)
        self.remote = self._backend.remote

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems so far, each once: the path of each damaged entry, and why reading or writing fails."""
        with self._lock:
            return tuple(self._problems)

    @property
    def damaged(self) -> int:
        """How many damaged entries were found."""
        with self._lock:
            return self._damaged

    def find(self, identity: FitIdentity) -> StoredFit | None:
        """Return the finished fit with this identity; None if there is no valid one. Never raises."""
        name = f"{identity.fit}.json"
        try:
            content = self._backend.read(identity.data, name)
        except Exception as error:
            self._note_problem("cannot read stored fits", error)
            return None
        if content is None:
            return None
        try:
            return decode(content, identity)
        except UnknownFormat:
            return None
        except DamagedEntry as error:
            with self._lock:
                self._damaged += 1
                self._problems[f"`{self._backend.path(identity.data, name)}` is damaged: {error}"] = None
            return None

    def save(
        self,
        identity: FitIdentity,
        result: Any,
        seconds: float,
        versions: Mapping[str, str],
        files: FilesRead = (),
    ) -> bool:
        """Store a finished fit. Return whether it is stored. Never raises.

        Failed fits are not stored, nor results that are not plain data. `seconds` is what the fit took on its worker,
        `files` what it read there.
        """
        if isinstance(result, dict) and result.get("fit_error") is not None:
            return False
        try:
            content = encode(identity, result, self.run, seconds, versions, files)
        except NotSerializable:
            return False
        try:
            self._backend.write(identity.data, f"{identity.fit}.json", content)
        except Exception as error:
            self._note_problem("cannot store finished fits", error)
            return False
        return True

    def has_older(self) -> bool:
        """Return whether it holds fits that an earlier release stored under other keys. True only the first time."""
        try:
            return self._backend.mark(f".keys-{KEY_VERSION}")
        except Exception:  # it only decides whether a line is reported
            return False

    def _note_problem(self, what: str, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        with self._lock:
            self._problems[f"{what}: {reason}"] = None


def encode(
    identity: FitIdentity,
    result: Any,
    run: str,
    seconds: float,
    versions: Mapping[str, str],
    files: FilesRead = (),
) -> bytes:
    """Return an entry as bytes. Raises `NotSerializable` if the result is not plain data."""
    entry = {
        "data": identity.data,
        "fit": identity.fit,
        "seeded": identity.seeded,
        "kept": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
        "seconds": float(seconds),
        "versions": dict(versions),
        "result": to_plain(result),
    }
    if files:  # other entries are as earlier releases write them
        entry["files"] = files
    return json.dumps({"format": FORMAT, "sha256": _checksum(entry), "entry": entry}).encode()


def decode(content: bytes, identity: FitIdentity) -> StoredFit:
    """Return the fit in an entry, if it is the one with this identity.

    Raises
    ------
    UnknownFormat
        The entry was written by another version of skjob.
    DamagedEntry
        The entry is not what was written, or belongs to another fit.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedEntry("it is not JSON") from error
    if type(document) is not dict or type(document.get("format")) is not int:
        raise DamagedEntry("it is not an entry of skjob")
    if document["format"] != FORMAT:
        raise UnknownFormat
    entry = document.get("entry")
    if type(entry) is not dict or _checksum(entry) != document.get("sha256"):
        raise DamagedEntry("its checksum is wrong")
    if (entry.get("data"), entry.get("fit")) != (identity.data, identity.fit):
        raise DamagedEntry("it belongs to another fit")
    run, seconds = entry.get("run"), entry.get("seconds")
    if type(run) is not str or type(seconds) is not float:
        raise DamagedEntry("it is not of the expected form")
    try:
        files = tuple((str(path), int(size), int(changed)) for path, size, changed in entry.get("files", ()))
    except (TypeError, ValueError) as error:
        raise DamagedEntry("it is not of the expected form") from error
    try:
        return StoredFit(from_plain(entry.get("result")), run, seconds, files)
    except NotSerializable as error:
        raise DamagedEntry(str(error)) from error


def _checksum(entry: Any) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class StoreBackend:
    """Read and write the files of a store: a folder of this machine, or any address that fsspec knows. Thread-safe.

    A file appears as a whole or not at all: unless an object store guarantees that by itself, it is written beside its
    place and moved there. A folder is read file by file, so that fits of other clients are found as they finish. At
    remote addresses a group is listed and read once, and answered from memory afterwards.

    `read` and `write` raise OSError, and whatever else the filesystem raises.

    Parameters
    ----------
    address : str
        Where the files are.

    Raises
    ------
    ConfigError
        There is no such kind of address, or it cannot be written to.
    """

    def __init__(self, address: str) -> None:
        self._files, self._root, self.remote = _filesystem(address)
        self._address = address.rstrip("/") if self.remote else self._root
        self._in_place = self.remote and address.partition("://")[0] in ATOMIC
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, bytes]] = {}
        self._made: set[str] = set()
        try:
            self._files.makedirs(self._root, exist_ok=True)
            if not self.remote and not self._files.exists(ignore := f"{self._root}/.gitignore"):
                self._files.pipe_file(ignore, b"*\n")
            probe = self._unfinished(self._root)
            self._files.pipe_file(probe, b"skjob")
            self._files.rm_file(probe)
        except Exception as error:
            raise _not_writable(address, error) from error

    def read(self, group: str, name: str) -> bytes | None:
        """Return the content; None if there is no such entry."""
        if not self.remote:
            try:
                with _quietly():
                    return bytes(self._files.cat_file(f"{self._root}/{group}/{name}"))
            except FileNotFoundError:
                return None
        with self._lock:
            if group not in self._groups:
                self._groups[group] = {}  # a group that cannot be read is requested once
                self._groups[group] = self._read_group(group)
            return self._groups[group].get(name)

    def _read_group(self, group: str) -> dict[str, bytes]:
        try:
            listed = self._files.ls(f"{self._root}/{group}", detail=False)
        except FileNotFoundError:
            return {}
        paths = [path for path in listed if str(path).endswith(".json")]
        contents = self._files.cat(paths, on_error="omit") if paths else {}
        return {str(path).rpartition("/")[2]: content for path, content in contents.items()}

    def write(self, group: str, name: str, content: bytes) -> None:
        """Write all of the content at once, replacing what is there."""
        folder = f"{self._root}/{group}"
        if self._in_place:
            self._files.pipe_file(f"{folder}/{name}", content)
        else:
            self._prepare(group, folder)
            unfinished = self._unfinished(folder)
            try:
                with _quietly():
                    self._files.pipe_file(unfinished, content)
                # fsspec's `mv` copies a local file if the rename fails, and readers would find half of it.
                (self._files.mv if self.remote else os.replace)(unfinished, f"{folder}/{name}")
            except BaseException:
                with suppress(Exception):
                    self._files.rm_file(unfinished)
                raise
        if self.remote:
            with self._lock:
                self._groups.get(group, {})[name] = content

    def _prepare(self, group: str, folder: str) -> None:
        if group in self._made:
            return
        self._files.makedirs(folder, exist_ok=True)
        if not self.remote:
            self._remove_unfinished(folder)
        self._made.add(group)

    def _remove_unfinished(self, folder: str) -> None:
        """Remove what killed clients have left unfinished."""
        before = time.time() - UNFINISHED_TTL
        for file in self._files.ls(folder, detail=False):
            if file.rpartition("/")[2].startswith(".") and file.endswith(".tmp"):
                with suppress(OSError):
                    if self._files.modified(file).timestamp() < before:
                        self._files.rm_file(file)

    def path(self, group: str, name: str) -> str:
        """Return how a message names the entry."""
        return f"{self._address}/{group}/{name}"

    def mark(self, name: str) -> bool:
        """Leave a file of this name. Return whether it was not there and there are entries."""
        marker = f"{self._root}/{name}"
        if self._files.exists(marker):
            return False
        has_entries = any(each["type"] == "directory" for each in self._files.ls(self._root, detail=True))
        with _quietly():
            self._files.pipe_file(marker, b"skjob")
        return has_entries

    @staticmethod
    def _unfinished(folder: str) -> str:
        return f"{folder}/.{uuid4().hex}.tmp"


@contextmanager
def _quietly() -> Iterator[None]:
    _at_work.store = True
    try:
        yield
    finally:
        _at_work.store = False


def _filesystem(address: str) -> tuple[Any, str, bool]:
    """Return fsspec's filesystem of an address, the path in it, and whether it is elsewhere than on this machine."""
    import fsspec  # type: ignore[import-untyped, unused-ignore]

    if address.startswith(("file://", "local://")) or not ("://" in address or "::" in address):
        folder = expand_user(address.partition("://")[2] or address).absolute()
        return fsspec.filesystem("file"), str(folder), False
    protocol = address.partition("://")[0].rpartition("::")[2]
    try:
        files, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = _INSTALL.get(protocol)
        raise ConfigError(
            f"`{address}` needs a package that is not installed: {error}",
            f"pip install {package}" if package else "install the fsspec package of this kind of storage",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"fsspec does not know the address `{address}`: {error}",
            "give a folder, or an address such as `s3://bucket/fits`",
        ) from error
    except Exception as error:  # some kinds connect at once
        raise _not_writable(address, error) from error
    return files, str(root).rstrip("/"), True


def _not_writable(address: str, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return ConfigError(
        f"cannot store finished fits in `{address}`: {reason}",
        "choose a location that you can write to",
    )
