"""Wait for a pod: watch its changes and, between two watches, look for what keeps it from running."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Throttled
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import Unanswered

_LOOK_INTERVAL = 1
"""Whole seconds between two looks."""

API_TIMEOUT = 15.0
"""Seconds without an answer of the API that a wait survives."""

_PAUSE = 0.1

_Found = TypeVar("_Found")


def wait_for_pod(
    api: Api,
    selector: str,
    find: Callable[[Manifest], _Found | None],
    look: Callable[[], None],
    deadline: float,
    *,
    check: Callable[[], None] = lambda: None,
) -> _Found | None:
    """Return what `find` makes of a pod that the selector chooses, as soon as that is not None; None at the deadline.

    `look` may ask the API; `check` is called even if the API does not answer. Both end the wait by raising. `deadline`
    is of the monotonic clock.

    Raises:
        Unanswered: the API has been unreachable for `API_TIMEOUT` seconds, or has throttled a request for long.
    """
    away: float | None = None
    while True:
        try:
            for pod in api.watch("Pod", api.context.namespace, selector=selector, seconds=_LOOK_INTERVAL):
                if (found := find(pod)) is not None:
                    return found
            look()
            away = None
        except Throttled:  # the request was retried for as long as that makes sense
            raise
        except Unanswered:
            # Counted from the first failure: what came before may have taken long because it was throttled.
            away = away or time.monotonic()
            if time.monotonic() - away > API_TIMEOUT:
                raise
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
        check()
