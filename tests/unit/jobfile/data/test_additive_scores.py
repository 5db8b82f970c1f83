"""Scores added up from pieces are scikit-learn's."""

import math
from itertools import pairwise

import numpy
import pytest
from sklearn import metrics

from skjob.jobfile.data.additive_scores import SCORERS, Sums

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "function", "sign"),
    [
        ("r2", metrics.r2_score, 1),
        ("neg_mean_squared_error", metrics.mean_squared_error, -1),
        ("neg_root_mean_squared_error", metrics.root_mean_squared_error, -1),
        ("neg_mean_absolute_error", metrics.mean_absolute_error, -1),
    ],
)
def test_of_numbers(name: str, function: object, sign: int) -> None:
    rng = numpy.random.default_rng(0)
    target = rng.normal(1e6, 1, 1000)  # far from 0: a difference of two sums of squares would have no digits left
    predicted = target + rng.normal(0, 0.5, 1000)
    cuts = [0, 1, 300, 300, 1000]
    sums = Sums.merge(Sums.of(target[a:b], predicted[a:b]) if a < b else Sums() for a, b in pairwise(cuts))
    assert sums.score(name) == pytest.approx(sign * function(target, predicted), rel=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["int64", "bool", "str"])
def test_of_classes(kind: str) -> None:
    rng = numpy.random.default_rng(0)
    target, predicted = (rng.integers(0, 2, 500).astype(kind) for _ in range(2))
    sums = Sums.merge(Sums.of(target[cut : cut + 70], predicted[cut : cut + 70]) for cut in range(0, 500, 70))
    assert sums.score("accuracy") == metrics.accuracy_score(target, predicted)


def test_without_rows_there_is_no_score() -> None:
    assert all(math.isnan(Sums.merge([]).score(name)) for name in SCORERS)
    assert Sums.of(numpy.ones(3), numpy.ones(3)).score("r2") == 1.0
