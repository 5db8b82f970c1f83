"""Stop tasks that already run on workers when their results are no longer needed.

Dask cancels tasks that wait, and lets those that run finish: a fit of four hours would occupy its worker for four hours
after Ctrl-C. Here each task registers its thread while it runs. To stop it, an exception is raised in that thread,
which ends Python code. If a task is still running after `INTERRUPT_TIMEOUT` seconds, deep in compiled code, its
worker's process is ended, provided that something restarts it (a nanny, or Kubernetes). A task that is importing may
finish that first: an interrupted import leaves modules behind that no later import repairs.
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

INTERRUPT_TIMEOUT = 5.0
"""Seconds that an interrupted task may take to end."""

IMPORT_TIMEOUT = 300.0
"""Additional seconds for a task that is importing: the modules may have to be fetched first."""

_POLL_INTERVAL = 0.05
"""Seconds between two checks of a task that is being stopped."""

ENDED_BY_SKJOB = 0
"""Exit status of a worker that skjob ends: nothing is wrong with it."""

STOPPER = "skjob-stop"
"""The name of the threads that wait until stopped tasks have ended."""

RESTARTED_VARIABLE = "SKJOB_WORKER_IS_RESTARTED"
"""Set if the worker has no nanny, and whatever runs it restarts it."""


@dataclass
class _Running:
    """A task that runs in this process: its thread, and whether it was notified to stop."""

    thread: int
    notified: bool = False


_lock = threading.Lock()
_running: dict[str, _Running] = {}
"""The tasks of this process, by key."""
_cancelled: deque[str] = deque(maxlen=100)
"""Parts of the keys of tasks that were cancelled last: Dask may have started one that is not registered here yet."""


class TaskCancelled(BaseException):
    """Raised in a task that was cancelled. Not an Exception: scikit-learn takes those for failed fits."""


@contextmanager
def interruptible(key: str) -> Iterator[None]:
    """Register the task of this key, which runs in this thread, for the length of the block."""
    try:
        with _lock:
            _running[key] = _Running(threading.get_ident())
        yield
    finally:
        while True:  # the exception may be raised right here, and is for this task alone
            try:
                with _lock:
                    _running.pop(key, None)
                break
            except TaskCancelled:
                continue


def raise_if_cancelled(key: str) -> None:
    """Raise TaskCancelled if the task of this key was cancelled before it began."""
    with _lock:
        stopped = any(prefix in key for prefix in _cancelled)
    if stopped:
        raise TaskCancelled


async def stop_tasks(prefix: str, dask_worker: Any = None) -> None:
    """Stop the tasks whose key contains `prefix`, also those still to come. Runs on a worker, in its event loop."""
    with _lock:
        _cancelled.append(prefix)
    if _interrupt(prefix):
        restarted = _is_restarted(dask_worker)
        threading.Thread(target=_wait_for_end, args=(prefix, restarted), name=STOPPER, daemon=True).start()


async def stop_key(key: Any, dask_worker: Any = None) -> None:
    """Stop the task of this key, whoever sent it. Runs on a worker, in its event loop.

    If ending the worker's process is the only way, its other tasks are lost: Dask runs them elsewhere.
    """
    if not _notify_threads(key, dask_worker):
        return
    if _is_restarted(dask_worker):
        threading.Timer(INTERRUPT_TIMEOUT, _end_if_running, args=(key, dask_worker)).start()


def _is_restarted(worker: Any) -> bool:
    """Return whether something restarts the process when it ends."""
    return worker.nanny is not None or RESTARTED_VARIABLE in os.environ


def _notify_threads(key: Any, worker: Any) -> bool:
    with worker.active_threads_lock:
        threads = [thread for thread, running in worker.active_threads.items() if running == key]
        for thread in threads:
            _raise_in(thread)
    return bool(threads)


def _end_if_running(key: Any, worker: Any) -> None:
    if key in list(worker.active_threads.values()):
        os._exit(ENDED_BY_SKJOB)


def _interrupt(prefix: str) -> bool:
    """Notify each of these tasks once, but not during an import. Return whether any of them still runs."""
    with _lock:  # a task that has just ended must not pass its exception on to the next one in its thread
        tasks = [task for key, task in _running.items() if prefix in key]
        for task in tasks:
            if not task.notified and not _imports(task.thread):
                _raise_in(task.thread)
                task.notified = True
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


def _wait_for_end(prefix: str, restarted: bool) -> None:
    limit = time.monotonic() + INTERRUPT_TIMEOUT
    while _interrupt(prefix):
        now = time.monotonic()
        if now > limit and restarted:
            _end_process(prefix)
        if now > limit + IMPORT_TIMEOUT or (now > limit and _all_notified(prefix)):
            return
        time.sleep(_POLL_INTERVAL)


def _all_notified(prefix: str) -> bool:
    with _lock:
        return all(task.notified for key, task in _running.items() if prefix in key)


def _end_process(prefix: str) -> None:
    with _lock:
        if _running and all(prefix in key for key in _running):  # otherwise tasks of others would be lost
            os._exit(ENDED_BY_SKJOB)
