"""Give long fits a higher priority on the scheduler. Pure.

A search whose longest fits come last ends with one worker busy and all others idle. The duration of a fit is estimated
from earlier folds of the same candidate, or else from its parameters: twice the `n_estimators`, twice the time, at the
speed of the fits so far. Among the tasks that are out at one time the longest run first (Graham 1969: at most 4/3 of
the best possible time); tasks that were sent a whole look-ahead earlier run before all of them, so that none waits
forever.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROPORTIONAL = ("n_estimators", "max_iter", "n_iter", "n_init", "n_components", "epochs", "num_boost_round")
"""Parameters to which the duration of a fit is roughly proportional."""

MAX_CANDIDATES = 10_000
"""Limit of those remembered: a search submits the folds of one candidate close together."""

MIN_LENGTH, MAX_LENGTH = 2.0**-20, 2.0**40


@dataclass(frozen=True)
class WorkEstimate:
    """What is known of a fit before it runs: its candidate, and its amount of work, without a unit."""

    candidate: str
    amount: float


def estimate_work(arguments: Mapping[str, Any]) -> WorkEstimate | None:
    """Return the work of a fit, from the arguments of scikit-learn's `_fit_and_score`; None if it is unknown."""
    try:
        estimator, parameters = arguments["estimator"], arguments.get("parameters") or {}
        amount = float(max(1, len(arguments["train"])))
        for name, value in {**estimator.get_params(), **parameters}.items():
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if is_number and value > 0 and name.rpartition("__")[2] in PROPORTIONAL:
                amount *= float(value)
        candidate = f"{type(estimator).__name__} {sorted((name, repr(value)) for name, value in parameters.items())}"
    except Exception:  # the user's own objects are called
        return None
    return WorkEstimate(candidate, amount) if math.isfinite(amount) else None


class DurationModel:
    """Learns from the durations of finished fits, and estimates those of others."""

    def __init__(self) -> None:
        self._of_candidate: dict[str, float] = {}
        self._seconds = 0.0
        self._amount = 0.0

    def learn(self, work: WorkEstimate, seconds: float) -> None:
        """Note how long a fit of this work took."""
        if len(self._of_candidate) >= MAX_CANDIDATES:
            self._of_candidate.clear()
        # By the amount: a candidate's fits differ in their samples, in a learning curve and in a halving search.
        self._of_candidate[work.candidate] = seconds / (work.amount or 1.0)
        self._seconds += seconds
        self._amount += work.amount

    def expected(self, work: WorkEstimate) -> float:
        """Return how many seconds a fit will take; before the first has finished, its amount of work instead."""
        speed = self._seconds / self._amount if self._amount else 1.0
        return work.amount * self._of_candidate.get(work.candidate, speed)


def priority(number: int, look_ahead: int, expected: float | None) -> float:
    """Return Dask's priority, higher first: earlier look-aheads before later ones, in each of them the longest first.

    `number` counts the tasks of a call. Without an estimate a task counts as the shortest. Durations that differ by
    less than a half get the same priority, so that small differences do not change the order.
    """
    length = min(max(expected or 0.0, MIN_LENGTH), MAX_LENGTH)
    level = round(2 * math.log2(length / MIN_LENGTH)) / (2 * math.log2(MAX_LENGTH / MIN_LENGTH))
    return level - 2 * (number // look_ahead)
