"""Whether the cluster of the kind tests is there, which `tests/kind/with-cluster` starts while other tests run.

SKJOB_TEST_CLUSTER is `ready`, `none: ` and why there is none, or `starting: ` and a file that will say one of the two.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

START_SECONDS = 60 * 60
"""At most, where node images have to be compiled on a machine that runs tests meanwhile."""

READY, NONE, STARTING = "ready", "none: ", "starting: "


def cluster_state() -> str:
    """Return what is known now: empty where nothing starts one, `STARTING` where it is not known yet."""
    said = os.environ.get("SKJOB_TEST_CLUSTER", "")
    if said.startswith(STARTING):
        file = Path(said.removeprefix(STARTING))
        return (file.read_text().strip() if file.exists() else "") or STARTING
    return said


def wait_for_cluster() -> str:
    """Return the state once it is known."""
    deadline = time.monotonic() + START_SECONDS
    while (state := cluster_state()) == STARTING:
        if time.monotonic() > deadline:
            return f"{NONE}it was not there after {START_SECONDS} s"
        time.sleep(0.5)
    return state
