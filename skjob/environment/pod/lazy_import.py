"""Distributions that are unpacked when they are first imported, from the pod that keeps them.

An environment of 86 distributions is half a gigabyte, of which one program imports a tenth; a worker that unpacked all
of it would start many seconds later than one of an image that has it. So a pod begins with the metadata of all, which
says what is there, and gets each distribution, with those that it requires, as an import asks for it. Python looks for
modules with the finders in `sys.meta_path`; the one here finds nothing itself, and sees that the next one will.

Processes of one pod share the folder: a lock keeps them from each other's half-done work.
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
"""The archive of what every pod needs from the start. No distribution is called so: normalized names have no `_`."""

INDEX_FILE = ".skjob-index.json"
UNPACKED_FOLDER = ".skjob-unpacked"
LOCK_FILE = ".skjob-lock"
CHILDREN_FILE = "sitecustomize.py"

PATIENCE = 120.0
FAILED_FOR = 30.0
"""Seconds for which what could not be had is not asked for again: each import of a program would wait anew."""

_ANSWER_TIMEOUT = 30.0
_PAUSE = 0.5
_LOOK_AGAIN = 0.02


class Unreachable(Exception):
    """What is kept can't be had; the message says where and why, and `passing` whether it may be had a little later."""

    def __init__(self, message: str, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class Keeper:
    """Where an environment is kept: `address` is host and port, `tls` the folder of the certificates to show.

    `patience` is for how many seconds it may be away: Kubernetes starts another.
    """

    address: str
    tls: Path
    patience: float = PATIENCE

    def unpack(self, name: str, folder: Path) -> None:
        """Unpack one archive into a folder. Raises Unreachable; whether to try again is in it."""
        context = ssl.create_default_context(cafile=str(self.tls / CA_FILE))
        context.load_cert_chain(self.tls / CERTIFICATE_FILE, self.tls / KEY_FILE)
        context.check_hostname = False  # whoever shows a certificate of this authority is the one: it signed no other
        # Never through a proxy: it is in the same namespace.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with (
                opener.open(f"https://{self.address}/{name}", timeout=_ANSWER_TIMEOUT) as answer,
                gzip.GzipFile(fileobj=answer) as content,
                tarfile.open(fileobj=content, mode="r|") as archive,
            ):
                archive.extractall(folder)  # noqa: S202 - made by the keeper, which alone has such a certificate
        except (OSError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
            passing = not isinstance(error, urllib.error.HTTPError) and getattr(error, "errno", None) != errno.ENOSPC
            raise Unreachable(f"the environment at `{self.address}` can't be had: {error}", passing) from error


@dataclass(frozen=True)
class Index:
    """What is kept: the distributions that hold a top-level module, and those that a distribution requires."""

    holders: dict[str, list[str]]
    requires: dict[str, list[str]]

    @classmethod
    def read(cls, site: Path) -> Index:
        """That of the metadata that was unpacked there."""
        return cls(**json.loads((site / INDEX_FILE).read_text(encoding="utf-8")))

    def all_for(self, module: str) -> list[str]:
        """The distributions that a top-level module needs to be imported; those required come first."""
        chosen: dict[str, None] = {}
        waiting = list(self.holders.get(module, ()))
        while waiting:
            name = waiting.pop()
            if name not in chosen:
                chosen[name] = None
                waiting += self.requires.get(name, ())
        return list(reversed(chosen))


class UnpackOnImport(MetaPathFinder):
    """Finds nothing, and sees that what is kept is there when the next finder looks."""

    def __init__(self, keeper: Keeper, site: Path) -> None:
        self._keeper = keeper
        self._site = site
        self._index = Index.read(site)
        self._waiting = set(self._index.holders)
        self._failed: tuple[float, Unreachable] | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python for each module that is imported. None always.

        Raises:
            ImportError: what holds the module can't be had.
        """
        top = fullname.partition(".")[0]
        if top in self._waiting:
            try:
                for name in self._index.all_for(top):
                    self._unpack(name)
            except Unreachable as error:
                raise ImportError(str(error), name=fullname) from error
            self._waiting.discard(top)
            _look_anew(self._site)
        return None

    def _unpack(self, name: str) -> None:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        try:
            unpack_once(self._keeper, name, self._site, self._site / UNPACKED_FOLDER / name)
        except Unreachable as error:
            self._failed = (time.monotonic() + FAILED_FOR, error)
            raise
        self._failed = None


def unpack_once(keeper: Keeper, name: str, site: Path, mark: Path) -> None:
    """Unpack an archive, unless the mark says that some process of this pod has; `mark` is made when it is complete.

    Raises:
        Unreachable: it can't be had within the keeper's patience.
    """
    deadline = time.monotonic() + keeper.patience
    while not mark.exists():
        try:
            with _locked(site, deadline):
                if not mark.exists():
                    keeper.unpack(name, site)
                    mark.touch()
        except Unreachable as error:
            if not error.passing or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


@contextmanager
def _locked(site: Path, deadline: float) -> Iterator[None]:
    """For one process, and one thread of it, at a time."""
    with (site / LOCK_FILE).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Unreachable("another process is unpacking, and does not end", passing=False) from error
                time.sleep(_LOOK_AGAIN)
        try:
            yield
        finally:
            # Not only closed: a process that was forked meanwhile has a copy, which would keep it locked.
            fcntl.flock(lock, fcntl.LOCK_UN)


def install_finder(keeper: Keeper, site: Path) -> None:
    """Let this process have what is kept, by importing it. What every pod needs is unpacked now.

    Raises:
        Unreachable: that can't be had.
    """
    (site / UNPACKED_FOLDER).mkdir(exist_ok=True)
    if not (site / CHILDREN_FILE).exists():
        # Processes that a task starts find what is kept as this one does: Python runs this file as it starts.
        (site / CHILDREN_FILE).write_text(
            "from pathlib import Path\n"
            "from skjob.environment.pod.lazy_import import Keeper, install_finder\n"
            f"install_finder(Keeper({keeper.address!r}, Path({str(keeper.tls)!r})), Path({str(site)!r}))\n",
            encoding="utf-8",
        )
    unpack_once(keeper, METADATA_ARCHIVE, site, site / UNPACKED_FOLDER / METADATA_ARCHIVE)
    if not any(isinstance(finder, UnpackOnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, UnpackOnImport(keeper, site))
    _look_anew(site)


def _look_anew(site: Path) -> None:
    """Python remembers what a folder had in it."""
    finder = sys.path_importer_cache.get(str(site))
    if isinstance(finder, FileFinder):
        finder.invalidate_caches()
