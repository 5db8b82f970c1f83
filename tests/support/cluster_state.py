"""State of the kind tests' cluster, which `tests/kind/with-cluster` starts while other tests run.

SKJOB_TEST_CLUSTER is `ready`, `none: ` with the reason, or `starting: ` with a file that will contain one of the two.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

START_SECONDS = 60 * 60
"""Maximum time to start, if node images are compiled on a machine that runs tests at the same time."""

READY, NONE, STARTING = "ready", "none: ", "starting: "


def cluster_state() -> str:
    """Return the current state: empty if nothing starts a cluster, `STARTING` if it is not known yet."""
    state = os.environ.get("SKJOB_TEST_CLUSTER", "")
    if state.startswith(STARTING):
        file = Path(state.removeprefix(STARTING))
        return (file.read_text().strip() if file.exists() else "") or STARTING
    return state


def wait_for_cluster() -> str:
    """Return the state once it is known."""
    deadline = time.monotonic() + START_SECONDS
    while (state := cluster_state()) == STARTING:
        if time.monotonic() > deadline:
            return f"{NONE}it was not ready after {START_SECONDS} s"
        time.sleep(0.5)
    return state
