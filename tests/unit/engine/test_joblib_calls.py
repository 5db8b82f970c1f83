"""What joblib hands over, taken from real calls of scikit-learn: which are fits, and what messages call them."""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, NoReturn

import joblib
import numpy
import pytest
from joblib.parallel import BatchedCalls
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import possible
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skjob.engine.joblib_calls import MAX_SHOWN_LENGTH, calls_of, describe, fit_arguments, iter_nested, label

X = numpy.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)

Recorded = Callable[..., Any]


def _drawn() -> Any:
    chosen = {"C": [numpy.float64(606.28)], "kernel": [numpy.str_("rbf")], "class_weight": [{0: numpy.float64(0.5)}]}
    return GridSearchCV(SVC(), chosen, cv=2).fit(X, y)


def _grid() -> Any:
    return GridSearchCV(SVC(), {"C": [1, 10], "kernel": ["linear"]}, cv=2).fit(X, y)


def _pipeline() -> Any:
    steps = make_pipeline(PCA(2), SVC())
    return GridSearchCV(steps, {"pca__n_components": [1], "svc__C": [0.1]}, cv=2).fit(X, y)


def _steps() -> Any:
    steps = make_pipeline(PCA(2), SVC())
    return GridSearchCV(steps, {"svc": [SVC(C=3), DecisionTreeClassifier()]}, cv=2).fit(X, y)


def _randomized() -> Any:
    return RandomizedSearchCV(SVC(), {"C": [1.5]}, n_iter=1, cv=3).fit(X, y)


def _halving() -> Any:
    tree = DecisionTreeClassifier(random_state=0)
    return HalvingGridSearchCV(tree, {"max_depth": [1, 2]}, cv=2, min_resources=30, factor=2).fit(X, y)


FITS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "grid": (
        _grid,
        [
            "the fit of `SVC` with C=1, kernel='linear' on fold 1 of 2",
            "the fit of `SVC` with C=1, kernel='linear' on fold 2 of 2",
            "the fit of `SVC` with C=10, kernel='linear' on fold 1 of 2",
            "the fit of `SVC` with C=10, kernel='linear' on fold 2 of 2",
        ],
    ),
    "pipeline": (
        _pipeline,
        [f"the fit of `Pipeline` with pca__n_components=1, svc__C=0.1 on fold {fold} of 2" for fold in (1, 2)],
    ),
    "steps": (
        _steps,
        [
            f"the fit of `Pipeline` with svc={step} on fold {fold} of 2"
            for step in ("SVC(C=3)", "DecisionTreeClassifier()")
            for fold in (1, 2)
        ],
    ),
    "randomized": (_randomized, [f"the fit of `SVC` with C=1.5 on fold {fold} of 3" for fold in (1, 2, 3)]),
    "drawn": (
        _drawn,
        [f"the fit of `SVC` with C=606.28, class_weight={{0: 0.5}}, kernel='rbf' on fold {n} of 2" for n in (1, 2)],
    ),
    "halving": (
        _halving,
        [
            f"the fit of `DecisionTreeClassifier` with max_depth={depth} on fold {fold} of 2"
            for depth in (1, 2)
            for fold in (1, 2)
        ],
    ),
    "cross_validate": (lambda: cross_validate(SVC(), X, y, cv=3), ["the fit of `SVC`"] * 3),
    "cross_val_score": (lambda: cross_val_score(SVC(), X, y, cv=2), ["the fit of `SVC`"] * 2),
    "learning_curve": (
        lambda: learning_curve(SVC(), X, y, cv=2, train_sizes=[0.5, 1.0]),
        ["the fit of `SVC`"] * 4,
    ),
    "incremental": (
        lambda: learning_curve(SGDClassifier(), X, y, cv=2, train_sizes=[0.5, 1.0], exploit_incremental_learning=True),
        ["the fit of `SGDClassifier`"] * 2,
    ),
    "validation_curve": (
        lambda: validation_curve(SVC(), X, y, param_name="C", param_range=[1, 2], cv=2),
        ["the fit of `SVC` with C=1", "the fit of `SVC` with C=2"] * 2,
    ),
}


