"""Know which calls are too small to gain from workers, by what earlier calls of the same place have taken.

A task of a millisecond is a waste on a worker: sending it and its result takes longer. A place is what calls have in
common that take about the same time: the line of the program, the function, the estimator, the number of tasks, and the
size of the input by powers of two. Its first call goes to workers and is measured. From then on its calls run in the
program's own process while that takes less than sending them, with the round trip that this cluster has.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

SENDING_SECONDS = 0.002
"""What a task costs beside its round trip: pickling, scheduling, settling (benchmarks/engine, case a)."""

MAX_OVERRUN = 10.0
"""A call that takes this many times what was expected goes back to workers."""

MAX_PLACES = 10_000

ROUND_TRIP = 0.005
"""Seconds that are believed of a cluster's round trip until it has been measured."""


@dataclass(frozen=True)
class CallPlace:
    """What calls have in common that take about the same time. `tasks` is None if their number is not known before."""

    line: str
    function: str
    estimator: str
    tasks: int | None
    size: int


@dataclass(frozen=True)
class Measured:
    """What the last call of a place has taken on workers: its tasks, and the seconds of all of them together."""

    tasks: int
    seconds: float


def size_class(size: int) -> int:
    """Return the power of two that a number of items is below."""
    return math.frexp(size)[1]


def gains_nothing(measured: Measured, round_trip: float) -> bool:
    """Return whether a call like this one takes longer to send than to do."""
    return measured.seconds < round_trip + SENDING_SECONDS * measured.tasks


class SmallCalls:
    """What is known of the calls of one client. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: OrderedDict[CallPlace, Measured] = OrderedDict()
        self._round_trip = math.inf
        self.inner_threads: int | None = None
        """The threads that a worker's tasks compute with; None while no task has told."""

    def note_round_trip(self, seconds: float) -> None:
        """Note how long a task took beside its own time: the shortest is the cluster's."""
        with self._lock:
            self._round_trip = min(self._round_trip, max(seconds, 0.0))

    def note_call(self, place: CallPlace, measured: Measured) -> None:
        """Note what a call has taken on workers."""
        with self._lock:
            self._measured[place] = measured
            self._measured.move_to_end(place)
            while len(self._measured) > MAX_PLACES:
                self._measured.popitem(last=False)

    def note_overrun(self, place: CallPlace) -> None:
        """Note that a call took much longer here than was expected: the next one is measured on workers again."""
        with self._lock:
            self._measured.pop(place, None)

    def seconds_here(self, place: CallPlace) -> float | None:
        """Return how long a call is expected to take in the program's own process; None if it is to go to workers."""
        with self._lock:
            measured = self._measured.get(place)
            round_trip = self._round_trip if math.isfinite(self._round_trip) else ROUND_TRIP
        if measured is None or self.inner_threads is None or not gains_nothing(measured, round_trip):
            return None
        return measured.seconds

    def note_seconds(self, place: CallPlace, tasks: int, seconds: float) -> None:
        """Note what a call has taken here: its time may change slowly, as when a model grows."""
        with self._lock:
            if place in self._measured:
                self._measured[place] = replace(self._measured[place], tasks=tasks, seconds=seconds)
