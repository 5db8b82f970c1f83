"""Waiting for what a process, a worker or a scheduler does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

DEADLINE = 120.0
"""Seconds in which it has happened if it will happen at all, on a machine that has other things to do."""

MAX_TIME = f"{2 * DEADLINE:.0f}s"
"""`--max-time` of a run that would else wait for ever if it did not end by itself."""

POLL_INTERVAL = 0.05

Found = TypeVar("Found")


def until(condition: Callable[[], Found], why: str) -> Found:
    """Wait until the condition is true; its value. `why` is the failure when it does not become true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, why
        time.sleep(POLL_INTERVAL)
    return found


def _processes(is_one: Callable[[Path], bool]) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if is_one(process) and (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def started_in(folder: Path) -> list[int]:
    """Return the processes, of this run and no other, that still exist: each has the folder below it as `TMPDIR`."""
    mark = f"TMPDIR={folder / 'scratch'}".encode()
    return _processes(lambda process: mark in (process / "environ").read_bytes())


def working_in(folder: Path) -> list[int]:
    """Return those that are forked, whose environment nobody else sees: they work in the folder."""
    return _processes(lambda process: (process / "cwd").readlink() == folder)


def wait_until_gone(folder: Path, processes: Callable[[Path], list[int]] = started_in) -> list[int]:
    """Wait until none of them is left; return those that remain at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while (left := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
