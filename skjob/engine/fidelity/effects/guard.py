"""Stop a task before an effect that must happen in the program's own process.

A file that a task writes on a worker is lost with its pod; if workers share the program's files, tasks that plain
Python runs sequentially would add to a file in another order. A signal handler can be set in a main thread only; a
worker has no terminal to read from; a process that a task starts has no `__main__` of the program. While a task runs,
an audit hook (PEP 578) and wrappers around what has no audit event raise *before* such an effect happens. What they
raise passes `except Exception`, so that no `error_score` hides it, and the call runs in the program's process.

A file that a task tries to read and that is not on the worker's machine is noted: the program's process knows whether
it exists.

Compiled code opens files without an audit event. A worker that does not share the program's files works in an empty
folder: what is there after a task was written by it, and the call runs in the program's process.

Effects that do not stop a task, but mean that it must run again the next time, are noted: a fit that wrote a file,
connected to a host or started a process is never stored.
"""

from __future__ import annotations

import atexit
import errno
import multiprocessing.process
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from types import FrameType
from typing import Any

from skjob.engine.fidelity.effects.paths import (
    absolute,
    is_below,
    is_cache_or_device,
    is_of_environment,
    is_of_library,
    temporary_folder,
)
from skjob.engine.fidelity.effects.task_threads import inherit, install
from skjob.engine.transfer.worker_plugins import unpacked_folders

FILES_VARIABLE = "SKJOB_WORKER_SHARES_FILES"
"""Set in workers on the program's machine: what a task writes is where the program expects it."""

FOLDER_VARIABLE = "SKJOB_WORKER_FOLDER"
"""Set in workers that do not share the program's files: the working directory of the process.

Compiled code writes files without an audit event. The files that a task leaves here are those it wrote.
"""

SHARED_VARIABLE = "SKJOB_WORKER_SHARED_FOLDERS"
"""Folders, separated by colons, that all workers share and that stay: a platform team's volumes to write to."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC

_NAMELESS = getattr(os, "O_TMPFILE", 0)
"""The flag of a temporary file without a name, which nobody else can open."""

_CHANGES_FILES = frozenset(
    {"os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
)
_STARTS_PROCESSES = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.spawn"})
MAX_MISSING = 100
"""Limit for one task: the names of files travel with its result."""

MAX_READ = 1000
"""Limit for one task. A fit that reads more files is never stored."""

NO_FOLDER = -1
"""What an audit event has for `dir_fd=None`."""

_EXEMPT_MODULES = frozenset({"joblib._store_backends", "skjob.environment.pod.lazy_import"})
"""Modules whose reads, writes and connections are not the task's own.

The first belongs to joblib's caches (joblib 1.6.0): their content can be computed again anywhere. The second fetches
what the task imports.
"""

_HARMLESS_COMMANDS = frozenset({"lscpu", "ldconfig", "/sbin/ldconfig", "gcc", "cc", "ld", "objdump", "uname", "file"})
"""Commands that joblib, ctypes and platform run to inspect the machine."""


class TaskRefused(BaseException):
    """Raised in a task that must run in the program's own process. Not an Exception: scikit-learn catches those."""


class ThreadRefused(Exception):
    """Raised in a thread that such a task has started: pools of threads pass only an Exception on to who waits."""


@dataclass
class WatchedTask:
    """Why a task was refused, and the effects for which its result is not stored."""

    refused: str = ""
    effects: set[str] = field(default_factory=set)
    scratch: set[str] = field(default_factory=set)
    """Temporary files and folders that the task itself has created."""
    missing: set[str] = field(default_factory=set)
    """Files and folders that the task tried to read and that are not on this machine, as the task names them."""
    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files and folders that the task has read, with their sizes and the times of their last change."""
    in_order: bool = False
    """Whether plain Python runs the tasks in the program's process: sequentially, or in its threads."""
    created: set[str] = field(default_factory=set)
    """Files and folders that the task itself has created elsewhere."""
    thread: int = field(default_factory=threading.get_ident)
    """The thread that runs the task; it may start others."""
    ended: bool = False
    """Whether the task has ended, though one of its threads may go on."""

    def note_error(self, error: BaseException) -> None:
        """Note the file of an error: the audit hook does not see the files of every library."""
        if FILES_VARIABLE in os.environ:
            return
        if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
            self.missing.add(error.filename)
        with suppress(Exception):  # its own `__str__` fails
            if not self.refused and os.strerror(errno.EROFS) in str(error):
                self.refused = "its tasks write files"

    def note_files(self, folder: str) -> None:
        """Note files that compiled code wrote into the worker's folder, and remove them."""
        names = os.listdir(folder)
        if names:
            self.effects.add("wrote files")
            self.refused = self.refused or f"its tasks write files, `{min(names)}` first"
            for name in names:
                _remove(os.path.join(folder, name))


