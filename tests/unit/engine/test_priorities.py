"""Longest first, as far as parameters and earlier fits tell; and none waits for ever."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skjob.engine.joblib_calls import JoblibCall, fit_arguments
from skjob.engine.priorities import (
    MAX_CANDIDATES,
    MAX_LENGTH,
    MIN_LENGTH,
    DurationModel,
    WorkEstimate,
    estimate_work,
    priority,
)

X = numpy.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)

Recorded = Callable[..., Any]


def _work(call: JoblibCall) -> WorkEstimate:
    arguments = fit_arguments(call)
    assert arguments is not None
    work = estimate_work(arguments)
    assert work is not None
    return work


def _works(recorded: Recorded, run: Callable[[], Any]) -> list[WorkEstimate]:
    with recorded() as calls:
        run()
    return [_work(call) for call in calls]


def _order(expectations: list[float | None], look_ahead: int) -> list[int]:
    """In which order a scheduler that has them all would take them."""
    priorities = [priority(number, look_ahead, expected) for number, expected in enumerate(expectations)]
    return sorted(range(len(priorities)), key=lambda number: (-priorities[number], number))


# ------------------------------------------------------------------------------------------------- priorities


def test_the_longest_go_first() -> None:
    assert _order([1, 8, 2, 32, 4, 16], 6) == [3, 5, 1, 4, 2, 0]


def test_those_of_an_earlier_look_ahead_go_before_all_of_the_next() -> None:
    assert _order([1, 2, 4, MAX_LENGTH, MAX_LENGTH, MAX_LENGTH, 8, 4, 2], 3) == [2, 1, 0, 3, 4, 5, 6, 7, 8]


def test_those_that_differ_by_chance_keep_their_order() -> None:
    assert _order([1.0, 1.1, 0.95, 1.05], 4) == [0, 1, 2, 3]


def test_without_an_expectation_they_go_last_in_their_order() -> None:
    assert _order([None, 1, None, 0.5], 4) == [1, 3, 0, 2]
    assert _order([None] * 5, 2) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("expected", [None, 0.0, -1.0, 1e-300, MIN_LENGTH, 1.0, 1e6, MAX_LENGTH, 1e300, math.inf])
@pytest.mark.parametrize("number", [0, 5, 100_000])
def test_whatever_is_expected_it_stays_in_its_look_ahead(number: int, expected: float | None) -> None:
    look_ahead = 4
    here = priority(number, look_ahead, expected)
    assert priority(number + look_ahead, look_ahead, math.inf) < here
    assert math.isfinite(here)


def test_half_as_long_again_is_told_apart_from_a_microsecond_to_years() -> None:
    lengths = [MIN_LENGTH * 1.5**step for step in range(100)]
    assert lengths[-1] < MAX_LENGTH
    levels = [priority(0, 1, length) for length in lengths]
    assert all(shorter < longer for shorter, longer in pairwise(levels))


# ------------------------------------------------------------------------------------------------- amounts of work


def test_work_grows_with_rows_and_with_what_is_done_to_them(recorded: Recorded) -> None:
    forest = RandomForestClassifier(10, random_state=0)
    works = _works(recorded, lambda: GridSearchCV(forest, {"n_estimators": [2, 4]}, cv=3, refit=False).fit(X, y))
    assert [work.amount for work in works] == [40 * 2] * 3 + [40 * 4] * 3
    assert len({work.candidate for work in works}) == 2


def test_the_estimators_own_parameters_count_where_the_search_sets_none(recorded: Recorded) -> None:
    forest = RandomForestClassifier(10, random_state=0)
    works = _works(recorded, lambda: GridSearchCV(forest, {"max_depth": [2, 4]}, cv=3, refit=False).fit(X, y))
    assert {work.amount for work in works} == {40 * 10}
    assert {work.amount for work in _works(recorded, lambda: cross_validate(forest, X, y, cv=3))} == {40 * 10}


def test_parameters_of_steps_count_too(recorded: Recorded) -> None:
    steps = make_pipeline(GradientBoostingClassifier(n_estimators=5))
    grid = {"gradientboostingclassifier__n_estimators": [2, 3]}
    works = _works(recorded, lambda: GridSearchCV(steps, grid, cv=2, refit=False).fit(X, y))
    assert [work.amount for work in works] == [30 * 2] * 2 + [30 * 3] * 2


@pytest.mark.parametrize("values", [[2, 4], [2.0, 4.0], numpy.array([2.0, 4.0]), numpy.array([2, 4])])
def test_numbers_of_any_kind_count(recorded: Recorded, values: Any) -> None:
    works = _works(recorded, lambda: GridSearchCV(Own(), {"max_iter": values}, cv=2, refit=False).fit(X, y))
    assert [work.amount for work in works] == [30 * 2] * 2 + [30 * 4] * 2


class Own(BaseEstimator):  # type: ignore[misc]
    """Somebody's own."""

    def __init__(self, max_iter: Any = 1, epochs: Any = 1) -> None:
        self.max_iter = max_iter
        self.epochs = epochs

    def fit(self, X: Any, y: Any) -> Any:
        return self

    def score(self, X: Any, y: Any) -> float:
        return 1.0


class Mute(Own):
    """Does not tell its parameters."""

    def get_params(self, deep: bool = True) -> Any:
        raise RuntimeError("no parameters")


