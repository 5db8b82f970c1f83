"""How long tasks take, by kind: the mean of the latest, as a search may turn from quick fits to slow ones. Pure.

A task that runs and has taken longer than the mean already counts as one of that length. Otherwise the quick ones,
which are done first, would speak for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REMEMBERED = 10
"""At least so many of the latest tasks of a kind count, and twice as many as run."""


class DurationTracker:
    """See how many tasks of each kind are done, with their total seconds, and how long others have been running."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, float]] = {}
        self._latest: dict[str, tuple[float, float]] = {}

    def see(self, done: Mapping[str, tuple[int, float]], running: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return the mean length of each kind of which one was done."""
        for kind, (count, seconds) in done.items():
            before, seconds_before = self._before.get(kind, (0, 0.0))
            if count > before:
                remembered = max(REMEMBERED, 2 * len(running.get(kind, ())))
                self._remember(kind, count - before, seconds - seconds_before, remembered)
        self._before = dict(done)
        return {kind: self._mean(kind, running.get(kind, ())) for kind in self._latest}

    def _remember(self, kind: str, new: int, seconds: float, most: int) -> None:
        old, old_seconds = self._latest.get(kind, (0.0, 0.0))
        share = max(0.0, min(1.0, (most - new) / old)) if old else 0.0
        self._latest[kind] = new + share * old, seconds + share * old_seconds

    def _mean(self, kind: str, running: Sequence[float]) -> float:
        count, seconds = self._latest[kind]
        longer = [elapsed for elapsed in running if elapsed > seconds / count]
        return (seconds + sum(longer)) / (count + len(longer))


def mean_length(waiting: Mapping[str, int], lengths: Mapping[str, float]) -> float | None:
    """Return the mean over waiting tasks, so many of each kind; None if nothing is known of most of them."""
    known = {kind: count for kind, count in waiting.items() if kind in lengths}
    tasks = sum(known.values())
    if not tasks or 2 * tasks < sum(waiting.values()):
        return None
    return sum(count * lengths[kind] for kind, count in known.items()) / tasks
