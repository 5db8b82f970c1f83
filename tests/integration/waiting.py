"""Waiting for what a process, a worker or a scheduler does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE = 120.0
"""Seconds in which it has happened if it will happen at all, on a machine that has other things to do."""

MAX_TIME = f"{2 * DEADLINE:.0f}s"
"""`--max-time` of a run that would else wait for ever if it did not end by itself."""

LOOK_AGAIN = 0.05

Found = TypeVar("Found")


def until(condition: Callable[[], Found], why: str) -> Found:
    """Wait until the condition is true; its value. `why` is the failure when it does not become true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, why
        time.sleep(LOOK_AGAIN)
    return found
