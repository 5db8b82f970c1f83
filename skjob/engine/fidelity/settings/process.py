"""Apply the settings of a whole process: environment, locale, limits, working directory, warning filters.

Tasks of several Parallel calls may run in one worker process at a time. Those with the same settings share them: the
first applies them, the last undoes them. Tasks with other settings wait until then, in the order of their arrival.
"""

from __future__ import annotations

import importlib
import locale
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skjob.engine.cancellation import TaskCancelled
from skjob.engine.task_warnings import restore_category

_POLL_INTERVAL = 0.2
"""Seconds between two checks of a waiting task. A task that is cancelled is interrupted there."""

Undo = Callable[[], object]


class CannotApply(RuntimeError):
    """A worker cannot have a setting of the program: the call must run in the program's own process."""


@dataclass(frozen=True)
class WorkingDirectory:
    """A working directory. A worker has the same one only if its identity on the disk is the same."""

    path: str
    device: int
    inode: int

    def is_here(self) -> bool:
        """Return whether this process has the same folder."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - a microsecond
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


@dataclass(frozen=True)
class Importable:
    """A category of warnings that each side imports for itself."""

    module: str
    name: str


@dataclass(frozen=True)
class WarningFilter:
    """One of `warnings.filters`. Its category is a class, or several in a tuple."""

    action: str
    message: Any
    category: Any
    module: Any
    line: int

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> WarningFilter:
        """Return an entry of `warnings.filters`, ready to travel."""
        action, message, category, module, line = parts
        return cls(action, message, _each(category, _importable), module, line)

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the entry for `warnings.filters`."""
        return self.action, self.message, _each(self.category, _imported), self.module, self.line


def _each(category: Any, change: Callable[[Any], Any]) -> Any:
    return tuple(change(each) for each in category) if isinstance(category, tuple) else change(category)


def _importable(category: Any) -> Any:
    by_value = category.__module__ in ("builtins", "__main__") or "<locals>" in category.__qualname__
    return category if by_value else Importable(category.__module__, category.__qualname__)


def _imported(category: Any) -> Any:
    return restore_category(category.module, category.name) if isinstance(category, Importable) else category


@dataclass(frozen=True)
class ProcessSettings:
    """How the program's process differs from a new one. Messages do not show the values of variables.

    A variable whose value is None was removed. `socket_timeout` and `filters` are None if they do not travel.
    `handled` are the loggers that have a handler in the program.
    """

    variables: tuple[tuple[str, str | None], ...] = field(default=(), repr=False)
    folder: WorkingDirectory | None = None
    locales: tuple[tuple[int, str], ...] = ()
    recursion_limit: int | None = None
    integer_digits: int | None = None
    socket_timeout: tuple[float | None] | None = None
    filters: tuple[WarningFilter, ...] | None = None
    pandas_options: tuple[tuple[str, Any], ...] = ()
    handled: tuple[str, ...] = ()


NO_SETTINGS = ProcessSettings()

COPIED_FILES: dict[tuple[str, str], str] = {}
"""For a variable and the path of a file in the program's process, the path of the copy that this worker has."""


class Gate:
    """Lets tasks with the same settings run in a process together, and makes those with others wait.

    `apply` applies settings, and appends to a list how to undo each, before it is applied.
    """

    def __init__(self, apply: Callable[[ProcessSettings, list[Undo]], None]) -> None:
        self._apply = apply
        self._condition = threading.Condition(threading.Lock())
        self._waiting: deque[object] = deque()
        self._inside: set[object] = set()
        self._undo: list[Undo] = []
        self._active: ProcessSettings | None = None

    @property
    def active(self) -> ProcessSettings | None:
        """The settings of the tasks that run now; None while none runs."""
        return self._active

    @contextmanager
    def within(self, settings: ProcessSettings, *, joins: bool = False) -> Iterator[None]:
        """Apply these settings within the block; wait first until tasks with others have ended.

        A task that `joins` was sent by one that is running and may wait for it: it does not queue behind others.

        Raises
        ------
        CannotApply
            This process cannot have one of them.
        """
        ticket = object()
        try:
            self._enter(ticket, settings, joins)
            yield
        finally:
            while True:  # the exception of a cancelled task may be raised right here
                try:
                    self._leave(ticket)
                    break
                except TaskCancelled:
                    continue

    def _enter(self, ticket: object, settings: ProcessSettings, joins: bool) -> None:
        with self._condition:
            self._waiting.append(ticket)
            while not self._may_enter(ticket, settings, joins):
                self._condition.wait(_POLL_INTERVAL)
            self._waiting.remove(ticket)
            self._inside.add(ticket)
            if len(self._inside) == 1:
                self._active = settings
                if settings is not NO_SETTINGS and settings != NO_SETTINGS:
                    self._apply(settings, self._undo)
            if self._waiting:
                self._condition.notify_all()  # the next may have the same settings

    def _may_enter(self, ticket: object, settings: ProcessSettings, joins: bool) -> bool:
        if not self._inside:
            return self._waiting[0] is ticket
        same = self._active is settings or self._active == settings
        return same and (joins or self._waiting[0] is ticket)

    def _leave(self, ticket: object) -> None:
        with self._condition:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._inside.discard(ticket)
            if not self._inside:
                while self._undo:
                    with suppress(Exception):  # a folder may be gone; the others are undone nevertheless
                        self._undo[-1]()
                    self._undo.pop()
                self._active = None
            if self._waiting:
                self._condition.notify_all()


