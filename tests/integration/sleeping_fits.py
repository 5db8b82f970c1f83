"""Fits that sleep, record their start and end in a file, and may perform an action in between."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV
from waiting import until

X, Y = numpy.arange(40.0).reshape(20, 2), numpy.arange(20) % 2

EVENTS_FILE = Path("__pycache__") / "fits"
"""File for the starts and ends of fits, in a cache folder: fits that write other files are not stored."""


class Sleeper(ClassifierMixin, BaseEstimator):
    """An estimator whose fit sleeps, records its start and end, and may perform `action`.

    Only the fit with `number` equal to `acting` performs it, or every fit if that is `ANY`.
    """

    def __init__(self, number: int = 0, folder: str = "", seconds: float = 0.4, action: str = "", acting: int = -1):
        self.number = number
        self.folder = folder
        self.seconds = seconds
        self.action = action
        self.acting = acting

    def fit(self, X: Any, y: Any) -> Sleeper:
        self._record("start", X)
        if self.acting in (self.number, ANY):
            ACTIONS[self.action](self)
        time.sleep(self.seconds)
        self._record("end", X)
        self.classes_ = numpy.unique(y)
        return self

    def _record(self, what: str, X: Any) -> None:
        line = f"{what} {self.number}/{int(X[0, 0])} {os.getpid()} {time.time()}\n"
        with (Path(self.folder) / EVENTS_FILE).open("a") as file:
            file.write(line)

    def predict(self, X: Any) -> Any:
        return numpy.zeros(len(X), int)

    def score(self, X: Any, y: Any) -> float:
        return float(self.number)


ANY = 1000
"""Value of `acting` for all fits."""


def _exit(_: Sleeper) -> None:
    os._exit(7)


def _crash(_: Sleeper) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _allocate(_: Sleeper) -> None:
    blocks = []
    while True:
        if len(blocks) < 40:  # exceeds the worker's limit, but not the machine's memory
            blocks.append(bytearray(16 * 2**20))
        time.sleep(0.01)


def _overlap(sleeper: Sleeper) -> None:
    """Wait until two fits have run at the same time."""
    until(lambda: Fits(Path(sleeper.folder)).max_parallel() > 1, "no other fit runs at the same time")


FIRST_WAITING = 4
"""Fits with a lower number do not wait for the fault."""


def _wait_for_fault(sleeper: Sleeper) -> None:
    """Run until the test has injected its fault, so that fits are running at that time and start after it."""
    if sleeper.number >= FIRST_WAITING:
        until(Fits(Path(sleeper.folder)).fault.exists, "the test does not inject its fault")


ACTIONS: dict[str, Callable[[Sleeper], None]] = {
    "exit": _exit,
    "crash": _crash,
    "allocate": _allocate,
    "overlap": _overlap,
    "wait for fault": _wait_for_fault,
}


@dataclass(frozen=True)
class FitEvent:
    what: str
    fit: str
    pid: int
    at: float


class Fits:
    """The recorded starts and ends of the fits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / EVENTS_FILE).parent.mkdir(exist_ok=True)
        (folder / EVENTS_FILE).touch()
        self.fault = (folder / EVENTS_FILE).with_name("fault")

    def max_parallel(self) -> int:
        """Return the maximum number of fits that ran at the same time."""
        maximum, running = 0, 0
        for event in sorted(self.events(), key=lambda event: event.at):
            running += 1 if event.what == "start" else -1
            maximum = max(maximum, running)
        return maximum

    def events(self) -> list[FitEvent]:
        lines = [line.split() for line in (self.folder / EVENTS_FILE).read_text().splitlines()]
        return [FitEvent(what, fit, int(pid), float(at)) for what, fit, pid, at in lines]

    def running(self) -> list[FitEvent]:
        """Return the starts of fits that have not ended."""
        events = self.events()
        ended = Counter((event.fit, event.pid) for event in events if event.what == "end")
        started = [event for event in events if event.what == "start"]
        return [event for event in started if not ended[event.fit, event.pid]]

    def waiting(self) -> list[FitEvent]:
        """Return the starts of fits that wait for the fault, before which no other fit starts on their workers."""
        return [event for event in self.running() if int(event.fit.partition("/")[0]) >= FIRST_WAITING]

    def ended(self) -> Counter[str]:
        return Counter(event.fit for event in self.events() if event.what == "end")

    def started(self) -> Counter[str]:
        return Counter(event.fit for event in self.events() if event.what == "start")


def search_of(fits: Fits, numbers: int = 8, **arguments: Any) -> GridSearchCV:
    error_score = arguments.pop("error_score", "raise")
    sleeper = Sleeper(folder=str(fits.folder), **arguments)
    return GridSearchCV(sleeper, {"number": list(range(numbers))}, cv=2, refit=False, error_score=error_score)
