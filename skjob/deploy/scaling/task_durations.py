"""Estimate how long tasks take, by kind: the mean of the latest, as a search may turn from quick fits to slow ones.
Pure.

A running task that has already taken longer than the mean counts with the time it has taken. Otherwise the quick ones,
which finish first, would dominate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MIN_REMEMBERED = 10
"""Minimum number of latest tasks of a kind that count; twice as many as are running, if that is more."""


class DurationTracker:
    """Tracks how many tasks of each kind are done, with their total seconds, and how long others have been running."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, float]] = {}
        self._latest: dict[str, tuple[float, float]] = {}

    def see(self, done: Mapping[str, tuple[int, float]], running: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Update the counts and return the mean length of each kind with a finished task."""
        for kind, (count, seconds) in done.items():
            before, seconds_before = self._before.get(kind, (0, 0.0))
            if count > before:
                remembered = max(MIN_REMEMBERED, 2 * len(running.get(kind, ())))
                self._remember(kind, count - before, seconds - seconds_before, remembered)
        self._before = dict(done)
        return {kind: self._mean(kind, running.get(kind, ())) for kind in self._latest}

    def _remember(self, kind: str, new: int, seconds: float, max_tasks: int) -> None:
        old, old_seconds = self._latest.get(kind, (0.0, 0.0))
        share = max(0.0, min(1.0, (max_tasks - new) / old)) if old else 0.0
        self._latest[kind] = new + share * old, seconds + share * old_seconds

    def _mean(self, kind: str, running: Sequence[float]) -> float:
        count, seconds = self._latest[kind]
        longer = [elapsed for elapsed in running if elapsed > seconds / count]
        return (seconds + sum(longer)) / (count + len(longer))


def mean_length(waiting: Mapping[str, int], lengths: Mapping[str, float]) -> float | None:
    """Return the mean length over waiting tasks, weighted by kind; None if most of them are of unknown length."""
    known = {kind: count for kind, count in waiting.items() if kind in lengths}
    tasks = sum(known.values())
    if not tasks or 2 * tasks < sum(waiting.values()):
        return None
    return sum(count * lengths[kind] for kind, count in known.items()) / tasks
