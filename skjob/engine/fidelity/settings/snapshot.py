"""Settings that a program makes in its process, and that its tasks must find on workers.

`take` reads them in the thread that makes a Parallel call, `applied` gives them to a task for as long as it runs. Only
what differs from a new process travels, and the environment variables that the program's own code reads by name. Some
settings are a thread's own in Python, such as numpy's `errstate`: they are set in the task's thread. The rest is the
process's: see `process.py`.

Values of variables go to the memory of workers over an encrypted connection. Nothing here shows them in a message.
"""

from __future__ import annotations

import decimal
import hashlib
import importlib
import locale
import logging
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any
from uuid import uuid4

from skjob.engine.fidelity.settings.logs import LogLevels, is_of_a_library
from skjob.engine.fidelity.settings.process import (
    GATE,
    NONE,
    CannotApply,
    Filter,
    Folder,
    HandlerElsewhere,
    ProcessSettings,
)
from skjob.engine.fidelity.settings.program_reads import ProgramReads, Scanner
from skjob.engine.fidelity.settings.variables import Reads, aliases_in, is_workers_own, reads
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.transfer.pickling import dumps

NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
CALLS_BACK = frozenset({"call", "log"})
"""What numpy may do with an error that takes place in the program's memory."""

SHOWN_ONLY = ("display.", "plotting.", "styler.")
"""Options of pandas that change what a frame looks like, and no result."""

CATEGORIES = tuple(
    number
    for name in ("LC_CTYPE", "LC_COLLATE", "LC_TIME", "LC_MONETARY", "LC_NUMERIC", "LC_MESSAGES")
    if (number := getattr(locale, name, None)) is not None
)

RECURSION_LIMIT = 1000
"""Python's own. With a lower one, a worker's other threads could fail."""

UNSEEN = "*"
"""Stands for all variables, if the program's code makes names at run time."""

_TOKEN = uuid4().hex


def _process() -> str:
    return f"{_TOKEN}-{os.getpid()}"