@pytest.mark.parametrize(("run", "names"), FITS.values(), ids=FITS)
def test_a_fit_is_named_by_estimator_parameters_and_fold(
    recorded: Recorded, run: Callable[[], Any], names: list[str]
) -> None:
    with recorded() as calls:
        run()
    assert [describe(call) for call in calls][: len(names)] == names
    for call in calls:
        arguments = fit_arguments(call)
        assert arguments is not None
        assert arguments["estimator"] is call[1][0]
        assert arguments["X"] is call[1][1]
        assert numpy.array_equal(arguments["X"], X)
        assert set(arguments["train"]).isdisjoint(arguments["test"])


@pytest.mark.parametrize(("run", "names"), FITS.values(), ids=FITS)
def test_its_label_is_short_and_made_of_what_a_key_may_have(
    recorded: Recorded, run: Callable[[], Any], names: list[str]
) -> None:
    with recorded() as calls:
        run()
    function = "incremental_fit_estimator" if "SGD" in names[0] else "fit_and_score"
    assert {label([call]) for call in calls} == {f"{function}-{type(calls[0][1][0]).__name__}"}


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "cross_val_predict": (lambda: cross_val_predict(SVC(), X, y, cv=2), "fit_and_predict-SVC"),
    "permutation_test_score": (
        lambda: permutation_test_score(SVC(), X, y, cv=2, n_permutations=2),
        "permutation_test_score-SVC",
    ),
    "bagging": (lambda: BaggingClassifier(n_estimators=2).fit(X, y), "parallel_build_estimators"),
    "forest": (
        lambda: RandomForestClassifier(3, n_jobs=2).fit(X, y),
        "parallel_build_trees-DecisionTreeClassifier",
    ),
    "a user's function": (lambda: joblib.Parallel()(joblib.delayed(abs)(number) for number in range(2)), "abs"),
    "a lambda": (lambda: joblib.Parallel()(joblib.delayed(lambda: 1)() for _ in range(2)), "lambda"),
    "a method": (
        lambda: joblib.Parallel()(joblib.delayed("text".count)(letter) for letter in "te"),
        "count",
    ),
    "a partial": (lambda: joblib.Parallel()(joblib.delayed(partial(max, 3))(number) for number in range(2)), "partial"),
}


@pytest.mark.parametrize(("run", "name"), OTHERS.values(), ids=OTHERS)
def test_other_calls_are_named_by_their_function(recorded: Recorded, run: Callable[[], Any], name: str) -> None:
    with recorded() as calls:
        run()
    assert calls
    assert {label([call]) for call in calls} == {name}
    assert {describe(call) for call in calls} == {f"`{name}`"}
    assert [fit_arguments(call) for call in calls] == [None] * len(calls)


def test_a_function_of_that_name_is_no_fit_of_scikit_learn() -> None:
    def _fit_and_score(estimator: Any, X: Any) -> None:
        raise AssertionError

    call = (_fit_and_score, (SVC(), X), {})
    assert fit_arguments(call) is None
    assert describe(call) == "`fit_and_score-SVC`"


def test_a_fit_of_another_signature_is_no_fit(recorded: Recorded) -> None:
    """Of a later scikit-learn, say: it runs all the same, under its function's name."""
    with recorded() as calls:
        cross_validate(SVC(), X, y, cv=2)
    function, arguments, keywords = calls[0]
    call = (function, arguments, {**keywords, "of_a_later_version": 1})
    assert fit_arguments(call) is None
    assert describe(call) == "`fit_and_score-SVC`"


# ------------------------------------------------------------------------------------------------- odd objects


class OddValue:
    """A parameter that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class OddEstimator(BaseEstimator):  # type: ignore[misc]
    """Tells nothing of itself."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        raise RuntimeError("no words")

    def fit(self, X: Any, y: Any) -> Any:
        return self

    def score(self, X: Any, y: Any) -> float:
        return 1.0


