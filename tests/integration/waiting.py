"""Wait for conditions of processes, workers and schedulers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

DEADLINE = 120.0
"""Seconds to wait for conditions that are met soon on an idle machine."""

MAX_TIME = f"{2 * DEADLINE:.0f}s"
"""`--max-time` for runs that might otherwise never end if a test fails."""

POLL_INTERVAL = 0.05

T = TypeVar("T")


def until(condition: Callable[[], T], why: str) -> T:
    """Wait until the condition is true, and return its value; fail with `why` at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, why
        time.sleep(POLL_INTERVAL)
    return value


def _processes(matches: Callable[[Path], bool]) -> list[int]:
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if matches(process) and (process / "cmdline").read_bytes():
                pids.append(int(process.name))
    return pids


def started_in(folder: Path) -> list[int]:
    """Return the existing processes of this run, whose `TMPDIR` is `scratch` in the folder."""
    mark = f"TMPDIR={folder / 'scratch'}".encode()
    return _processes(lambda process: mark in (process / "environ").read_bytes())


def working_in(folder: Path) -> list[int]:
    """Return the existing processes whose working directory is the folder. Forks do not show their own environment."""
    return _processes(lambda process: (process / "cwd").readlink() == folder)


def wait_until_gone(folder: Path, processes: Callable[[Path], list[int]] = started_in) -> list[int]:
    """Wait until none of the processes is left; return those that remain at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while (remaining := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return remaining
