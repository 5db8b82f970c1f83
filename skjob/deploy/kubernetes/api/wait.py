"""Waiting for a pod: its changes are watched, and between two watches one looks for what is in its way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from skjob.deploy.kubernetes.api.client import Api, Manifest
from skjob.deploy.kubernetes.api.errors import Throttled
from skjob.errors import Unanswered

LOOK_EVERY = 1
"""Whole seconds between two looks."""

API_PATIENCE = 15.0
"""Seconds without an answer of the API that a wait survives."""

_PAUSE = 0.1

Found = TypeVar("Found")


def wait_for_pod(
    api: Api,
    selector: str,
    find: Callable[[Manifest], Found | None],
    look: Callable[[], None],
    deadline: float,
    *,
    check: Callable[[], None] = lambda: None,
) -> Found | None:
    """What `find` makes of a pod that the selector chooses, called as it changes; None when the deadline is over.

    `look` may ask the API, `check` is called while that does not answer too; they end the wait by raising. `deadline`
    is of the monotonic clock.

    Raises:
        Unanswered: the API has been away for `API_PATIENCE` seconds, or has put off a request for long.
    """
    away: float | None = None
    while True:
        try:
            for pod in api.watch("Pod", api.context.namespace, selector=selector, seconds=LOOK_EVERY):
                if (found := find(pod)) is not None:
                    return found
            look()
            away = None
        except Throttled:  # the request has been made again for as long as it makes sense
            raise
        except Unanswered:
            # Since it was first found away: what came before may have taken long because it was put off.
            away = away or time.monotonic()
            if time.monotonic() - away > API_PATIENCE:
                raise
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
        check()
