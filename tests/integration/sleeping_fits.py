"""Fits that sleep, note in a file when they begin and end, and may do something else in between."""

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

NOTES = Path("__pycache__") / "fits"
"""Where fits note what they do: in a cache, because a fit that writes any other file is not kept as finished."""


class Sleeper(ClassifierMixin, BaseEstimator):
    """A fit that takes a while, notes that it has begun and ended, and may do something else in between."""

    def __init__(self, number: int = 0, folder: str = "", seconds: float = 0.4, deed: str = "", culprit: int = -1):
        self.number = number
        self.folder = folder
        self.seconds = seconds
        self.deed = deed
        self.culprit = culprit

    def fit(self, X: Any, y: Any) -> Sleeper:
        self._note("begin", X)
        if self.culprit in (self.number, ANY):
            DEEDS[self.deed](self)
        time.sleep(self.seconds)
        self._note("end", X)
        self.classes_ = numpy.unique(y)
        return self

    def _note(self, what: str, X: Any) -> None:
        line = f"{what} {self.number}/{int(X[0, 0])} {os.getpid()} {time.time()}\n"
        with (Path(self.folder) / NOTES).open("a") as file:
            file.write(line)

    def predict(self, X: Any) -> Any:
        return numpy.zeros(len(X), int)

    def score(self, X: Any, y: Any) -> float:
        return float(self.number)


ANY = 1000
"""The culprit where each fit is one."""


def _exit(_: Sleeper) -> None:
    os._exit(7)


def _crash(_: Sleeper) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _gobble(_: Sleeper) -> None:
    taken = []
    while True:
        if len(taken) < 40:  # more than the worker may have; not so much that something else on the machine goes
            taken.append(bytearray(16 * 2**20))
        time.sleep(0.01)


def _meet(sleeper: Sleeper) -> None:
    """Wait until two have run at a time."""
    until(lambda: Fits(Path(sleeper.folder)).most_at_once() > 1, "no other fit runs beside it")


FREE = 4
"""The numbers below it do not wait for what is done to their neighbours."""


def _outlast(sleeper: Sleeper) -> None:
    """Run until the test has done its deed, so that fits run when it is done and begin after it."""
    if sleeper.number >= FREE:
        until(Fits(Path(sleeper.folder)).deed.exists, "the test does not do its deed")


DEEDS: dict[str, Callable[[Sleeper], None]] = {
    "exit": _exit,
    "crash": _crash,
    "gobble": _gobble,
    "meet": _meet,
    "outlast": _outlast,
}


@dataclass(frozen=True)
class Note:
    what: str
    fit: str
    pid: int
    at: float


class Fits:
    """The notes of the fits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / NOTES).parent.mkdir(exist_ok=True)
        (folder / NOTES).touch()
        self.deed = (folder / NOTES).with_name("deed")

    def most_at_once(self) -> int:
        """How many have run at a time."""
        most, running = 0, 0
        for note in sorted(self.notes(), key=lambda note: note.at):
            running += 1 if note.what == "begin" else -1
            most = max(most, running)
        return most

    def notes(self) -> list[Note]:
        lines = [line.split() for line in (self.folder / NOTES).read_text().splitlines()]
        return [Note(what, fit, int(pid), float(at)) for what, fit, pid, at in lines]

    def running(self) -> list[Note]:
        """The fits that have begun and not ended."""
        notes = self.notes()
        ended = Counter((note.fit, note.pid) for note in notes if note.what == "end")
        begun = [note for note in notes if note.what == "begin"]
        return [note for note in begun if not ended[note.fit, note.pid]]

    def waiting(self) -> list[Note]:
        """The fits that run until the test has done its deed: nothing begins on their workers before."""
        return [note for note in self.running() if int(note.fit.partition("/")[0]) >= FREE]

    def ended(self) -> Counter[str]:
        return Counter(note.fit for note in self.notes() if note.what == "end")

    def begun(self) -> Counter[str]:
        return Counter(note.fit for note in self.notes() if note.what == "begin")


def search_of(fits: Fits, numbers: int = 8, **arguments: Any) -> GridSearchCV:
    error_score = arguments.pop("error_score", "raise")
    sleeper = Sleeper(folder=str(fits.folder), **arguments)
    return GridSearchCV(sleeper, {"number": list(range(numbers))}, cv=2, refit=False, error_score=error_score)
