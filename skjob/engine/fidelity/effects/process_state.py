"""Detect whether a task has changed a setting of its process.

If plain Python runs tasks in the program's process, `np.set_printoptions` or `os.chdir` in a task applies to all that
the program does afterwards. On a worker it applies to other tasks at most. So the settings are compared before and
after the tasks, and set back on the worker. Filters of warnings are left out: they change no result.

A task may be the first on its worker to import a library. That alone changes nothing: of scikit-learn and pandas, only
options count that differ from their defaults.
"""

from __future__ import annotations

import decimal
import locale
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
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


def _sklearn_config() -> dict[str, Any]:
    config = sys.modules.get("sklearn._config")
    return {} if config is None else _different(config.get_config(), config._global_config)


def _pandas_options() -> dict[str, Any]:
    """Return the options of pandas that are not the defaults, by full name."""
    config = sys.modules.get("pandas._config.config")
    return {} if config is None else _different(dict(_flat(config._global_config)), _pandas_defaults(config))


def _pandas_defaults(config: Any) -> dict[str, Any]:
    return {name: option.defval for name, option in config._registered_options.items()}


def _different(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in defaults or defaults[name] != value}


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _write_pandas_options(options: Mapping[str, Any]) -> None:
    import pandas

    defaults = _pandas_defaults(sys.modules["pandas._config.config"])
    for name in {*_pandas_options(), *options}:
        value = options[name] if name in options else defaults[name]
        if pandas.get_option(name) != value:
            pandas.set_option(name, value)


_READERS: Mapping[str, Callable[[], Any]] = {
    "os.chdir": os.getcwd,
    "sys.setrecursionlimit": sys.getrecursionlimit,
    "sys.set_int_max_str_digits": sys.get_int_max_str_digits,
    "locale.setlocale": lambda: locale.setlocale(locale.LC_ALL),
    "socket.setdefaulttimeout": socket.getdefaulttimeout,
    "decimal.setcontext": lambda: DecimalContext.of(decimal.getcontext()),
    "np.seterr": lambda: sys.modules["numpy"].geterr(),
    "np.set_printoptions": lambda: sys.modules["numpy"].get_printoptions(),
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
