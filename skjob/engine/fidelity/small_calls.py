"""Know which calls are too small to gain from workers, by the durations of earlier calls of the same kind.

A task of a millisecond is wasted on a worker: sending it and its result takes longer. Calls of the same kind take about
the same time: they come from the same line of the program and have the same function, estimator and number of tasks,
and inputs of the same size, by powers of two. The first call of a kind goes to workers and is measured. From then on
its calls run in the program's own process while that takes less time than sending them over this cluster's round trip.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

SENDING_SECONDS = 0.002
"""What a task costs besides its round trip: pickling, scheduling, settling (benchmarks/engine, case a)."""

MAX_OVERRUN = 10.0
"""A call that takes this many times what was expected goes back to workers."""

MAX_KINDS = 10_000

ROUND_TRIP = 0.005
"""Seconds that a cluster's round trip is assumed to take until it has been measured."""


@dataclass(frozen=True)
class CallKind:
    """What calls have in common that take about the same time. `tasks` is None if their number is not known."""

    line: str
    function: str
    estimator: str
    tasks: int | None
    size: int


@dataclass(frozen=True)
class Measured:
    """What the last call of a kind took: its number of tasks, and the seconds of all of them together."""

    tasks: int
    seconds: float


def size_class(size: int) -> int:
    """Return the power of two that a number of items is below."""
    return math.frexp(size)[1]


def gains_nothing(measured: Measured, round_trip: float) -> bool:
    """Return whether a call like this one takes longer to send than to run."""
    return measured.seconds < round_trip + SENDING_SECONDS * measured.tasks


class SmallCalls:
    """What is known of the calls of one client. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: OrderedDict[CallKind, Measured] = OrderedDict()
        self._round_trip = math.inf
        self.inner_threads: int | None = None
        """The threads that a worker's tasks compute with; None until the first task has reported them."""

    def note_round_trip(self, seconds: float) -> None:
        """Note how long a task took besides its own time: the shortest is the cluster's."""
        with self._lock:
            self._round_trip = min(self._round_trip, max(seconds, 0.0))

    def note_call(self, kind: CallKind, measured: Measured) -> None:
        """Note what a call took on workers."""
        with self._lock:
            self._measured[kind] = measured
            self._measured.move_to_end(kind)
            while len(self._measured) > MAX_KINDS:
                self._measured.popitem(last=False)

    def note_overrun(self, kind: CallKind) -> None:
        """Note that a call took much longer here than expected: the next one is measured on workers again."""
        with self._lock:
            self._measured.pop(kind, None)

    def local_seconds(self, kind: CallKind) -> float | None:
        """Return how long a call is expected to take in the program's own process; None if it is to go to workers."""
        with self._lock:
            measured = self._measured.get(kind)
            round_trip = self._round_trip if math.isfinite(self._round_trip) else ROUND_TRIP
        if measured is None or self.inner_threads is None or not gains_nothing(measured, round_trip):
            return None
        return measured.seconds

    def note_seconds(self, kind: CallKind, tasks: int, seconds: float) -> None:
        """Note what a call took here: its duration may change slowly, for example as a model grows."""
        with self._lock:
            if kind in self._measured:
                self._measured[kind] = replace(self._measured[kind], tasks=tasks, seconds=seconds)


def small_calls_of(client: Any) -> SmallCalls:
    """Return what is known of the calls of this client, which keeps it."""
    known: SmallCalls = client.extensions.setdefault("skjob-small-calls", SmallCalls())
    return known
