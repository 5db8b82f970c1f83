"""Unpack distributions when they are first imported, from the pod that serves them.

An environment of 86 distributions is half a gigabyte, of which one program imports a tenth; a worker that unpacked all
of it would start many seconds later than one whose image contains it. So a pod starts with the metadata of all
distributions, and gets each of them, with those that it requires, when it is imported. Python looks for modules with
the finders in `sys.meta_path`; the one here finds nothing itself, but makes sure that the next one will.

Processes of one pod share the folder; a lock keeps them from using half-unpacked distributions.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import http.client
import json
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec
from pathlib import Path
from types import ModuleType

from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE

METADATA_ARCHIVE = "_metadata"
"""The archive that every pod needs from the start. No distribution has its name: normalized names contain no `_`."""

INDEX_FILE = ".skjob-index.json"
UNPACKED_FOLDER = ".skjob-unpacked"
LOCK_FILE = ".skjob-lock"
SITECUSTOMIZE_FILE = "sitecustomize.py"

SERVER_TIMEOUT = 120.0
"""Seconds for which the server can be unreachable."""

RETRY_AFTER = 30.0
"""Seconds after a failure in which imports fail at once: otherwise each import of a program would wait again."""

_RESPONSE_TIMEOUT = 30.0
_RETRY_INTERVAL = 0.5
_LOCK_POLL_INTERVAL = 0.02


class ServerUnreachable(Exception):
    """The server does not deliver; the message says where and why, and `transient` whether a retry can help."""

    def __init__(self, message: str, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True)
class PackageServer:
    """The server of an environment: `address` is host and port, `tls` the folder of the certificates to present.

    `timeout` is how many seconds it can be unreachable: Kubernetes starts another one.
    """

    address: str
    tls: Path
    timeout: float = SERVER_TIMEOUT

    def unpack(self, name: str, folder: Path) -> None:
        """Unpack one archive into a folder. Raise ServerUnreachable, which says whether to retry."""
        context = ssl.create_default_context(cafile=str(self.tls / CA_FILE))
        context.load_cert_chain(self.tls / CERTIFICATE_FILE, self.tls / KEY_FILE)
        context.check_hostname = False  # this authority signed no other certificate
        # Never through a proxy: the server is in the same namespace.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with (
                opener.open(f"https://{self.address}/{name}", timeout=_RESPONSE_TIMEOUT) as response,
                gzip.GzipFile(fileobj=response) as content,
                tarfile.open(fileobj=content, mode="r|") as archive,
            ):
                archive.extractall(folder)  # noqa: S202 - made by the server, which alone has such a certificate
        except (OSError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
            transient = not isinstance(error, urllib.error.HTTPError) and getattr(error, "errno", None) != errno.ENOSPC
            raise ServerUnreachable(
                f"the environment at `{self.address}` is not available: {error}", transient
            ) from error


@dataclass(frozen=True)
class ArchiveIndex:
    """The distributions that hold each top-level module, and those that each distribution requires."""

    holders: dict[str, list[str]]
    requires: dict[str, list[str]]

    @classmethod
    def read(cls, site: Path) -> ArchiveIndex:
        """Read the index from a folder where the metadata was unpacked."""
        return cls(**json.loads((site / INDEX_FILE).read_text(encoding="utf-8")))

    def required_for(self, module: str) -> list[str]:
        """Return the distributions that the import of a top-level module needs, dependencies first."""
        required: dict[str, None] = {}
        pending = list(self.holders.get(module, ()))
        while pending:
            name = pending.pop()
            if name not in required:
                required[name] = None
                pending += self.requires.get(name, ())
        return list(reversed(required))


class UnpackOnImport(MetaPathFinder):
    """Finds nothing itself, but unpacks a module's distributions before the next finder looks."""

    def __init__(self, server: PackageServer, site: Path) -> None:
        self._server = server
        self._site = site
        self._index = ArchiveIndex.read(site)
        self._pending = set(self._index.holders)
        self._failed: tuple[float, ServerUnreachable] | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Unpack the distributions of a module that Python is about to import. Return None always.

        Raises:
            ImportError: they are not available.
        """
        top = fullname.partition(".")[0]
        if top in self._pending:
            try:
                for name in self._index.required_for(top):
                    self._unpack(name)
            except ServerUnreachable as error:
                raise ImportError(str(error), name=fullname) from error
            self._pending.discard(top)
            _invalidate_import_cache(self._site)
        return None

    def _unpack(self, name: str) -> None:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        try:
            unpack_once(self._server, name, self._site, self._site / UNPACKED_FOLDER / name)
        except ServerUnreachable as error:
            self._failed = (time.monotonic() + RETRY_AFTER, error)
            raise
        self._failed = None


def unpack_once(server: PackageServer, name: str, site: Path, mark: Path) -> None:
    """Unpack an archive unless a process of this pod has done so; `mark` is created when it is complete.

    Raises:
        ServerUnreachable: the archive is not available within the server's timeout.
    """
    deadline = time.monotonic() + server.timeout
    while not mark.exists():
        try:
            with _locked(site, deadline):
                if not mark.exists():
                    server.unpack(name, site)
                    mark.touch()
        except ServerUnreachable as error:
            if not error.transient or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_INTERVAL)


@contextmanager
def _locked(site: Path, deadline: float) -> Iterator[None]:
    """Let only one process, and one of its threads, at a time into the block."""
    with (site / LOCK_FILE).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ServerUnreachable(
                        "another process is unpacking, and does not finish", transient=False
                    ) from error
                time.sleep(_LOCK_POLL_INTERVAL)
        try:
            yield
        finally:
            # Closing is not enough: a process forked in the meantime has a copy, which would keep it locked.
            fcntl.flock(lock, fcntl.LOCK_UN)


def install_finder(server: PackageServer, site: Path) -> None:
    """Let this process import what the server has. Unpack at once what every pod needs.

    Raises:
        ServerUnreachable: that is not available.
    """
    (site / UNPACKED_FOLDER).mkdir(exist_ok=True)
    if not (site / SITECUSTOMIZE_FILE).exists():
        # Python runs this file as it starts, so that processes started by a task import as this one does.
        (site / SITECUSTOMIZE_FILE).write_text(
            "from pathlib import Path\n"
            "from skjob.environment.pod.lazy_import import PackageServer, install_finder\n"
            f"install_finder(PackageServer({server.address!r}, Path({str(server.tls)!r})), Path({str(site)!r}))\n",
            encoding="utf-8",
        )
    unpack_once(server, METADATA_ARCHIVE, site, site / UNPACKED_FOLDER / METADATA_ARCHIVE)
    if not any(isinstance(finder, UnpackOnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, UnpackOnImport(server, site))
    _invalidate_import_cache(site)


def _invalidate_import_cache(site: Path) -> None:
    """Make Python list the folder again."""
    finder = sys.path_importer_cache.get(str(site))
    if isinstance(finder, FileFinder):
        finder.invalidate_caches()
