"""How long workers take to come, from the request until they join the scheduler. Pure.

A requested worker has no name until it joins, so the first to come counts as the first requested, of those that are not
so late that they may never come. A worker that comes back after its process was restarted does not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from skjob.deploy.scaling.policy import late_after

MEASURED = 20
"""So many of the latest arrivals count."""


class StartupEstimate:
    """See the workers that are here each time, and track those that are not. `guess` holds until one has come."""

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._took: deque[float] = deque(maxlen=MEASURED)
        self._since: deque[float] = deque()
        self._known: set[str] = set()
        self._lost: set[str] = set()

    @property
    def seconds(self) -> float:
        """Seconds that a worker takes to come."""
        return sum(self._took) / len(self._took) if self._took else self._guess

    def see(self, now: float, asked: int, names: Collection[str]) -> tuple[float, ...]:
        """Return how many seconds each worker on its way has been awaited, the longest first.

        Called after more were requested, too.
        """
        here = set(names)
        for _ in here - self._known:
            self._one_came(now)
        missing = max(0, asked - len(here))
        for _ in range(min(len(self._since) - missing, len(here & self._lost))):
            self._since.pop()  # a worker that comes back was lost a short while ago
        while len(self._since) > missing:
            self._since.popleft()  # the late ones are those that were cancelled
        self._since.extend([now] * (missing - len(self._since)))
        self._known |= here
        self._lost = self._known - here
        return tuple(now - at for at in self._since)

    def _one_came(self, now: float) -> None:
        if not self._since:
            return
        in_time = (number for number, at in enumerate(self._since) if now - at <= late_after(self.seconds))
        number = next(in_time, len(self._since) - 1)
        self._took.append(now - self._since[number])
        del self._since[number]
