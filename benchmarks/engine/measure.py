"""Define measurements, and turn them into rows of the table.

A `Case` runs in a process of its own for each peer and round; `runner.py` collects its numbers by name. A `Row` takes
one of them, the median of the rounds, and sets skjob beside the peers and its goal. The memory of this process is read
here too, because cases need it in the client and on the scheduler.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

SKJOB = "skjob"
PACKAGE = Path(__file__).parent
STATUS, FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MB = 1e6

Numbers = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A measurement, `measure(peer, quick)`, for these peers, in `rounds` rounds of at most `timeout` seconds each."""

    name: str
    measure: Callable[[str, bool], Numbers]
    peers: tuple[str, ...]
    rounds: int = 3
    timeout: float = 900.0


@dataclass(frozen=True)
class Row:
    """One line of the table: a number of a case, in its unit, and the goal for it.

    `limit` is the most that skjob's number may be, or the least if `more_is_better`; it may be a function of the peers'
    numbers. A row without a limit has no goal, and is there for comparison.
    """

    letter: str
    what: str
    case: str
    number: str
    form: str = "{:.2f}"
    limit: float | Callable[[Mapping[str, float]], float | None] | None = None
    goal: str = ""
    more_is_better: bool = False

    def met(self, numbers: Mapping[str, float]) -> bool | None:
        """Return whether skjob's number meets the goal; None if there is no goal or no number."""
        ours = numbers.get(SKJOB)
        limit = self.limit(numbers) if callable(self.limit) else self.limit
        if ours is None or limit is None:
            return None
        return ours >= limit if self.more_is_better else ours <= limit

    def shown(self, measured: Mapping[str, Sequence[Numbers] | str]) -> bool:
        """Return whether the row has anything to show: a number, or why there is none."""
        return any(
            isinstance(rounds, str) or any(self.number in each for each in rounds) for rounds in measured.values()
        )

    def cells(self, measured: Mapping[str, Sequence[Numbers] | str], peers: Sequence[str]) -> list[str]:
        """Return the cells of this row. `measured` has the numbers of each round by peer, or why there are none."""
        numbers = {
            peer: statistics.median(each[self.number] for each in rounds)
            for peer, rounds in measured.items()
            if not isinstance(rounds, str) and all(self.number in each for each in rounds)
        }
        shown = [self._cell(peer, numbers, measured) for peer in peers]
        best = self._best(numbers)
        ratio = f"{_ratio(numbers[SKJOB], numbers[best])} ({best})" if best and SKJOB in numbers else "–"
        met = {True: "yes", False: "**no**", None: "–"}[self.met(numbers)]
        return [self.letter, self.what, *shown, ratio, self.goal or "–", met]

    def _cell(self, peer: str, numbers: Mapping[str, float], measured: Mapping[str, Sequence[Numbers] | str]) -> str:
        if peer in numbers:
            return self.form.format(numbers[peer])
        return reason if isinstance(reason := measured.get(peer, ""), str) and reason else "–"

    def _best(self, numbers: Mapping[str, float]) -> str | None:
        peers = [peer for peer in numbers if peer != SKJOB]
        if not peers:
            return None
        return (max if self.more_is_better else min)(peers, key=lambda peer: numbers[peer])


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "–"


def command_of(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a process of its own."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return the variables of a process that imports this package, as do all processes that it starts."""
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *([before] if before else [])])}


@contextmanager
def timed(numbers: Numbers, name: str) -> Iterator[None]:
    """Put the seconds that the block takes into `numbers`."""
    began = perf_counter()
    yield
    numbers[name] = perf_counter() - began


def memory() -> int:
    """Return the bytes of memory that this process has now."""
    return _status("VmRSS")


def peak_memory() -> int:
    """Return the most bytes that this process has had since it began, or since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Start to measure the peak again."""
    FORGET_PEAK.write_text("5")


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
