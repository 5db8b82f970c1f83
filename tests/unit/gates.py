"""Wait until tasks wait at a gate."""

from __future__ import annotations

import time

from skjob.engine.fidelity.settings.process import Gate

DEADLINE = 30
LOOK_AGAIN = 0.01


def wait_for_waiting(gate: Gate, number: int) -> None:
    """Return when so many tasks wait there. Nobody is told of one that comes, so it is looked at again and again."""
    deadline = time.monotonic() + DEADLINE
    with gate._condition:
        while len(gate._waiting) != number:
            assert time.monotonic() < deadline
            gate._condition.wait(LOOK_AGAIN)
