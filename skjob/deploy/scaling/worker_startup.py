"""Estimate how long workers take to start, from the request until they join the scheduler. Pure.

A requested worker has no name until it joins, so the first to join is matched with the first requested, among those
that are not so late that they may never come. A worker that comes back after its process was restarted does not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from skjob.deploy.scaling.policy import late_after

MAX_MEASURED = 20
"""Number of latest arrivals that count."""


class StartupEstimate:
    """Tracks which workers have joined and which are pending. `guess` holds until one has joined."""

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._durations: deque[float] = deque(maxlen=MAX_MEASURED)
        self._since: deque[float] = deque()
        self._known: set[str] = set()
        self._lost: set[str] = set()

    @property
    def seconds(self) -> float:
        """Seconds that a worker takes to start."""
        return sum(self._durations) / len(self._durations) if self._durations else self._guess

    def see(self, now: float, requested: int, names: Collection[str]) -> tuple[float, ...]:
        """Update the workers and return how many seconds each pending one has been awaited, the longest first.

        Call this also after requesting more.
        """
        joined = set(names)
        for _ in joined - self._known:
            self._record_arrival(now)
        missing = max(0, requested - len(joined))
        for _ in range(min(len(self._since) - missing, len(joined & self._lost))):
            self._since.pop()  # a returning worker was lost recently
        while len(self._since) > missing:
            self._since.popleft()  # late ones are cancelled first
        self._since.extend([now] * (missing - len(self._since)))
        self._known |= joined
        self._lost = self._known - joined
        return tuple(now - at for at in self._since)

    def _record_arrival(self, now: float) -> None:
        if not self._since:
            return
        in_time = (number for number, at in enumerate(self._since) if now - at <= late_after(self.seconds))
        number = next(in_time, len(self._since) - 1)
        self._durations.append(now - self._since[number])
        del self._since[number]
