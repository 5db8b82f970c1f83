"""Ends calls that already run on workers, when nobody wants their results any more.

Dask takes back what waits and lets run what runs: a fit of four hours would hold its worker for four hours after
Ctrl-C. Here each task notes its thread while it runs. To stop it, an exception is raised in that thread, which ends
what runs in Python; what is deep in compiled code and still there after `PATIENCE` seconds goes with its worker's
process, where something starts that again (a nanny, or Kubernetes). A task that is importing is let finish that first:
an import broken off leaves modules behind that no later import mends.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 5.0
IMPORT_PATIENCE = 300.0
"""Seconds more for a task that imports: what it imports may have to be fetched first."""

LOOK_AGAIN = 0.05
"""Seconds between two looks at a task that is importing."""

ENDED_BY_SKJOB = 0
"""The exit status: nothing is wrong with such a worker."""

RESTARTED_VARIABLE = "SKJOB_WORKER_IS_RESTARTED"
"""Set where the worker has no nanny, and is started again by whoever runs it."""


@dataclass
class _Running:
    """A task that runs in this process: its thread, and whether it was told to stop."""

    thread: int
    told: bool = False


_lock = threading.Lock()
_running: dict[str, _Running] = {}
"""By key."""
_stopped: deque[str] = deque(maxlen=100)
"""What the keys contain of those told to stop last: one that Dask has begun, and that is not here yet, must hear it."""


class TaskCancelled(BaseException):
    """Raised in a task that nobody wants any more. Not an Exception: scikit-learn takes those for failed fits."""


@contextmanager
def interruptible(key: str) -> Iterator[None]:
    """The task of this key runs in this thread, for the length of the block."""
    try:
        with _lock:
            _running[key] = _Running(threading.get_ident())
        yield
    finally:
        while True:  # it may come at this very moment, and is for this task alone
            try:
                with _lock:
                    _running.pop(key, None)
                break
            except TaskCancelled:
                continue


def check_wanted(key: str) -> None:
    """Raises Stopped where the task of this key was told to stop before it began."""
    with _lock:
        stopped = any(prefix in key for prefix in _stopped)
    if stopped:
        raise TaskCancelled


async def stop_tasks(prefix: str, dask_worker: Any = None) -> None:
    """Runs on a worker, in its event loop: ends the tasks whose key contains `prefix`, those still to come too."""
    with _lock:
        _stopped.append(prefix)
    if _interrupt(prefix):
        restarted = _is_restarted(dask_worker)
        threading.Thread(target=_see_to_the_end, args=(prefix, restarted), daemon=True).start()


async def stop_key(key: Any, dask_worker: Any = None) -> None:
    """Runs on a worker, in its event loop: ends the task of this key, whoever has sent it.

    What else the worker does goes with its process, where that is the only way: Dask has it done elsewhere.
    """
    if not _tell_threads_of(key, dask_worker):
        return
    if _is_restarted(dask_worker):
        threading.Timer(PATIENCE, _end_if_running, args=(key, dask_worker)).start()


def _is_restarted(worker: Any) -> bool:
    """Whether somebody starts the process again when it ends."""
    return worker.nanny is not None or RESTARTED_VARIABLE in os.environ


def _tell_threads_of(key: Any, worker: Any) -> bool:
    with worker.active_threads_lock:
        threads = [thread for thread, running in worker.active_threads.items() if running == key]
        for thread in threads:
            _raise_in(thread)
    return bool(threads)


def _end_if_running(key: Any, worker: Any) -> None:
    if key in list(worker.active_threads.values()):
        os._exit(ENDED_BY_SKJOB)


def _interrupt(prefix: str) -> bool:
    """Tell each of these tasks once, but not in mid-import. Whether any of them still runs."""
    with _lock:  # a task that has just ended must not leave its exception to the next one on its thread
        tasks = [task for key, task in _running.items() if prefix in key]
        for task in tasks:
            if not task.told and not _imports(task.thread):
                _raise_in(task.thread)
                task.told = True
    return bool(tasks)


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TaskCancelled))


def _imports(thread: int) -> bool:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _see_to_the_end(prefix: str, restarted: bool) -> None:
    limit = time.monotonic() + PATIENCE
    while _interrupt(prefix):
        now = time.monotonic()
        if now > limit and restarted:
            _end_process(prefix)
        if now > limit + IMPORT_PATIENCE or (now > limit and _all_told(prefix)):
            return
        time.sleep(LOOK_AGAIN)


def _all_told(prefix: str) -> bool:
    with _lock:
        return all(task.told for key, task in _running.items() if prefix in key)


def _end_process(prefix: str) -> None:
    with _lock:
        if _running and all(prefix in key for key in _running):  # else it would take what others want with it
            os._exit(ENDED_BY_SKJOB)
