"""Compute scores from sums over the rows of each piece. Pure.

The variance is merged as in Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample
variances", 1979): a difference of two large sums would lose its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any


@dataclass(frozen=True)
class Sums:
    """Sums over rows: their number, correct predictions, and for numbers the mean, the squared distances from it, and
    the squared and absolute errors."""

    rows: int = 0
    right: int = 0
    mean: float = 0.0
    spread: float = 0.0
    squared: float = 0.0
    absolute: float = 0.0

    @classmethod
    def of(cls, target: Any, predicted: Any) -> Sums:
        """Compute the sums of one piece."""
        import numpy

        target, predicted = numpy.asarray(target), numpy.asarray(predicted)
        right = int((target == predicted).sum())
        if not (numpy.issubdtype(target.dtype, numpy.number) and numpy.issubdtype(predicted.dtype, numpy.number)):
            return cls(len(target), right)
        target, predicted = target.astype("float64"), predicted.astype("float64")
        mean = float(target.mean())
        error = target - predicted
        spread = float(((target - mean) ** 2).sum())
        return cls(len(target), right, mean, spread, float((error**2).sum()), float(numpy.abs(error).sum()))

    @classmethod
    def merge(cls, parts: Iterable[Sums]) -> Sums:
        """Merge the sums of all pieces."""
        return reduce(_merge, parts, cls())

    def score(self, name: str) -> float:
        """Return one of `SCORERS`, as scikit-learn's scorer of this name computes it; NaN if there are no rows."""
        return SCORERS[name](self) if self.rows else math.nan


def _merge(one: Sums, other: Sums) -> Sums:
    rows = one.rows + other.rows
    if not rows:
        return one
    apart = other.mean - one.mean
    return Sums(
        rows,
        one.right + other.right,
        one.mean + apart * other.rows / rows,
        one.spread + other.spread + apart**2 * one.rows * other.rows / rows,
        one.squared + other.squared,
        one.absolute + other.absolute,
    )


def _r2(sums: Sums) -> float:
    if sums.spread == 0:
        return float(sums.squared == 0)
    return 1 - sums.squared / sums.spread


SCORERS: Mapping[str, Callable[[Sums], float]] = {
    "accuracy": lambda sums: sums.right / sums.rows,
    "r2": _r2,
    "neg_mean_squared_error": lambda sums: -sums.squared / sums.rows,
    "neg_root_mean_squared_error": lambda sums: -math.sqrt(sums.squared / sums.rows),
    "neg_mean_absolute_error": lambda sums: -sums.absolute / sums.rows,
}