def apply_here(settings: ProcessSettings, undo: list[Undo]) -> None:
    """Apply these settings in this process, and append how to undo each before it is applied.

    Raises
    ------
    CannotApply
        One of them cannot be applied here.
    """
    steps: list[tuple[str, Callable[[Any, list[Undo]], None], Any]] = [
        ("environment", _set_variables, settings.variables),
        ("working directory", _enter_folder, settings.folder),
        ("locale", _set_locales, settings.locales),
        ("recursion limit", _set_recursion_limit, settings.recursion_limit),
        ("limit of digits of integers", _set_integer_digits, settings.integer_digits),
        ("default time-out of sockets", _set_socket_timeout, settings.socket_timeout),
        ("options of pandas", _set_pandas_options, settings.pandas_options),
        ("filters of warnings", _set_filters, settings.filters),
        ("handlers of loggers", _add_handlers, settings.handled),
    ]
    for what, apply, value in steps:
        if value is None or value == ():
            continue
        try:
            apply(value, undo)
        except Exception as error:
            shown = "" if what == "environment" else f": {type(error).__name__}: {error}"
            raise CannotApply(f"a worker cannot have the {what} of the program{shown}") from None


def _set_variables(variables: tuple[tuple[str, str | None], ...], undo: list[Undo]) -> None:
    before = {name: os.environ.get(name) for name, _ in variables}
    undo.append(partial(write_variables, before))
    write_variables({name: COPIED_FILES.get((name, value or ""), value) for name, value in variables})


def write_variables(values: Mapping[str, str | None]) -> None:
    """Set these variables of the process, and remove those whose value is None."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "TZ" in values and hasattr(time, "tzset"):
        time.tzset()


def restore_variables(before: Mapping[str, str]) -> None:
    """Undo what has been set, changed and removed in the environment since it was `before`."""
    now = dict(os.environ)
    write_variables({name: before.get(name) for name in {*now, *before} if now.get(name) != before.get(name)})


def _enter_folder(folder: WorkingDirectory, undo: list[Undo]) -> None:
    if folder.is_here():
        undo.append(partial(os.chdir, os.getcwd()))  # noqa: PTH109
        os.chdir(folder.path)


def _set_locales(locales: tuple[tuple[int, str], ...], undo: list[Undo]) -> None:
    for category, name in locales:
        undo.append(partial(locale.setlocale, category, locale.setlocale(category)))
        locale.setlocale(category, name)


def _set_recursion_limit(limit: int, undo: list[Undo]) -> None:
    undo.append(partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(limit)


def _set_integer_digits(limit: int, undo: list[Undo]) -> None:
    undo.append(partial(sys.set_int_max_str_digits, sys.get_int_max_str_digits()))
    sys.set_int_max_str_digits(limit)


def _set_socket_timeout(timeout: tuple[float | None], undo: list[Undo]) -> None:
    undo.append(partial(socket.setdefaulttimeout, socket.getdefaulttimeout()))
    socket.setdefaulttimeout(timeout[0])


def _set_pandas_options(options: tuple[tuple[str, Any], ...], undo: list[Undo]) -> None:
    pandas: Any = importlib.import_module("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the program has been warned of options that pandas will drop
        before = [(name, pandas.get_option(name)) for name, _ in options]
    undo.append(partial(_write_options, pandas, before))
    _write_options(pandas, options)


def _write_options(pandas: Any, options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in options:
            pandas.set_option(name, value)


def _set_filters(filters: tuple[WarningFilter, ...], undo: list[Undo]) -> None:
    undo.append(partial(_write_filters, warnings.filters))
    _write_filters([each.as_tuple() for each in filters])


def _write_filters(filters: Any) -> None:
    warnings.filters = filters
    # Which warnings were shown counts per set of filters. `catch_warnings` does the same.
    if hasattr(warnings, "_filters_mutated"):
        warnings._filters_mutated()
    else:  # Python 3.14
        with vars(warnings)["_lock"]:
            vars(warnings)["_filters_mutated_lock_held"]()


SEEN = "_skjob_seen"
"""The attribute of a record that one of these handlers has seen."""


class HandlerElsewhere(logging.Handler):
    """Represents on a worker the handlers that a logger has in the program.

    Code that adds a handler if there is none finds this one. Records of tasks go to the program; those of other threads
    go where they would go without this handler.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Do what logging does with a record without a handler, once for each record."""
        seen, record.__dict__[SEEN] = SEEN in record.__dict__, True
        last = logging.lastResort
        if last is not None and not seen and not _has_own_handler(record.name) and record.levelno >= last.level:
            last.handle(record)


def _has_own_handler(name: str) -> bool:
    """Return whether a record of this logger reaches a handler that was added here."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(each, HandlerElsewhere) for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _add_handlers(names: tuple[str, ...], undo: list[Undo]) -> None:
    handler = HandlerElsewhere()
    for name in names:
        logger = logging.getLogger(name)
        undo.append(partial(logging.Logger.removeHandler, logger, handler))
        logging.Logger.addHandler(logger, handler)


GATE = Gate(apply_here)
"""The gate of this process."""
