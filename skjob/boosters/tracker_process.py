"""Run XGBoost's tracker alone in a process: `python -I -S tracker_process.py LIBRARY`.

This imports neither skjob nor `xgboost`, whose import costs a second and a hundred megabytes of pandas and
scikit-learn: the tracker is in the compiled library, and its functions are part of XGBoost's C API.

A line of input says what to track, a line of output what the workers are given to find the tracker, both in JSON. What
workers print through it goes to its standard error, as in XGBoost. It ends with its training, or with its input, so
that it never outlives the process that started it.
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
"""XGBoost orders its ranks by the names of the workers, as its own tracker does."""


class TrackerError(Exception):
    """XGBoost reports an error."""


def main(path: str) -> None:
    """Track one training."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the defect that this process is for ends in an abort
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    library = ctypes.CDLL(path)
    library.XGBGetLastError.restype = ctypes.c_char_p
    handle = _start_at_first(library, request)
    arguments = ctypes.c_char_p()
    _check(library, library.XGTrackerWorkerArgs(handle, ctypes.byref(arguments)))
    print((arguments.value or b"").decode(), flush=True)
    _check(library, library.XGTrackerWaitFor(handle, json.dumps({"timeout": None}).encode()))


def _start_at_first(library: Any, request: dict[str, Any]) -> ctypes.c_void_p:
    """Start a tracker at the first of the addresses that works."""
    *others, last = request["addresses"]
    for address in others:
        try:
            return _start(library, request, *address)
        except TrackerError as error:
            print(f"XGBoost's tracker cannot use `{address}`, trying `{last}` instead: {error}", file=sys.stderr)
    return _start(library, request, *last)


def _start(library: Any, request: dict[str, Any], host: str | None, port: int) -> ctypes.c_void_p:
    if host is not None:
        socket.getaddrinfo(host, None)  # as XGBoost does: an unknown name is an error at once
    handle = ctypes.c_void_p()
    config = {
        "host": host,
        "n_workers": request["workers"],
        "port": port,
        "dmlc_communicator": "rabit",
        "sortby": SORT_BY_TASK,
        "timeout": request["timeout"],
    }
    _check(library, library.XGTrackerCreate(json.dumps(config).encode(), ctypes.byref(handle)))
    _check(library, library.XGTrackerRun(handle, b"{}"))
    return handle


def _check(library: Any, status: int) -> None:
    if status != 0:
        message = library.XGBGetLastError().decode(errors="replace")
        raise TrackerError(message.partition("Stack trace")[0].strip())


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (TrackerError, OSError) as error:
        sys.exit(f"XGBoost's tracker: {error}")
