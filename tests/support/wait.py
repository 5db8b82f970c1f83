"""What tests wait for, each with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kubernetes import client

T = TypeVar("T")

TIMEOUT = 180.0
"""Seconds for what takes a few on a quiet machine."""


def until(condition: Callable[[], T], what: str = "it did not come to be", seconds: float = TIMEOUT) -> T:
    """What it gives as soon as that counts as true; `what` is told where it does not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return found


def answers(api: client.ApiClient) -> bool:
    """Whether an API server does."""
    with suppress(Exception):
        client.CoreV1Api(api).read_namespace("default", _request_timeout=5)
        return True
    return False
