"""Bring what a task logs to the program's own loggers, whose handlers and filters decide what happens to it.

On a worker the program's handlers are missing, and its levels unknown: records would be lost, or appear as bare text.
Methods of `logging.Logger` are replaced once a process, with effect only in threads that run a task. There the levels
of the program decide which records are created, and the records are captured, up to a limit. Loggers of Dask and of
skjob itself work as before. A handler that a task adds gets the task's records on the worker, and is removed at the end
of the task.
"""

from __future__ import annotations

import functools
import logging
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.fidelity.effects.task_threads import inherit
from skjob.engine.output import MAX_CHARACTERS, Output
from skjob.engine.transfer.pickling import dumps

WORKER_LOGGERS = frozenset({"distributed", "dask", "tornado", "bokeh", "skjob"})
"""Loggers of a worker itself, with all below them."""

RECORD_OVERHEAD = 100
"""Characters that count for a record besides its text."""

ROOT = "root"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "exc_text", "stack_info"}
_KEPT = ("levelno", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs", "relativeCreated")
"""Attributes of a record that describe the code that created it. In plain Python its process and thread are the
program's."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


def is_workers_logger(name: str) -> bool:
    """Return whether a logger is one of a worker itself."""
    return name.partition(".")[0] in WORKER_LOGGERS


@dataclass(frozen=True)
class LogLevels:
    """Which records a program creates: the levels it has set, by logger, that of the root, and what is disabled."""

    levels: tuple[tuple[str, int], ...] = ()
    root: int = logging.WARNING
    disabled_to: int = 0
    disabled: tuple[str, ...] = ()

    @classmethod
    def now(cls) -> LogLevels:
        """Return the levels of this process."""
        levels, disabled = [], []
        manager = logging.root.manager
        for name, logger in list(manager.loggerDict.items()):
            if isinstance(logger, logging.Logger) and (logger.level or logger.disabled) and not is_workers_logger(name):
                if logger.level:
                    levels.append((name, logger.level))
                if logger.disabled:
                    disabled.append(name)
        return cls(tuple(sorted(levels)), logging.root.level, manager.disable, tuple(sorted(disabled)))


@dataclass(frozen=True)
class LoggedRecord:
    """A record of a task, as text and plain values.

    `extra` is the pickle of what the code added to the record. `handled` means that a handler of the task itself got
    it. `printed` is how much the task had written to stdout and stderr before.
    """

    name: str
    text: str
    exception: str | None
    stack: str | None
    attributes: dict[str, Any]
    extra: bytes = b""
    handled: bool = False
    printed: tuple[int, int] = (0, 0)


@dataclass
class TaskLog:
    """What one call logs, and the levels it sets. `outputs` are what it writes to stdout and stderr."""

    allowed: LogLevels
    outputs: tuple[Output, Output] = field(default_factory=lambda: (Output(), Output()))
    records: list[LoggedRecord] = field(default_factory=list)
    size: int = 0
    dropped: int = 0
    handlers: list[tuple[logging.Logger, logging.Handler]] = field(default_factory=list)
    ended: bool = False
    """Whether the call has ended, though one of its threads may go on."""
    _set: dict[str, int] = field(default_factory=dict)
    _levels: dict[str, int] = field(default_factory=dict)
    _effective: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._levels = dict(self.allowed.levels)

    def set_level(self, name: str, level: int) -> None:
        """Note a level that the task sets."""
        self._set[name] = level
        self._effective.clear()

    def is_enabled(self, logger: logging.Logger, level: int) -> bool:
        """Return whether the program would create this record."""
        if level <= max(self.allowed.disabled_to, logger.manager.disable) or logger.name in self.allowed.disabled:
            return False
        effective = self._effective.get(logger.name)
        if effective is None:
            effective = self._effective[logger.name] = self.effective_level(logger)
        return level >= effective

    def effective_level(self, logger: logging.Logger) -> int:
        """Return the level from which the program creates records."""
        each: logging.Logger | None = logger
        while each is not None and each.parent is not None:
            level = self._set.get(each.name, self._levels.get(each.name, 0))
            if level:
                return level
            each = each.parent
        return self._set.get(ROOT, self.allowed.root)

    def add(self, record: logging.LogRecord) -> None:
        """Capture a record, up to the limit, and give it to the task's own handlers."""
        stdout, stderr = self.outputs
        printed = stdout.size, stderr.size
        handled = self._handle(record)
        if self.size >= MAX_CHARACTERS:
            self.dropped += 1
            return
        logged = _logged(record, handled, printed, MAX_CHARACTERS - self.size)
        self.size += RECORD_OVERHEAD + len(logged.text) + len(logged.exception or "") + len(logged.extra)
        self.records.append(logged)

    def _handle(self, record: logging.LogRecord) -> bool:
        if not self.handlers:
            return False
        found = False
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            for owner, handler in self.handlers:
                if owner is logger and record.levelno >= handler.level:
                    handler.handle(record)
                    found = True
            logger = logger.parent if logger.propagate else None
        return found

    @property
    def result(self) -> tuple[LoggedRecord, ...]:
        """The records, and how many more there were."""
        if not self.dropped:
            return tuple(self.records)
        text = f"… {self.dropped} more records were logged"
        attributes = {name: self.records[-1].attributes[name] for name in _KEPT} | {"levelno": logging.WARNING}
        stdout, stderr = self.outputs
        return *self.records, LoggedRecord("skjob", text, None, None, attributes, printed=(stdout.size, stderr.size))


def _logged(record: logging.LogRecord, handled: bool, printed: tuple[int, int], room: int) -> LoggedRecord:
    try:
        text = record.getMessage()
    except Exception:  # the message does not fit its arguments: a handler would report that on stderr, and continue
        logging.Handler().handleError(record)
        text = str(record.msg)
    exception = record.exc_text
    if exception is None and record.exc_info and record.exc_info[0] is not None:
        exception = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    attributes = {name: getattr(record, name) for name in _KEPT}
    added = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    extra = dumps({name: _portable(value, room) for name, value in added.items()}) if added else b""
    if exception is not None:
        exception = exception[:room]
    return LoggedRecord(record.name, text[:room], exception, record.stack_info, attributes, extra, handled, printed)


def _portable(value: Any, room: int) -> Any:
    """Return a value if it can travel and is not too large, otherwise its text."""
    if type(value) in _PLAIN and (type(value) is not str or len(value) <= room):
        return value
    try:
        content = dumps(value)
        if len(content) <= room:
            pickle.loads(content)  # noqa: S301 - our own bytes: some objects can be pickled and not be read again
            return value
    except Exception:  # noqa: S110 - its text is what there is
        pass
    try:
        return repr(value)[:room]
    except Exception:
        return f"<{type(value).__name__}>"


# ------------------------------------------------------------------------------------------ replaced methods of logging

_of_thread = threading.local()
inherit(_of_thread, "log")
_installing = threading.Lock()
_installed = False


def _task_log(logger: logging.Logger) -> TaskLog | None:
    """Return the log of the task that runs in this thread, if the logger is of the user's code."""
    log: TaskLog | None = getattr(_of_thread, "log", None)
    return None if log is None or log.ended or is_workers_logger(logger.name) else log


def _replace(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(logging.Logger, name)
    setattr(logging.Logger, name, functools.wraps(original)(make(original)))


def _is_enabled_for(original: Callable[..., Any]) -> Callable[..., Any]:
    def isEnabledFor(self: logging.Logger, level: int) -> bool:  # noqa: N802
        log = _task_log(self)
        if log is None:
            return bool(original(self, level))
        return not self.disabled and log.is_enabled(self, level)

    return isEnabledFor


def _effective_level(original: Callable[..., Any]) -> Callable[..., Any]:
    def getEffectiveLevel(self: logging.Logger) -> int:  # noqa: N802
        log = _task_log(self)
        return int(original(self)) if log is None else log.effective_level(self)

    return getEffectiveLevel


def _call_handlers(original: Callable[..., Any]) -> Callable[..., Any]:
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
        log = _task_log(self)
        if log is None:
            original(self, record)
        else:
            log.add(record)

    return callHandlers


def _set_level(original: Callable[..., Any]) -> Callable[..., Any]:
    def setLevel(self: logging.Logger, level: int | str) -> None:  # noqa: N802
        log = _task_log(self)
        if log is None:
            original(self, level)
            return
        before = self.level
        original(self, level)  # checks it
        log.set_level(ROOT if self.parent is None else self.name, self.level)
        original(self, before)  # the level is the task's own

    return setLevel


def _add_handler(original: Callable[..., Any]) -> Callable[..., Any]:
    def addHandler(self: logging.Logger, hdlr: logging.Handler) -> None:  # noqa: N802
        original(self, hdlr)
        log = _task_log(self)
        if log is not None:
            log.handlers.append((self, hdlr))

    return addHandler


def _install() -> None:
    global _installed
    with _installing:
        if not _installed:
            _replace("isEnabledFor", _is_enabled_for)
            _replace("getEffectiveLevel", _effective_level)
            _replace("callHandlers", _call_handlers)
            _replace("setLevel", _set_level)
            _replace("addHandler", _add_handler)
            _installed = True


@contextmanager
def captured_log(allowed: LogLevels, *outputs: Output) -> Iterator[TaskLog]:
    """Capture what this thread logs in the block, at the levels of the program.

    `outputs` are what it writes meanwhile to stdout and to stderr.
    """
    if not _installed:
        _install()
    log = TaskLog(allowed, (outputs[0], outputs[1])) if outputs else TaskLog(allowed)
    before = getattr(_of_thread, "log", None)
    _of_thread.log = log
    try:
        yield log
    finally:
        _of_thread.log = before
        log.ended = True
        for logger, handler in log.handlers:
            logger.removeHandler(handler)


# --------------------------------------------------------------------------------------------------- in the program


def log_again(
    logged: LoggedRecord, complete: Callable[[str], str] = str, thread: threading.Thread | None = None
) -> None:
    """Pass a record to the logger of the same name in this process.

    `complete` adds to a traceback the lines of source that only this machine has. `thread` is the one that made the
    Parallel call: in plain Python the record would be its own.
    """
    logger = logging.getLogger(None if logged.name == ROOT else logged.name)
    if logged.handled and not logger.hasHandlers():
        return  # it was shown, and logging's last resort would show it again
    attributes = {
        **logged.attributes,
        "name": logged.name,
        "msg": logged.text,
        "levelname": logging.getLevelName(logged.attributes["levelno"]),
        "exc_text": None if logged.exception is None else complete(logged.exception),
        "stack_info": logged.stack,
    }
    if thread is not None:
        attributes |= {"thread": thread.ident, "threadName": thread.name}
    extra = pickle.loads(logged.extra) if logged.extra else {}  # noqa: S301 - from our own workers, over mutual TLS
    logger.handle(logging.makeLogRecord({**extra, **attributes}))


def write_again(
    stdout: str,
    stderr: str,
    logged: tuple[LoggedRecord, ...],
    again: Callable[[LoggedRecord], None],
    cuts: tuple[tuple[int, ...], ...] = ((), ()),
) -> None:
    """Write what a task wrote, and call `again` for each of its records at the position where it was logged.

    `cuts` are the sizes after each write of the task: a stream that the program has made gets the same writes.
    """
    texts = [
        (stream, text, () if stream is original else at)
        for stream, original, text, at in (
            (sys.stdout, sys.__stdout__, stdout, cuts[0]),
            (sys.stderr, sys.__stderr__, stderr, cuts[1]),
        )
    ]
    written = (0, 0)
    for each in logged:
        _write_parts(texts, written, each.printed)
        written = each.printed
        again(each)
    _write_parts(texts, written, (len(stdout), len(stderr)))


def _write_parts(texts: Any, start: tuple[int, int], end: tuple[int, int]) -> None:
    for (stream, text, cuts), first, last in zip(texts, start, end, strict=True):
        if not text[first:last]:
            continue
        for cut in (*(each for each in cuts if first < each < last), last):
            stream.write(text[first:cut])
            first = cut
        stream.flush()
