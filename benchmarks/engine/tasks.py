"""Define the work of the benchmarks: importable by every peer's workers, and so cheap that the engine is measured."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy
from sklearn.base import BaseEstimator, ClassifierMixin


def nothing(number: int) -> int:
    """Do nothing, so that only the engine's own work costs time."""
    return number


def column_sum(X: numpy.ndarray, column: int) -> float:
    """Use a large array, and take long enough for every worker to get some tasks.

    20,000 numbers are more than numpy buffers at once if it has to copy them, but few compared with the transfer.
    """
    time.sleep(0.05)
    return float(X[:20_000, column].sum())


def text_length(records: list[dict[str, Any]], number: int) -> int:
    """Use a large list of dicts."""
    time.sleep(0.05)
    return len(records[number]["text"])


class Sleeper(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose fit takes `seconds`, and which writes a line to `log` as each fit begins and as it is scored.

    The line has the time, the word, and what identifies the fit: `number`, and the sum of its data.
    """

    def __init__(self, seconds: float = 0.0, number: int = 0, log: str = "", random_state: int = 0) -> None:
        self.seconds = seconds
        self.number = number
        self.log = log
        self.random_state = random_state

    def fit(self, X: numpy.ndarray, y: numpy.ndarray) -> Sleeper:
        """Sleep."""
        self.classes_ = numpy.unique(y)
        self.identity_ = f"{self.number} {X.sum():.6f}"
        self._write("begun")
        time.sleep(self.seconds)
        return self

    def predict(self, X: numpy.ndarray) -> numpy.ndarray:
        """Return the first class."""
        return numpy.full(len(X), self.classes_[0])

    def score(self, X: numpy.ndarray, y: numpy.ndarray) -> float:
        """Return a number that depends on the parameter and the data only."""
        self._write("ended")
        return float(self.number + X[0, 0])

    def _write(self, word: str) -> None:
        if self.log:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, f"{time.time()} {word} {self.identity_}\n".encode())
            os.close(file)
