"""Detect whether a task has changed a setting of its process.

If plain Python runs tasks in the program's process, `np.set_printoptions` or `os.chdir` in a task applies to all that
the program does afterwards. On a worker it applies to other tasks at most. So the settings are compared before and
after the tasks, and set back on the worker. Filters of warnings are left out: they change no result.
"""

from __future__ import annotations

import decimal
import locale
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from skjob.engine.fidelity.settings.values import DecimalContext

ProcessState = dict[str, Any]
"""Settings by the function that sets them."""


def process_state() -> ProcessState:
    """Return the settings of this thread and its process that a task may change."""
    found: ProcessState = {}
    for name, read in _READERS.items():
        with suppress(Exception):  # the folder may be gone; a library may be another version
            found[name] = read()
    return found


def changed_settings(before: ProcessState, after: ProcessState) -> tuple[str, ...]:
    """Return the names of the functions by which settings were changed."""
    return tuple(name for name, value in before.items() if name in after and after[name] != value)


def restore(before: ProcessState, names: tuple[str, ...]) -> None:
    """Set back what was changed of the whole process. A thread's own settings end with the task."""
    for name in names:
        if name in _WRITERS:
            with suppress(Exception):
                _WRITERS[name](before[name])


def _numpy(read: Callable[[Any], Mapping[str, Any]]) -> Any:
    numpy = sys.modules.get("numpy")
    return None if numpy is None else dict(read(numpy))


def _sklearn_config() -> Any:
    config = sys.modules.get("sklearn._config")
    return None if config is None else config.get_config()


def _pandas_options() -> Any:
    config = sys.modules.get("pandas._config.config")
    return None if config is None else _copied(config._global_config)


def _copied(options: Any) -> Any:
    return {name: _copied(value) for name, value in options.items()} if isinstance(options, dict) else options


def _write_pandas_options(options: Any, prefix: str = "") -> None:
    import pandas

    for name, value in options.items():
        if isinstance(value, dict):
            _write_pandas_options(value, f"{prefix}{name}.")
        elif pandas.get_option(prefix + name) != value:
            pandas.set_option(prefix + name, value)


_READERS: Mapping[str, Callable[[], Any]] = {
    "os.chdir": os.getcwd,
    "sys.setrecursionlimit": sys.getrecursionlimit,
    "sys.set_int_max_str_digits": sys.get_int_max_str_digits,
    "locale.setlocale": lambda: locale.setlocale(locale.LC_ALL),
    "socket.setdefaulttimeout": socket.getdefaulttimeout,
    "decimal.setcontext": lambda: DecimalContext.of(decimal.getcontext()),
    "np.seterr": lambda: _numpy(lambda numpy: numpy.geterr()),
    "np.set_printoptions": lambda: _numpy(lambda numpy: numpy.get_printoptions()),
    "sklearn.set_config": _sklearn_config,
    "pd.set_option": _pandas_options,
}

_WRITERS: Mapping[str, Callable[[Any], object]] = {
    "os.chdir": os.chdir,
    "sys.setrecursionlimit": sys.setrecursionlimit,
    "sys.set_int_max_str_digits": sys.set_int_max_str_digits,
    "locale.setlocale": lambda name: locale.setlocale(locale.LC_ALL, name),
    "socket.setdefaulttimeout": socket.setdefaulttimeout,
    "pd.set_option": _write_pandas_options,
}
"""How settings of the whole process are set back."""