class OddCallable:
    """Answers no question but with an error."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError("no attributes")

    def __call__(self) -> int:
        return 1


def test_an_estimator_that_can_not_be_shown_has_its_class_name(recorded: Recorded) -> None:
    with recorded() as calls:
        cross_validate(OddEstimator(), X, y, cv=2)
    assert describe(calls[0]) == "the fit of `OddEstimator`"
    assert label(calls[:1]) == "fit_and_score-OddEstimator"


def test_a_parameter_that_can_not_be_shown_is_no_reason_to_fail(recorded: Recorded) -> None:
    with recorded() as calls:
        GridSearchCV(OddEstimator(), {"value": [OddValue()]}, cv=2, refit=False).fit(X, y)
    assert describe(calls[0]) == "`batch`"
    assert label(calls[:1]) == "fit_and_score-OddEstimator"


def test_a_long_or_many_lined_parameter_is_cut(recorded: Recorded) -> None:
    values = ["x" * 100, numpy.arange(1000).reshape(10, 100)]
    with recorded() as calls:
        GridSearchCV(OddEstimator(), {"value": values}, cv=2, refit=False).fit(X, y)
    text, array = describe(calls[0]), describe(calls[2])
    assert text == f"the fit of `OddEstimator` with value='{'x' * (MAX_SHOWN_LENGTH - 2)}… on fold 1 of 2"
    assert array.startswith("the fit of `OddEstimator` with value=array([[ 0, 1, 2,")
    assert "\n" not in array
    assert len(array) < MAX_SHOWN_LENGTH + 70


@pytest.mark.parametrize(
    ("call", "name"),
    [((OddCallable(), (), {}), "batch"), ((abs, (OddCallable(),), {}), "abs"), ((None, (), {}), "NoneType")],
)
def test_an_object_that_answers_with_errors_has_a_name(call: Any, name: str) -> None:
    assert label([call]) == name
    assert describe(call) == f"`{name}`"


def test_an_object_that_answers_with_errors_is_no_fit() -> None:
    assert fit_arguments((OddCallable(), (), {})) is None


# ------------------------------------------------------------------------------------------------- batches


def test_the_calls_of_a_batch() -> None:
    items = [(abs, (-1,), {}), (sorted, ([2, 1],), {"reverse": True})]
    batch = BatchedCalls(items, (None, None))
    assert calls_of(batch) == items
    assert calls_of(OddEstimator) == [(OddEstimator, (), {})]


class Model:
    """Something with a method."""

    def predict(self) -> int:
        return 1


MODEL, DATA, MORE = Model(), {"a": 1}, {"b": 2}


def _closure() -> Any:
    data = DATA
    return lambda more=MORE: (data, more)


def _empty_cell() -> Any:
    def function() -> Any:
        return later

    if MODEL is None:
        later = 1
    return function


def _told(found: Any) -> list[Any]:
    """What is found, the functions that are made anew by their names."""
    return [
        getattr(part, "__name__", "function") if isinstance(part, FunctionType | partial) else part for part in found
    ]


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        ((sorted, (DATA,), {"reverse": True}), [DATA, True, sorted]),
        ((MODEL.predict, (), {}), [MODEL, MODEL.predict]),
        ((partial(sorted, DATA, key=MORE), (), {}), [DATA, MORE, sorted, "function"]),
        ((partial(MODEL.predict), (), {}), [MODEL, MODEL.predict, "function"]),
        ((_closure(), (), {}), [DATA, MORE, "<lambda>"]),
        ((_empty_cell(), (), {}), ["function"]),
        ((len, ((DATA, [MORE]),), {}), [DATA, MORE, [MORE], (DATA, [MORE]), len]),
        ((len, ([[[[DATA]]]],), {}), [[DATA], [[DATA]], [[[DATA]]], [[[[DATA]]]], len]),
        ((len, ([DATA] * 1000,), {}), [[DATA] * 1000, len]),
        ((Model, (), {}), [Model]),
    ],
)
def test_what_is_inside_comes_before_what_is_around_it(call: Any, parts: list[Any]) -> None:
    assert _told(iter_nested([call])) == parts


def test_scikit_learns_wrapper_is_looked_into(recorded: Recorded) -> None:
    with recorded() as calls:
        cross_validate(SVC(), X, y, cv=2)
    found = [*iter_nested(calls[:1])]
    assert any(part is calls[0][1][0] for part in found)
    assert any(part is calls[0][1][1] for part in found)
    assert [getattr(part, "__name__", "") for part in found[-2:]] == ["_fit_and_score", "_fit_and_score"]
    assert found[-1] is calls[0][0]


@pytest.mark.parametrize("make", [OddCallable, lambda: OddEstimator(OddValue()), OddValue])
def test_odd_objects_are_parts_like_any_other(make: Callable[[], Any]) -> None:
    odd = make()
    assert [part is odd for part in iter_nested([(len, (odd,), {})])] == [True, False]
