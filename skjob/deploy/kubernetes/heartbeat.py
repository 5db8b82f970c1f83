"""Keep a cluster alive: heartbeats move its anchor's deadline; when they stop, Kubernetes removes everything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.utils.notify import Notify
from skjob.utils.periodic import PeriodicThread

MAX_INTERVAL = 60.0
"""Maximum seconds between heartbeats, so that what they publish is never old."""

COSTED_INTERVAL = 10.0
"""Maximum seconds between heartbeats if the deadline depends on what the run costs."""

MAX_REQUEST_TIMEOUT = 15.0
"""Maximum seconds that the API gets to answer a heartbeat.

One that is unreachable must not delay the end of a run, however long its grace is.
"""

_JOIN_TIMEOUT = 60.0


class Heartbeat:
    """Keep moving the anchor's deadline while this process lives.

    Kubernetes counts the deadline from the Job's own start, which is not before its creation. This class counts from
    the creation, with this machine's clocks, so the two machines' clocks need not agree.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        namespace: str,
        grace: float,
        notify: Notify,
        *,
        age: float = 0.0,
        max_lifetime: float | None = None,
        affordable: Callable[[], float] | None = None,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a heartbeat that has not started.

        `age` is that of the anchor in seconds, if it existed before; `max_lifetime` is how old it may become.
        `affordable` returns how many more seconds it may live; `on_beat` is called with each beat.
        """
        self._api = api
        self._name = name
        self._namespace = namespace
        self._grace = grace
        self._notify = notify
        self._max_lifetime = max_lifetime
        self._affordable = affordable
        self._interval = min(grace / 5, MAX_INTERVAL if affordable is None else COSTED_INTERVAL)
        self.ending = ""
        """Why beats no longer move the deadline; empty while they do."""
        self._on_beat = on_beat
        self._created = (time.monotonic() - age, time.time() - age)
        self._missed = 0
        self._thread = PeriodicThread("skjob-heartbeat", self._beat)

    def start(self) -> None:
        """Start beating: at least five times within each grace, so that a few may fail."""
        self._thread.start(self._interval)

    def stop(self) -> None:
        """Stop beating. Do not wait for a beat in progress."""
        self._thread.stop()

    def join(self) -> None:
        """Wait for the last beat."""
        self._thread.join(min(self._grace, _JOIN_TIMEOUT))

    def extend(self, seconds: float) -> None:
        """Extend the anchor's life to `seconds` from now, or to the age that it may reach."""
        elapsed = self._elapsed()
        deadline = elapsed + seconds
        if self._max_lifetime is not None:
            deadline = min(deadline, self._max_lifetime)
        if self._affordable is not None:
            deadline = min(deadline, elapsed + self._affordable())
        # Rounded down to whole seconds: the limit is enforced without rounding.
        patch = {"spec": {"activeDeadlineSeconds": int(deadline)}}
        self._api.patch("Job", self._name, self._namespace, patch, timeout=min(self._grace / 5, MAX_REQUEST_TIMEOUT))

    def allowed(self, seconds: float) -> float:
        """Return how many of the next `seconds` the anchor may live."""
        if self._max_lifetime is not None:
            seconds = max(0.0, min(seconds, self._max_lifetime - self._elapsed()))
        return seconds if self._affordable is None else min(seconds, self._affordable())

    def _elapsed(self) -> float:
        """Return the seconds since the anchor's creation.

        A monotonic clock may stand still while a laptop sleeps, and the wall clock may be set back: the larger of the
        two counts.
        """
        return max(time.monotonic() - self._created[0], time.time() - self._created[1])

    def _notify_end(self) -> None:
        """Report once that beats no longer move the deadline."""
        if self.ending:
            return
        remaining = math.inf if self._max_lifetime is None else self._max_lifetime - self._elapsed()
        affordable = math.inf if self._affordable is None else self._affordable()
        if remaining < self._grace:
            self.ending = f"`limits.max-time`, {self._max_lifetime:.0f} s, is reached"
            self._notify(f"the cluster ends in {remaining:.0f} s, when {self.ending}")
        elif affordable < min(self._grace, MAX_INTERVAL):
            self.ending = "`max-cost` is spent"
            self._notify(f"the cluster ends in {affordable:.0f} s, when {self.ending}")

    def _beat(self) -> None:
        try:
            self.extend(self._grace)
            self._notify_end()
            self._missed = 0
            self._on_beat()
        except NotFound:
            self._thread.stop()  # it is gone, which the run notices by itself
        except Exception as error:  # the next beat may succeed; if none does, the cluster ends
            self._missed += 1
            if self._missed == 2 and not self._thread.stopped:
                grace = f"{self._grace:.0f} s"
                self._notify(f"the cluster cannot be kept alive; it ends {grace} after its last heartbeat: {error}")
