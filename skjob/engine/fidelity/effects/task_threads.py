"""Let threads that a task starts belong to the task: what they print, log, warn of and do is the task's.

What captures a task's effects knows them by the thread that runs the task. On a worker `threading.Thread.start` is
replaced once a process, and a thread that is started within a task takes over what its starter has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

_MARK = "skjob_inherits"
"""The attribute of the method that replaces `threading.Thread.start`: others may have replaced it too."""

_lock = threading.Lock()
_inherited: list[tuple[threading.local, str]] = []


def install() -> None:
    """Replace `threading.Thread.start`, once a process that runs tasks."""
    with _lock:
        if not hasattr(threading.Thread.start, _MARK):
            threading.Thread.start = _inheriting(threading.Thread.start)  # type: ignore[assignment, method-assign]


def inherit(of_thread: threading.local, name: str) -> None:
    """Let new threads of a task have this attribute of thread-local data as the thread that starts them has it."""
    with _lock:
        _inherited.append((of_thread, name))


def _inheriting(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def start_inheriting(self: threading.Thread) -> None:
        held = [(of_thread, name, getattr(of_thread, name, None)) for of_thread, name in _inherited]
        held = [each for each in held if each[2] is not None]
        if held:
            self.run = _run_with(held, self.run)  # type: ignore[method-assign]
        start(self)

    setattr(start_inheriting, _MARK, True)
    return start_inheriting


def _run_with(held: list[tuple[threading.local, str, Any]], run: Callable[[], None]) -> Callable[[], None]:
    def run_inheriting() -> None:
        for of_thread, name, value in held:
            setattr(of_thread, name, value)
        try:
            run()
        finally:
            for of_thread, name, _ in held:
                setattr(of_thread, name, None)

    return run_inheriting
