"""The program of a process with nothing but XGBoost's tracker in it: `python -I -S tracker_process.py LIBRARY`.

It imports neither skjob nor `xgboost`, whose import costs a second and a hundred megabytes of pandas and scikit-learn:
the tracker is in the compiled library, and its functions are part of XGBoost's C API.

A line of input says what to track, a line of output what the workers are given to find it, both in JSON. What they
print by it goes to its standard error, as XGBoost has it. It ends with its training; or with its input, so that it
never outlives who has started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import sys
import threading
from typing import Any

SORT_BY_TASK = 1
"""XGBoost's ranks go by the names of the workers, as with its own tracker."""


class Refused(Exception):
    """XGBoost can't do it."""


def main(path: str) -> None:
    """Track one training."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the defect that it is kept apart for ends in an abort
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    library = ctypes.CDLL(path)
    library.XGBGetLastError.restype = ctypes.c_char_p
    handle = _started(library, asked)
    arguments = ctypes.c_char_p()
    _check(library, library.XGTrackerWorkerArgs(handle, ctypes.byref(arguments)))
    print((arguments.value or b"").decode(), flush=True)
    _check(library, library.XGTrackerWaitFor(handle, json.dumps({"timeout": None}).encode()))


def _started(library: Any, asked: dict[str, Any]) -> ctypes.c_void_p:
    """A tracker at the first of these addresses that it can have."""
    *others, last = asked["addresses"]
    for address in others:
        try:
            return _start(library, asked, *address)
        except Refused as error:
            print(f"XGBoost's tracker can't be at `{address}`, `{last}` is tried instead: {error}", file=sys.stderr)
    return _start(library, asked, *last)


def _start(library: Any, asked: dict[str, Any], host: str | None, port: int) -> ctypes.c_void_p:
    if host is not None:
        socket.getaddrinfo(host, None)  # as XGBoost does: a name that nobody knows is an error at once
    handle = ctypes.c_void_p()
    config = {
        "host": host,
        "n_workers": asked["workers"],
        "port": port,
        "dmlc_communicator": "rabit",
        "sortby": SORT_BY_TASK,
        "timeout": asked["timeout"],
    }
    _check(library, library.XGTrackerCreate(json.dumps(config).encode(), ctypes.byref(handle)))
    _check(library, library.XGTrackerRun(handle, b"{}"))
    return handle


def _check(library: Any, status: int) -> None:
    if status != 0:
        told = library.XGBGetLastError().decode(errors="replace")
        raise Refused(told.partition("Stack trace")[0].strip())


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (Refused, OSError) as error:
        sys.exit(f"XGBoost's tracker: {error}")