_of_thread = threading.local()
inherit(_of_thread, "watched")
_installing = threading.Lock()
_own_folder = ""
_hook_installed = False
_wrappers_installed = False


@contextmanager
def guarded(*, in_order: bool = False) -> Iterator[WatchedTask]:
    """Watch what this thread does in the block. `in_order`: plain Python runs the tasks in the program's process."""
    install_guard()
    watched = WatchedTask(in_order=in_order)
    _of_thread.watched = watched
    try:
        yield watched
    finally:
        _of_thread.watched = None
        watched.ended = True
        if _own_folder:
            watched.note_files(_own_folder)


def _remove(path: str) -> None:
    with suppress(OSError):  # a task on another thread may be removing it too
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def remove_created(paths: Iterable[str]) -> None:
    """Remove files and folders that a task has created and that do not count. What others put into a folder stays."""
    for path in sorted(paths, key=len, reverse=True):
        with suppress(OSError):
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.remove(path)


def install_guard() -> None:
    """Prepare this process for watched tasks, once: in a pod, they work in an empty folder of their own."""
    global _hook_installed, _wrappers_installed, _own_folder
    install()
    with _installing:
        if not _hook_installed:
            tempfile.gettempdir()
            if folder := os.environ.get(FOLDER_VARIABLE):
                os.makedirs(folder, exist_ok=True)
                os.chdir(folder)
                _own_folder = folder
            sys.addaudithook(_audit)
            _hook_installed = True
        if _wrappers_installed:
            return
        _wrappers_installed = True
        signal.signal = _refusing(signal.signal, "its tasks set a handler of signals")
        signal.setitimer = _refusing(signal.setitimer, "its tasks set a timer")
        signal.alarm = _refusing(signal.alarm, "its tasks set a timer")
        process = multiprocessing.process.BaseProcess
        process.start = _refusing(process.start, "its tasks start processes")  # type: ignore[method-assign]
        atexit.register = _registering(atexit.register)
        sys.stdin = _Stdin(sys.stdin)


def _refusing(function: Callable[..., Any], why: str) -> Any:
    @wraps(function)
    def guarded_function(*arguments: Any, **keywords: Any) -> Any:
        _refuse(why)
        return function(*arguments, **keywords)

    return guarded_function


def _registering(register: Callable[..., Any]) -> Any:
    @wraps(register)
    def guarded_register(function: Any, *arguments: Any, **keywords: Any) -> Any:
        # A library registers what it needs as it is imported, and workers need it too.
        watched: WatchedTask | None = getattr(_of_thread, "watched", None)
        if watched is not None and watched.in_order and not is_of_library(sys._getframe(1)):
            _refuse("its tasks register functions for the end of the program")
        return register(function, *arguments, **keywords)

    return guarded_register


def _refuse(why: str) -> None:
    watched: WatchedTask | None = getattr(_of_thread, "watched", None)
    if watched is not None and not watched.ended:
        watched.refused = watched.refused or why
        raise TaskRefused(why) if threading.get_ident() == watched.thread else ThreadRefused(why)


