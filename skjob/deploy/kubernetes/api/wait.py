"""Wait for a pod: watch its changes and, between two watches, check what keeps it from running."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Throttled
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import Unanswered

_CHECK_INTERVAL = 1
"""Whole seconds between two checks."""

API_TIMEOUT = 15.0
"""Seconds without a response from the API that a wait survives."""

_PAUSE = 0.1

_Result = TypeVar("_Result")


def wait_for_pod(
    api: Api,
    selector: str,
    find: Callable[[Manifest], _Result | None],
    look: Callable[[], None],
    deadline: float,
    *,
    check: Callable[[], None] = lambda: None,
) -> _Result | None:
    """Return what `find` returns for a selected pod, as soon as that is not None; return None at the deadline.

    `look` may query the API; `check` is called even if the API does not answer. Both abort the wait by raising.
    `deadline` is a time of the monotonic clock.

    Raises:
        Unanswered: the API has been unreachable for `API_TIMEOUT` seconds, or has throttled a request for long.
    """
    failing_since: float | None = None
    while True:
        try:
            for pod in api.watch("Pod", api.context.namespace, selector=selector, seconds=_CHECK_INTERVAL):
                if (result := find(pod)) is not None:
                    return result
            look()
            failing_since = None
        except Throttled:  # the request was already retried for long
            raise
        except Unanswered:
            # Counted from the first failure: earlier requests may have taken long because they were throttled.
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > API_TIMEOUT:
                raise
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
        check()
