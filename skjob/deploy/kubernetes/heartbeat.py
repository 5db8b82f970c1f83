"""The heartbeat of a cluster: while it beats, the anchor's deadline moves on; when it stops, Kubernetes removes all."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound

LONGEST_PAUSE = 60.0
"""Seconds between two heartbeats at most: what they tell others must not be old."""

PAUSE_WHILE_COUNTING = 10.0
"""The same where the deadline moves with what a run costs."""

MOST_PATIENCE = 15.0
"""Seconds that the API gets to answer at most: one that is away must not hold up the end of a run, however long its
grace is."""

JOIN_TIMEOUT = 60.0


class Heartbeat:
    """Moves the anchor's deadline on for as long as this process lives.

    Kubernetes counts the deadline from the Job's own start, which is not before its creation; this counts from the
    creation, with this machine's clocks, so that those of the two need not agree.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        namespace: str,
        grace: float,
        note: Callable[[str], None],
        *,
        age: float = 0.0,
        most_time: float | None = None,
        affordable: Callable[[], float] | None = None,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        """`age` is that of the anchor in seconds, where it was there before; `most_time` is how old it may become.

        `affordable` tells for how many seconds more it may live; `beside` is called with each beat.
        """
        self._api = api
        self._name = name
        self._namespace = namespace
        self._grace = grace
        self._note = note
        self._most_time = most_time
        self._affordable = affordable
        longest = LONGEST_PAUSE if affordable is None else PAUSE_WHILE_COUNTING
        self._pause = min(grace / 5, longest)
        self.ending = ""
        """Why no beat moves the deadline any more; empty while they do."""
        self._beside = beside
        self._created = (time.monotonic() - age, time.time() - age)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin beating: at least five times within each grace, so that a few may fail."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more. Does not wait for a beat that is under way."""
        self._stop.set()

    def join(self) -> None:
        """Wait for it."""
        self._thread.join(timeout=min(self._grace, JOIN_TIMEOUT))

    def prolong(self, seconds: float) -> None:
        """Let the anchor live for so many seconds from now, or until it is as old as it may become."""
        elapsed = self._elapsed()
        deadline = elapsed + seconds
        if self._most_time is not None:
            deadline = min(deadline, self._most_time)
        if self._affordable is not None:
            deadline = min(deadline, elapsed + self._affordable())
        # Whole seconds, and none more than allowed: what enforces the limit knows no rounding.
        patch = {"spec": {"activeDeadlineSeconds": int(deadline)}}
        self._api.patch("Job", self._name, self._namespace, patch, timeout=min(self._grace / 5, MOST_PATIENCE))

    def allowed(self, seconds: float) -> float:
        """Of so many seconds from now, those that the anchor may live for."""
        if self._most_time is not None:
            seconds = max(0.0, min(seconds, self._most_time - self._elapsed()))
        return seconds if self._affordable is None else min(seconds, self._affordable())

    def _elapsed(self) -> float:
        """Since its creation. A monotonic clock may stand still while a laptop sleeps, the wall clock may be set back:
        the later one counts."""
        return max(time.monotonic() - self._created[0], time.time() - self._created[1])

    def _tell_the_end(self) -> None:
        """Once, when no beat moves the deadline any more."""
        if self.ending:
            return
        left = math.inf if self._most_time is None else self._most_time - self._elapsed()
        paid = math.inf if self._affordable is None else self._affordable()
        if left < self._grace:
            self.ending = f"its time, `limits.max-time`, {self._most_time:.0f} s, is over"
            self._note(f"the cluster ends in {left:.0f} s, when {self.ending}")
        elif paid < min(self._grace, LONGEST_PAUSE):
            self.ending = "it has cost what it may, `max-cost`"
            self._note(f"the cluster ends in {paid:.0f} s, when {self.ending}")

    def _run(self) -> None:
        missed = 0
        while not self._stop.wait(self._pause):
            try:
                self.prolong(self._grace)
                self._tell_the_end()
                missed = 0
                self._beside()
            except NotFound:
                return  # it is gone; whoever looks at the cluster says so
            except Exception as error:  # whatever it is, the next beat may succeed; without one the cluster ends
                missed += 1
                if missed == 2 and not self._stop.is_set():
                    self._note(
                        f"the cluster can't be kept alive, it ends {self._grace:.0f} s after the last beat: {error}"
                    )