class _Stdin:
    """Replaces `sys.stdin`: a worker has no terminal."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        _refuse("its tasks read the standard input")
        return getattr(self._original, name)

    def __iter__(self) -> Iterator[str]:
        _refuse("its tasks read the standard input")
        return iter(self._original)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    watched: WatchedTask | None = getattr(_of_thread, "watched", None)
    if watched is None or watched.ended:
        return
    if event == "open":
        _on_open(watched, *arguments)
    elif event in ("os.listdir", "os.scandir"):
        _on_read(watched, arguments[0])
    elif event == "os.mkdir":
        _on_mkdir(watched, arguments[0])
    elif event in _CHANGES_FILES:
        # Paths relative to an open folder are those of `shutil.rmtree`, which has an event of its own.
        if not (event in ("os.remove", "os.rmdir") and arguments[1] != NO_FOLDER):
            for path in arguments[:2] if event == "os.rename" else arguments[:1]:
                _on_change(watched, path)
    elif event == "sqlite3.connect":
        _on_database(watched, arguments[0])
    elif event == "socket.connect":
        if not _in_exempt_module():
            watched.effects.add("connected")
    elif event in _STARTS_PROCESSES:
        command = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if os.path.basename(command) not in _HARMLESS_COMMANDS:
            watched.effects.add("started a process")
    elif event in ("os.fork", "os.forkpty"):
        _refuse("its tasks fork the process")
    elif event == "builtins.input":
        _refuse("its tasks read the standard input")


def _on_open(watched: WatchedTask, path: Any, mode: Any, flags: Any) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return  # a file that is open already
    if absolute(path) == temporary_folder():
        return  # `tempfile` opens the folder before a file in it, which has an event too
    if isinstance(mode, str):
        writes = any(letter in mode for letter in "wax+")
    else:
        writes = isinstance(flags, int) and bool(flags & _WRITES)
    if not writes:
        _on_read(watched, path)
        return
    if _NAMELESS and isinstance(flags, int) and flags & _NAMELESS == _NAMELESS:
        return
    if isinstance(flags, int) and flags & os.O_EXCL and is_below(absolute(path), (temporary_folder(),)):
        watched.scratch.add(absolute(path))  # a temporary file, as `tempfile` creates them
    adds = "a" in mode if isinstance(mode, str) else isinstance(flags, int) and bool(flags & os.O_APPEND)
    _on_change(watched, path, adds=adds)


def _on_read(watched: WatchedTask, path: Any) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    _note_source(watched, absolute(path))
    if (
        FILES_VARIABLE not in os.environ
        and len(watched.missing) < MAX_MISSING
        and not os.path.lexists(path)
        and not _in_exempt_module()
    ):
        watched.missing.add(os.fsdecode(path))


def _note_source(watched: WatchedTask, path: str) -> None:
    """Note a file or folder that the result may depend on: a stored fit is reused only while it is unchanged."""
    if (
        path in watched.read
        or is_of_environment(path)
        or is_below(path, unpacked_folders())
        or is_cache_or_device(path)
        or path in watched.created
        or path in watched.scratch
        or is_below(path, watched.scratch)
        or path in sys.path
        or _in_exempt_module()
    ):
        return
    if len(watched.read) >= MAX_READ:
        watched.effects.add("read many files")
        return
    with suppress(OSError):
        found = os.stat(path)
        watched.read[path] = found.st_size, found.st_mtime_ns


def _on_mkdir(watched: WatchedTask, path: Any) -> None:
    """Note a new folder. Only what is written into it is a result."""
    if isinstance(path, str | bytes | os.PathLike) and not os.path.lexists(path):
        below_temporary = is_below(absolute(path), (temporary_folder(),))
        (watched.scratch if below_temporary else watched.created).add(absolute(path))


def _on_database(watched: WatchedTask, database: Any) -> None:
    """Check a database: SQLite opens its files without an event."""
    if not isinstance(database, str | bytes | os.PathLike):
        return
    name = os.fsdecode(database)
    if name.startswith("file:"):
        address, _, query = name.removeprefix("file:").partition("?")
        if {"mode=ro", "mode=memory", "immutable=1"} & set(query.split("&")):
            if "mode=memory" not in query:
                _on_read(watched, address)
            return
        name = address
    if name not in ("", ":memory:"):
        _on_change(watched, name, adds=True)


def _on_change(watched: WatchedTask, path: Any, *, adds: bool = False) -> None:
    """Stop the task before it changes a file, or note that it has.

    Workers on the program's machine may create files, and others may in folders that they share. A file that exists
    before the task, or that several tasks add to, depends on the order of the tasks, which differs from that of plain
    Python.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        return
    changed = absolute(path)
    if (
        changed in watched.scratch
        or is_below(changed, watched.scratch)
        or is_cache_or_device(changed)
        or _in_exempt_module()
    ):
        return
    watched.effects.add("wrote files")
    name = os.path.basename(changed)
    if FILES_VARIABLE not in os.environ and not _is_shared(changed):
        _refuse(f"its tasks write files, `{name}` first")
    if watched.in_order and changed not in watched.created:
        if adds or os.path.lexists(changed):
            _refuse(f"its tasks change a file that they share, `{name}`")
        watched.created.add(changed)


def _is_shared(path: str) -> bool:
    """Return whether a file stays when this worker's pod has gone, where the other workers have it too."""
    return is_below(path, filter(None, os.environ.get(SHARED_VARIABLE, "").split(os.pathsep)))


def _in_exempt_module() -> bool:
    """Return whether this thread runs code of one of the exempt modules."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _EXEMPT_MODULES:
            return True
        frame = frame.f_back
    return False
