"""Longest first: in which order the scheduler is to take what it has been sent. Pure.

A search whose longest fits come last ends with one worker busy and all others idle. How long a fit will take is told by
earlier folds of the same candidate, or else by its parameters: twice the `n_estimators`, twice the time, at the speed
that the fits so far have had. Among the tasks that are out at one time the longest go first (Graham 1969: at most 4/3
of the best possible time); those that were sent a whole look-ahead earlier go before all of them, so that none waits
for ever.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROPORTIONAL = ("n_estimators", "max_iter", "n_iter", "n_init", "n_components", "epochs", "num_boost_round")
"""Parameters that a fit's time grows with, as far as it is known, in proportion."""

MOST_CANDIDATES = 10_000
"""Remembered; a search has the folds of one candidate close together."""

SHORTEST, LONGEST = 2.0**-20, 2.0**40


@dataclass(frozen=True)
class WorkEstimate:
    """What is known of a fit before it runs: which candidate it belongs to, and how much work it is, in no unit."""

    candidate: str
    amount: float


def work_of(arguments: Mapping[str, Any]) -> WorkEstimate | None:
    """The work of a fit, from the arguments of scikit-learn's `_fit_and_score`; None where they do not tell."""
    try:
        estimator, parameters = arguments["estimator"], arguments.get("parameters") or {}
        amount = float(max(1, len(arguments["train"])))
        for name, value in {**estimator.get_params(), **parameters}.items():
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if is_number and value > 0 and name.rpartition("__")[2] in PROPORTIONAL:
                amount *= float(value)
        candidate = f"{type(estimator).__name__} {sorted((name, repr(value)) for name, value in parameters.items())}"
    except Exception:  # the user's own objects are asked
        return None
    return WorkEstimate(candidate, amount) if math.isfinite(amount) else None


class DurationModel:
    """How long fits take: learns from those that are done, tells of those to come."""

    def __init__(self) -> None:
        self._of_candidate: dict[str, float] = {}
        self._seconds = 0.0
        self._amount = 0.0

    def learn(self, work: WorkEstimate, seconds: float) -> None:
        """A fit of this work took so long."""
        if len(self._of_candidate) >= MOST_CANDIDATES:
            self._of_candidate.clear()
        # By the amount: a candidate's fits differ in their samples, in a learning curve and in a halving search.
        self._of_candidate[work.candidate] = seconds / (work.amount or 1.0)
        self._seconds += seconds
        self._amount += work.amount

    def expected(self, work: WorkEstimate) -> float:
        """Seconds that a fit will take; before the first is done, its amount of work stands for them."""
        speed = self._seconds / self._amount if self._amount else 1.0
        return work.amount * self._of_candidate.get(work.candidate, speed)


def priority(number: int, look_ahead: int, expected: float | None) -> float:
    """Dask's priority, higher first: earlier look-aheads before later ones, in each of them the longest first.

    `number` counts the tasks of a call. Without an expectation a task counts as the shortest. Lengths are told apart
    where they differ by a half or more: those that differ by chance alone keep their order.
    """
    length = min(max(expected or 0.0, SHORTEST), LONGEST)
    level = round(2 * math.log2(length / SHORTEST)) / (2 * math.log2(LONGEST / SHORTEST))
    return level - 2 * (number // look_ahead)