@dataclass(frozen=True)
class DecimalContext:
    """A context of `decimal`, without the flags that calculations have raised in it."""

    precision: int
    rounding: str
    smallest: int
    largest: int
    capitals: int
    clamp: int
    traps: frozenset[str]

    @classmethod
    def of(cls, context: decimal.Context) -> DecimalContext:
        """Return what a context is set to."""
        traps = frozenset(kind.__name__ for kind, trapped in context.traps.items() if trapped)
        return cls(
            context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, traps
        )  # fmt: skip

    def make(self) -> decimal.Context:
        """Return a context that is set so."""
        traps = [kind for kind in decimal.Context().traps if kind.__name__ in self.traps]
        return decimal.Context(
            self.precision, self.rounding, self.smallest, self.largest, self.capitals, self.clamp, [], traps
        )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The settings of one Parallel call. Those of a thread first, then those of its process.

    Parameters
    ----------
    numpy_errors, numpy_printing, sklearn, decimals
        What differs from the defaults of `numpy.seterr`, `numpy.set_printoptions`, `sklearn.set_config` and `decimal`.
    levels : LogLevels
        Which records of loggers the program makes.
    process : ProcessSettings
        What belongs to the whole process.
    own_variables : tuple
        Variables that the program's code reads and of which each worker has its own, with a digest of the value here.
    seeded : frozenset
        The modules whose global generator the program has seeded, of `numpy.random` and `random`.
    taken_in : str
        Identifies the process. In that process its own settings need not be made.
    joins : bool
        Whether the call was made on a worker, by a task with the same settings.
    """

    numpy_errors: tuple[tuple[str, str], ...] = ()
    numpy_printing: tuple[tuple[str, Any], ...] = ()
    sklearn: tuple[tuple[str, Any], ...] = ()
    decimals: DecimalContext | None = None
    levels: LogLevels = field(default_factory=LogLevels)
    process: ProcessSettings = NONE
    own_variables: tuple[tuple[str, str], ...] = ()
    seeded: frozenset[str] = frozenset()
    taken_in: str = field(default="", compare=False)
    joins: bool = False

    def without_shipped(self) -> Settings:
        """Return them without what scikit-learn's own `Parallel` sends with each task.

        Filters that make errors of warnings stay. scikit-learn sets them around each task, and takes them away from the
        tasks in other threads as one ends (scikit-learn 1.9: `warnings.catch_warnings` is the process's).
        """
        filters = self.process.filters
        if filters is not None and not any(each.action == "error" for each in filters):
            filters = None
        if not self.sklearn and filters is self.process.filters:
            return self
        return replace(self, sklearn=(), process=replace(self.process, filters=filters))

    def in_key(self) -> tuple[Any, ...]:
        """Return what may change the result of a fit, for the key of a finished one.

        Variables are in it where the code that reads them is; scikit-learn's configuration travels with the fit.
        """
        process = self.process
        options = tuple(each for each in process.pandas_options if not each[0].startswith(SHOWN_ONLY))
        raising = tuple(each for each in self.numpy_errors if each[1] == "raise")
        decimals = None if self.decimals is None else tuple(vars(self.decimals).values())
        parts = (raising, decimals, process.locales, process.recursion_limit, process.integer_digits, options)
        return parts if any(parts) else ()


@dataclass(frozen=True)
class Beginning:
    """What a process had before the program in it began."""

    variables: Mapping[Any, Any]
    folder: str
    locales: Mapping[int, str]
    recursion_limit: int
    integer_digits: int
    socket_timeout: float | None
    filters: tuple[Any, ...] | None
    printing: Mapping[str, Any]
    decimals: DecimalContext


_scanner = Scanner()


def _variables_now() -> Mapping[Any, Any]:
    """The environment as `os.environ` keeps it: to compare it whole is much faster than by its items."""
    return getattr(os.environ, "_data", None) or dict(os.environ)


def _variables_of_process() -> Mapping[Any, Any]:
    """The environment that this process was started with, if the system tells; else as it is now."""
    data = getattr(os.environ, "_data", None)
    if data is not None and sys.platform == "linux":
        with suppress(OSError):
            entries = Path("/proc/self/environ").read_bytes().split(b"\0")
            return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    return dict(_variables_now())


def _folder_now() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it is gone
        return ""


def _printing_now() -> dict[str, Any]:
    numpy: Any = sys.modules.get("numpy")
    return dict(numpy.get_printoptions()) if numpy is not None else {}


def _locales_now() -> Mapping[int, str]:
    return _by_category(locale.setlocale(locale.LC_ALL))


@lru_cache(maxsize=16)
def _by_category(name: str) -> Mapping[int, str]:
    """The locale of each category, from the name of all together."""
    if "=" not in name:
        return dict.fromkeys(CATEGORIES, name)
    named = dict(part.split("=", 1) for part in name.split(";"))
    words = {getattr(locale, word, None): word for word in named}
    return {number: named[words[number]] if number in words else "C" for number in CATEGORIES}


def _new_process() -> Beginning:
    """What a new process of Python has, as far as it can be known: the program may have begun before this is asked."""
    return Beginning(
        variables=_variables_of_process(),
        folder="",
        locales={**dict.fromkeys(CATEGORIES, "C"), locale.LC_CTYPE: locale.setlocale(locale.LC_CTYPE)},
        recursion_limit=RECURSION_LIMIT,
        integer_digits=sys.get_int_max_str_digits(),
        socket_timeout=None,
        filters=None,
        printing=Context().run(_printing_now),
        decimals=DecimalContext.of(decimal.Context()),
    )


_start = _new_process()


def begin() -> None:
    """Note that the program begins now: what differs from now on is of its making."""
    global _start
    _start = replace(
        _new_process(),
        variables=dict(_variables_now()),
        folder=_folder_now(),
        filters=None if sys.warnoptions else tuple(warnings.filters),
    )


def take(root: Path | None = None) -> Settings:
    """Return the settings that a Parallel call made now, in this thread, must have on workers.

    `root` is the folder of the program: modules in it are its own code.
    """
    read = _scanner.scan(root)
    active = GATE.active  # on a worker: the call is made by what a task has started
    thread: dict[str, Any] = {}
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        errors = numpy.geterr()
        if errors != NUMPY_ERRORS:
            thread["numpy_errors"] = tuple(errors.items())
        printing = _printing_now()
        if printing != _start.printing:
            thread["numpy_printing"] = tuple(printing.items())
    decimals = DecimalContext.of(decimal.getcontext())
    if decimals != _start.decimals:
        thread["decimals"] = decimals
    return Settings(
        **thread,
        sklearn=_sklearn_now(),
        levels=LogLevels.now(),
        process=_process_now(read) if active is None else active,
        own_variables=tuple((name, _digest_here(name)) for name in _own(read)),
        seeded=_seeded(numpy, read),
        taken_in=_process(),
        joins=active is not None,
    )


def why_settings_stay() -> str | None:
    """Return why tasks cannot have the settings of this thread on a worker; None if they can."""
    if sys.getrecursionlimit() < RECURSION_LIMIT:
        return "the recursion limit is lower than Python's own"
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and CALLS_BACK.intersection(numpy.geterr().values()) and numpy.geterrcall() is not None:
        return "numpy hands errors to a function of the program (`np.seterrcall`)"
    return None


def _process_now(read: ProgramReads) -> ProcessSettings:
    now = _locales_now()
    locales = tuple((number, name) for number, name in now.items() if name != _start.locales[number])
    digits = sys.get_int_max_str_digits()
    limit, timeout, folder = sys.getrecursionlimit(), socket.getdefaulttimeout(), _folder_now()
    return ProcessSettings(
        variables=_changed_variables(read),
        folder=_identified(folder) if folder not in ("", _start.folder) else None,
        locales=locales,
        recursion_limit=limit if limit != _start.recursion_limit else None,
        integer_digits=digits if digits != _start.integer_digits else None,
        socket_timeout=(timeout,) if timeout != _start.socket_timeout else None,
        filters=_filters_now(),
        pandas_options=_pandas_options_now(),
        handled=_handled_now(),
    )


def _changed_variables(read: ProgramReads) -> tuple[tuple[str, str | None], ...]:
    now, before = _variables_now(), _start.variables
    found = {name: os.environ[name] for name in read.names if name in os.environ}
    changed: dict[str, str | None] = dict(found)
    if now != before:
        for raw in {*now, *before}:
            if now.get(raw) != before.get(raw):
                name = os.fsdecode(raw)
                changed[name] = os.environ.get(name)
    return tuple(sorted((name, value) for name, value in changed.items() if not is_workers_own(name)))


def _identified(path: str) -> Folder | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return Folder(path, found.st_dev, found.st_ino)


def _filters_now() -> tuple[Filter, ...] | None:
    current = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    if _start.filters is not None and tuple(current) == _start.filters:
        return None
    return tuple(Filter.of(each) for each in current)


def _sklearn_now() -> tuple[tuple[str, Any], ...]:
    config: Any = sys.modules.get("sklearn._config")
    if config is None:
        return ()
    defaults = getattr(config, "_global_config", {})
    return tuple((name, value) for name, value in config.get_config().items() if defaults.get(name) != value)


def _pandas_options_now() -> tuple[tuple[str, Any], ...]:
    config: Any = sys.modules.get("pandas._config.config")
    if config is None:
        return ()
    found = []
    known = getattr(config, "_global_config", None)  # `get_option` is ten times as slow, and warns of some
    if known is None:
        return ()
    for name, option in list(config._registered_options.items()):
        value: Any = known
        for part in name.split("."):
            value = value[part]
        default = option.defval
        if value is not default and (type(value) is not type(default) or value != default):
            found.append((name, value))
    return tuple(found)


def _handled_now() -> tuple[str, ...]:
    """The loggers that have a handler, without those of libraries that workers set up themselves."""
    found = ["root"] if _has_handler(logging.root) else []
    for name, logger in list(logging.root.manager.loggerDict.items()):
        handlers = getattr(logger, "handlers", None)  # a placeholder has none
        if handlers and _has_handler(logger) and not is_of_a_library(name):
            found.append(name)
    return tuple(sorted(found))


def _has_handler(logger: Any) -> bool:
    return any(not isinstance(each, logging.NullHandler | HandlerElsewhere) for each in logger.handlers)


def _seeded(numpy: Any, read: ProgramReads) -> frozenset[str]:
    found = {"random"} if read.uses_random else set()
    random: Any = sys.modules.get("numpy.random.mtrand")
    if numpy is not None and random is not None:
        bits = getattr(getattr(random, "_rand", None), "_bit_generator", None)
        if bits is not None and getattr(bits, "_seed_seq", bits) is None:  # `seed` of a number takes it away
            found.add("numpy.random")
    return frozenset(found)


def _own(read: ProgramReads) -> list[str]:
    return sorted(read.own | {UNSEEN} if read.dynamic else read.own)


def _digest_here(name: str) -> str:
    """The digest of a variable's value in this process, of all that could travel for `UNSEEN`."""
    if name == UNSEEN:
        value: str | None = repr(sorted(each for each in os.environ.items() if not is_workers_own(each[0])))
    else:
        value = os.environ.get(name)
    return "" if value is None else hashlib.blake2b(os.fsencode(value), digest_size=16).hexdigest()


# ---------------------------------------------------------------------------------------------------- on their way


@dataclass(frozen=True)
class Packed:
    """Settings as bytes. No message that shows the arguments of a task shows them."""

    content: bytes = field(repr=False)


class CallSettings:
    """The settings of one Parallel call, taken as it begins, and packed once for all of its tasks."""

    def __init__(self, root: Path | None) -> None:
        self.taken = take(root)
        self._whole: Packed | None = None
        self._lean: Packed | None = None

    def packed(self, calls: list[JoblibCall]) -> Packed:
        """Return what goes with a task of these calls.

        Raises
        ------
        TypeError
            Something in the settings cannot be sent.
        """
        if all(hasattr(function, "warning_filters") for function, _, _ in calls):
            self._lean = self._lean or _pack(self.taken.without_shipped())
            return self._lean
        self._whole = self._whole or _pack(self.taken)
        return self._whole


def _pack(settings: Settings) -> Packed:
    try:
        return Packed(dumps(settings))
    except Exception as error:
        raise TypeError(f"the program has a setting that cannot be pickled: {error}") from error


@lru_cache(maxsize=8)
def _unpack(content: bytes) -> Settings:
    settings: Settings = pickle.loads(content)  # noqa: S301 - from our own client, over mutual TLS
    return settings


def unpacked(packed: Packed | None) -> Settings:
    """Return the settings again. Those of the same bytes are the same object."""
    return Settings() if packed is None else _unpack(packed.content)


# ---------------------------------------------------------------------------------------------------- on a worker


@contextmanager
def applied(settings: Settings) -> Iterator[None]:
    """Have these settings for the length of the block, in this thread and its process.

    What the block itself changes of a thread's settings ends with it too.

    Raises
    ------
    CannotApply
        A worker cannot have one of them.
    """
    with ExitStack() as stack:
        if settings.taken_in != _process():
            stack.enter_context(GATE.within(settings.process, joins=settings.joins))
        try:
            _enter_thread(settings, stack)
        except Exception as error:
            raise CannotApply(f"a worker cannot have a setting of the program: {error}") from None
        yield


def _enter_thread(settings: Settings, stack: ExitStack) -> None:
    numpy: Any = sys.modules.get("numpy")
    if settings.numpy_errors or settings.numpy_printing:
        numpy = numpy or importlib.import_module("numpy")
    if numpy is not None:
        stack.enter_context(numpy.errstate(**dict(settings.numpy_errors or NUMPY_ERRORS)))
    if settings.numpy_printing:
        stack.enter_context(numpy.printoptions(**dict(settings.numpy_printing)))
    if settings.decimals is not None:
        stack.enter_context(decimal.localcontext(settings.decimals.make()))
    if settings.sklearn:
        sklearn: Any = importlib.import_module("sklearn")
        stack.enter_context(sklearn.config_context(**dict(settings.sklearn)))


def differing_variables(settings: Settings, codes: Iterable[Any]) -> tuple[str, ...]:
    """Return the variables that this code of a task reads and that this worker has otherwise than the program."""
    if not settings.own_variables:
        return ()
    read = Reads()
    for code in codes:
        if isinstance(code, FunctionType):
            read |= reads(code.__code__, aliases_in(code.__globals__)).resolved(code.__globals__)
    return tuple(
        name
        for name, digest in settings.own_variables
        if (read.dynamic if name == UNSEEN else name in read.names) and _digest_here(name) != digest
    )


def describe_difference(name: str) -> str:
    """Return what to tell of such a variable."""
    if name == UNSEEN:
        return (
            "tasks read environment variables by names made at run time; on workers they find those that "
            "the program has set, or whose names stand in its code"
        )
    return f"tasks read the environment variable `{name}`, and workers have a value of their own"
