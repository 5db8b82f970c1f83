"""Ends calls that already run on workers, when nobody wants their results any more.

Dask takes back what waits and lets run what runs: a fit of four hours would hold its worker for four hours after
Ctrl-C. Here each task notes its thread while it runs. To stop it, an exception is raised in that thread, which ends
what runs in Python; what is deep in compiled code and still there after `PATIENCE` seconds goes with its worker's
process, where something starts that again (a nanny, or Kubernetes).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 5.0

ENDED_BY_SKJOB = 0
"""The exit status: nothing is wrong with such a worker."""

RESTARTED_VARIABLE = "SKJOB_WORKER_IS_RESTARTED"
"""Set where the worker has no nanny, and is started again by whoever runs it."""

_lock = threading.Lock()
_running: dict[str, int] = {}
"""The tasks that run in this process, by key, and their threads."""


class Stopped(BaseException):
    """Raised in a task that nobody wants any more. Not an Exception: scikit-learn takes those for failed fits."""


@contextmanager
def interruptible(key: str) -> Iterator[None]:
    """The task of this key runs in this thread, for the length of the block."""
    try:
        with _lock:
            _running[key] = threading.get_ident()
        yield
    finally:
        while True:  # it may come at this very moment, and is for this task alone
            try:
                with _lock:
                    _running.pop(key, None)
                break
            except Stopped:
                continue


async def stop_tasks(prefix: str, dask_worker: Any = None) -> None:
    """Runs on a worker, in its event loop: ends the tasks whose key contains `prefix`."""
    if not _interrupt(prefix):
        return
    if dask_worker.nanny is not None or RESTARTED_VARIABLE in os.environ:
        timer = threading.Timer(PATIENCE, _end_process, (prefix,))
        timer.daemon = True
        timer.start()


def _interrupt(prefix: str) -> bool:
    with _lock:  # a task that has just ended must not leave its exception to the next one on its thread
        threads = [thread for key, thread in _running.items() if prefix in key]
        for thread in threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))
    return bool(threads)


def _end_process(prefix: str) -> None:
    with _lock:
        wanted = [key for key in _running if prefix not in key]
        still = len(_running) > len(wanted)
    if still and not wanted:  # else it would take what others want with it
        os._exit(ENDED_BY_SKJOB)
