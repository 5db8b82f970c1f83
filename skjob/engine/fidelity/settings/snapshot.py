"""Take the settings that a program makes in its process, and that its tasks must find on workers.

`take_settings` reads them in the thread that makes a Parallel call; `packing.py` brings them to a task, which has them
for as long as it runs (`applying.py`). Only what differs from a new process travels, and the environment variables that
the program's own code reads by name.

Values of variables go to the memory of workers over an encrypted connection. Nothing here shows them in a message.
"""

from __future__ import annotations

import decimal
import locale
import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from skjob.engine.fidelity.settings.logs import LogLevels, is_workers_logger
from skjob.engine.fidelity.settings.own_variables import own_digests
from skjob.engine.fidelity.settings.process import (
    GATE,
    HandlerElsewhere,
    ProcessSettings,
    WarningFilter,
    WorkingDirectory,
)
from skjob.engine.fidelity.settings.program_reads import ProgramReads, Scanner
from skjob.engine.fidelity.settings.values import NUMPY_ERRORS, DecimalContext, ProgramSettings, process_token
from skjob.engine.fidelity.settings.variables import is_workers_own
from skjob.utils.operating_system import variables_at_start

CALLS_BACK = frozenset({"call", "log"})
"""Reactions of numpy to an error that call a function in the program's memory."""

CATEGORIES = tuple(
    number
    for name in ("LC_CTYPE", "LC_COLLATE", "LC_TIME", "LC_MONETARY", "LC_NUMERIC", "LC_MESSAGES")
    if (number := getattr(locale, name, None)) is not None
)

RECURSION_LIMIT = 1000
"""Python's own. With a lower one, a worker's other threads could fail."""


@dataclass(frozen=True)
class Baseline:
    """The settings of a process before its program changed any."""

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
    """Return the environment as `os.environ` keeps it: comparing it as a whole is much faster than by its items."""
    return getattr(os.environ, "_data", None) or dict(os.environ)


def _variables_of_process() -> Mapping[Any, Any]:
    """Return the environment that this process was started with, if the system knows it; otherwise as it is now."""
    data = getattr(os.environ, "_data", None)
    started = variables_at_start() if data is not None else None
    return dict(_variables_now()) if started is None else started


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
    """Return the locale of each category, from the name of all together."""
    if "/" in name:  # macOS joins those of its categories
        return {number: locale.setlocale(number) for number in CATEGORIES}
    if "=" not in name:
        return dict.fromkeys(CATEGORIES, name)
    named = dict(part.split("=", 1) for part in name.split(";"))
    words = {getattr(locale, word, None): word for word in named}
    return {number: named[words[number]] if number in words else "C" for number in CATEGORIES}


def _new_process() -> Baseline:
    """Return what a new process of Python has, as far as that is known: the program may have started before."""
    return Baseline(
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


_baseline = _new_process()


def set_baseline() -> None:
    """Take the settings of this moment as those before the program: it begins now."""
    global _baseline
    _baseline = replace(
        _new_process(),
        variables=dict(_variables_now()),
        folder=_folder_now(),
        filters=None if sys.warnoptions else tuple(warnings.filters),
    )


def take_settings(root: Path | None = None) -> ProgramSettings:
    """Return the settings that a Parallel call that begins now, in this thread, must have on workers.

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
        if printing != _baseline.printing:
            thread["numpy_printing"] = tuple(printing.items())
    decimals = DecimalContext.of(decimal.getcontext())
    if decimals != _baseline.decimals:
        thread["decimals"] = decimals
    return ProgramSettings(
        **thread,
        sklearn=_sklearn_now(),
        levels=LogLevels.now(),
        process=_process_now(read) if active is None else active,
        own_variables=own_digests(read),
        seeded=_seeded(numpy, read),
        asks_caches=read.asks_caches,
        taken_in=process_token(),
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
    locales = tuple((number, name) for number, name in now.items() if name != _baseline.locales[number])
    digits = sys.get_int_max_str_digits()
    limit, timeout, folder = sys.getrecursionlimit(), socket.getdefaulttimeout(), _folder_now()
    return ProcessSettings(
        variables=_changed_variables(read),
        folder=_identified(folder) if folder not in ("", _baseline.folder) else None,
        locales=locales,
        recursion_limit=limit if limit != _baseline.recursion_limit else None,
        integer_digits=digits if digits != _baseline.integer_digits else None,
        socket_timeout=(timeout,) if timeout != _baseline.socket_timeout else None,
        filters=_filters_now(),
        pandas_options=_pandas_options_now(),
        handled=_handled_now(),
    )


def _changed_variables(read: ProgramReads) -> tuple[tuple[str, str | None], ...]:
    now, before = _variables_now(), _baseline.variables
    found = {name: os.environ[name] for name in read.names if name in os.environ}
    changed: dict[str, str | None] = dict(found)
    if now != before:
        for raw in {*now, *before}:
            if now.get(raw) != before.get(raw):
                name = os.fsdecode(raw)
                changed[name] = os.environ.get(name)
    return tuple(sorted((name, value) for name, value in changed.items() if not is_workers_own(name)))


def _identified(path: str) -> WorkingDirectory | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return WorkingDirectory(path, found.st_dev, found.st_ino)


def _filters_now() -> tuple[WarningFilter, ...] | None:
    current = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    if _baseline.filters is not None and tuple(current) == _baseline.filters:
        return None
    return tuple(WarningFilter.of(each) for each in current)


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
    """Return the loggers that have a handler, without those of libraries, which workers set up themselves."""
    found = ["root"] if _has_handler(logging.root) else []
    for name, logger in list(logging.root.manager.loggerDict.items()):
        handlers = getattr(logger, "handlers", None)  # a placeholder has none
        if handlers and _has_handler(logger) and not is_workers_logger(name):
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