class NoWords:
    """A parameter that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [None, "auto", True, 0, -1, float("nan"), [3], object()])
def test_what_is_no_amount_does_not_count(value: Any) -> None:
    work = estimate_work({"estimator": Own(value), "train": range(7), "parameters": {"epochs": 3}})
    assert work is not None
    assert work.amount == 7 * 3


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"estimator": Own()},
        {"estimator": object(), "train": range(3)},
        {"estimator": Mute(), "train": range(3)},
        {"estimator": Own(), "train": range(3), "parameters": {"max_iter": NoWords()}},
        {"estimator": Own(), "train": range(3), "parameters": {"max_iter": 10**400}},
        {"estimator": Own(), "train": None},
        {"estimator": Own(), "train": range(3), "parameters": {"max_iter": math.inf}},
        {"estimator": Own(), "train": range(3), "parameters": {"max_iter": 1e200, "epochs": 1e200}},
    ],
)
def test_where_nothing_can_be_told_there_is_no_work(arguments: Any) -> None:
    assert estimate_work(arguments) is None


# ------------------------------------------------------------------------------------------------- learning


def test_before_the_first_fit_the_amount_stands_for_its_length() -> None:
    lengths = DurationModel()
    assert lengths.expected(WorkEstimate("a", 10)) == 10
    assert lengths.expected(WorkEstimate("b", 20)) == 20


def test_another_candidate_is_expected_at_the_speed_so_far() -> None:
    lengths = DurationModel()
    lengths.learn(WorkEstimate("a", 10), 1.0)
    assert lengths.expected(WorkEstimate("b", 30)) == pytest.approx(3.0)
    lengths.learn(WorkEstimate("b", 30), 7.0)
    assert lengths.expected(WorkEstimate("c", 10)) == pytest.approx(2.0)


def test_a_candidates_other_folds_take_as_long_as_its_last() -> None:
    lengths = DurationModel()
    lengths.learn(WorkEstimate("a", 10), 1.0)
    lengths.learn(WorkEstimate("slow", 10), 60.0)
    assert lengths.expected(WorkEstimate("slow", 10)) == 60.0
    lengths.learn(WorkEstimate("slow", 10), 50.0)
    assert lengths.expected(WorkEstimate("slow", 10)) == 50.0
    assert lengths.expected(WorkEstimate("a", 10)) == 1.0


def test_a_candidate_on_other_rows_takes_its_share() -> None:
    """Learning curves, and halving searches with samples as their resource."""
    lengths = DurationModel()
    lengths.learn(WorkEstimate("a", 10), 1.0)
    assert lengths.expected(WorkEstimate("a", 100)) == pytest.approx(10.0)


def test_candidates_are_not_remembered_without_end() -> None:
    lengths = DurationModel()
    for number in range(MAX_CANDIDATES + 10):
        lengths.learn(WorkEstimate(str(number), 1), 2.0)
    assert len(lengths._of_candidate) <= MAX_CANDIDATES
    assert lengths.expected(WorkEstimate("0", 1)) == pytest.approx(2.0)


def test_a_fit_of_no_time_and_no_rows() -> None:
    lengths = DurationModel()
    lengths.learn(WorkEstimate("a", 0), 0.0)
    assert lengths.expected(WorkEstimate("b", 0)) == 0.0
    assert lengths.expected(WorkEstimate("a", 0)) == 0.0


# ------------------------------------------------------------------------------------------------- real searches


def _longest_first(works: list[WorkEstimate], look_ahead: int) -> list[WorkEstimate]:
    lengths = DurationModel()
    return [works[number] for number in _order([lengths.expected(work) for work in works], look_ahead)]


def test_a_searchs_longest_fits_go_first_within_the_look_ahead(recorded: Recorded) -> None:
    forest = RandomForestClassifier(random_state=0)
    grid = {"n_estimators": [1, 2, 4, 8]}
    works = _works(recorded, lambda: GridSearchCV(forest, grid, cv=2, refit=False).fit(X, y))
    amounts = [work.amount / 30 for work in _longest_first(works, len(works))]
    assert amounts == [8, 8, 4, 4, 2, 2, 1, 1]
    amounts = [work.amount / 30 for work in _longest_first(works, 4)]
    assert amounts == [2, 2, 1, 1, 8, 8, 4, 4]


def test_a_learning_curves_longest_fits_go_first(recorded: Recorded) -> None:
    sizes = [0.25, 0.5, 1.0]
    works = _works(recorded, lambda: learning_curve(LogisticRegression(), X, y, cv=2, train_sizes=sizes))
    rows = [work.amount / LogisticRegression().max_iter for work in _longest_first(works, len(works))]
    assert rows == [30, 30, 15, 15, 7, 7]


def test_a_halving_searchs_candidates_are_known_from_its_first_round(recorded: Recorded) -> None:
    tree = DecisionTreeClassifier(random_state=0)
    search = HalvingGridSearchCV(tree, {"max_depth": [1, 2, 3, 4]}, cv=2, min_resources=15, factor=2, refit=False)
    works = _works(recorded, lambda: search.fit(X, y))
    first, later = works[:8], works[8:]
    assert later
    assert {work.candidate for work in later} <= {work.candidate for work in first}
    assert min(work.amount for work in later) > max(work.amount for work in first)
