"""Wait for conditions, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kubernetes import client

T = TypeVar("T")

TIMEOUT = 180.0
"""Seconds for conditions that take a few seconds on a quiet machine."""


def until(condition: Callable[[], T], what: str = "the condition was never met", seconds: float = TIMEOUT) -> T:
    """Wait until the condition returns a true value, and return that; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return value


def is_reachable(api: client.ApiClient) -> bool:
    """Return whether an API server answers."""
    with suppress(Exception):
        client.CoreV1Api(api).read_namespace("default", _request_timeout=5)
        return True
    return False
