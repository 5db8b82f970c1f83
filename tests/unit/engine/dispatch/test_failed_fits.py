"""A fit that ended its workers is reported as scikit-learn reports one that raised: held against the real thing."""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import numpy
import pytest
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import possible
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.svm import SVC

from skjob.engine.dispatch.failed_fits import failed_fit
from skjob.engine.joblib_calls import JoblibCall, fit_arguments

X = numpy.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)
FOLDS = [*StratifiedKFold(3).split(X, y)]
WEIGHTS = numpy.linspace(1, 2, 60)

ERROR = "it ended 3 workers"

Recorded = Callable[..., Any]


class Dying(SVC):  # type: ignore[misc]
    """Fails in every fit."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NoReturn:
        raise RuntimeError(ERROR)


class DyingIncremental(SGDClassifier):  # type: ignore[misc]
    """Fails in every part of a fit."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> NoReturn:
        raise RuntimeError(ERROR)


def _multi_metric(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    return {"a": 1.0, "b": 2.0}


SEARCHES: dict[str, Callable[..., Any]] = {
    "grid": lambda estimator, **options: GridSearchCV(estimator, {"C": [1, 2]}, cv=3, **options).fit(X, y),
    "grid, two metrics": lambda estimator, **options: GridSearchCV(
        estimator, {"C": [1, 2]}, cv=3, scoring=["accuracy", "f1"], **{**options, "refit": "f1"}
    ).fit(X, y),
    "grid, own metrics": lambda estimator, **options: GridSearchCV(
        estimator, {"C": [1, 2]}, cv=3, scoring=_multi_metric, **{**options, "refit": "a"}
    ).fit(X, y),
    "grid, train scores": lambda estimator, **options: GridSearchCV(
        estimator, {"C": [1, 2]}, cv=3, return_train_score=True, **options
    ).fit(X, y),
    "grid, weights": lambda estimator, **options: GridSearchCV(estimator, {"C": [1, 2]}, cv=3, **options).fit(
        X, y, sample_weight=WEIGHTS
    ),
    "grid, a kernel of pairs": lambda estimator, **options: GridSearchCV(
        estimator.set_params(kernel="precomputed"), {"C": [1, 2]}, cv=3, **options
    ).fit(X @ X.T, y),
    "randomized": lambda estimator, **options: RandomizedSearchCV(
        estimator, {"C": [1, 2]}, n_iter=2, cv=3, random_state=0, **options
    ).fit(X, y),
    "halving": lambda estimator, **options: HalvingGridSearchCV(
        estimator, {"C": [1, 2, 4, 8]}, cv=3, factor=2, min_resources=30, random_state=0, **options
    ).fit(X, y),
}

CURVES: dict[str, Callable[..., Any]] = {
    "cross_validate": lambda estimator, **options: cross_validate(estimator, X, y, cv=3, **options),
    "cross_validate, all of it": lambda estimator, **options: cross_validate(
        estimator, X, y, cv=3, scoring=["accuracy", "f1"], return_train_score=True, return_indices=True, **options
    ),
    "cross_val_score": lambda estimator, **options: cross_val_score(estimator, X, y, cv=3, **options),
    "learning_curve": lambda estimator, **options: learning_curve(
        estimator, X, y, cv=3, train_sizes=[0.5, 1.0], return_times=True, **options
    ),
    "validation_curve": lambda estimator, **options: validation_curve(
        estimator, X, y, param_name="C", param_range=[1, 2], cv=3, **options
    ),
}

ALL = {**SEARCHES, **CURVES}


def _calls(recorded: Recorded, run: Callable[[], Any]) -> list[JoblibCall]:
    """The calls of a run that is of no interest itself. They are as they were sent: none of them has run here."""

    def fail(call: JoblibCall) -> Any:
        return failed_fit(call, RuntimeError(ERROR))

    with recorded(fail) as calls, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(ValueError):  # none of the fits has succeeded
            run()
    assert len(calls) >= 3
    return list(calls)


def _without_times(result: dict[str, Any]) -> dict[str, Any]:
    return {
        name: type(value) if name.endswith("time") else value for name, value in result.items() if name != "fit_error"
    }


# ------------------------------------------------------------------------------------------------- one result


@pytest.mark.parametrize("run", ALL.values(), ids=ALL)
@pytest.mark.parametrize("error_score", [math.nan, -1.0, 0])
def test_the_result_is_that_of_a_fit_which_raised(
    recorded: Recorded, run: Callable[..., Any], error_score: float
) -> None:
    for call in _calls(recorded, lambda: run(Dying(), error_score=error_score))[:4]:
        result = failed_fit(call, RuntimeError(ERROR))
        function, arguments, keywords = call
        really = function(*arguments, **keywords)
        assert list(result) == list(really)
        numpy.testing.assert_equal(_without_times(result), _without_times(really))
        assert result["fit_error"].splitlines()[-1] == f"RuntimeError: {ERROR}"
        assert really["fit_error"].splitlines()[-1] == f"RuntimeError: {ERROR}"


def test_the_estimator_is_the_one_that_was_to_be_fitted(recorded: Recorded) -> None:
    for call in _calls(recorded, lambda: cross_validate(Dying(C=3), X, y, cv=3, return_estimator=True)):
        result = failed_fit(call, RuntimeError(ERROR))
        assert type(result["estimator"]) is Dying
        assert result["estimator"].C == 3


def test_verbose_output_names_the_parameters(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    search = GridSearchCV(Dying(), {"C": [1]}, cv=3, verbose=3)
    call = _calls(recorded, lambda: search.fit(X, y))[0]
    capsys.readouterr()
    failed_fit(call, RuntimeError(ERROR))
    mine = capsys.readouterr().out
    function, arguments, keywords = call
    function(*arguments, **keywords)
    assert mine == capsys.readouterr().out
    assert "C=1" in mine


def test_parameters_decide_whether_data_is_of_pairs(recorded: Recorded) -> None:
    search = GridSearchCV(Dying(kernel="precomputed"), {"kernel": ["rbf"]}, cv=3)
    for call in _calls(recorded, lambda: search.fit(X, y)):
        assert failed_fit(call, RuntimeError(ERROR))["n_test_samples"] == 20


def test_the_estimator_and_its_parameters_are_left_as_they_were(recorded: Recorded) -> None:
    call = _calls(recorded, lambda: GridSearchCV(Dying(C=7), {"C": [1]}, cv=3).fit(X, y))[0]
    failed_fit(call, RuntimeError(ERROR))
    arguments = fit_arguments(call)
    assert arguments is not None
    assert (arguments["estimator"].C, arguments["parameters"]) == (7, {"C": 1})


# ------------------------------------------------------------------------------------------------- none


@pytest.mark.parametrize("run", ALL.values(), ids=ALL)
def test_where_errors_are_to_be_raised_there_is_no_result(recorded: Recorded, run: Callable[..., Any]) -> None:
    asked = []

    def fail(call: JoblibCall) -> NoReturn:
        asked.append(failed_fit(call, RuntimeError(ERROR)))
        raise RuntimeError(ERROR)

    with recorded(fail), pytest.raises(RuntimeError, match=ERROR):
        run(Dying(), error_score="raise")
    assert set(asked) == {None}


@pytest.mark.parametrize("call", [(abs, (-1,), {}), (SVC().fit, (X, y), {}), (cross_validate, (SVC(), X, y), {})])
def test_of_a_call_that_is_no_fit_there_is_no_result(call: JoblibCall) -> None:
    assert failed_fit(call, RuntimeError(ERROR)) is None


def test_where_scikit_learn_itself_raises_there_is_no_result(recorded: Recorded) -> None:
    """An incremental learning curve gives failed fits no score, whatever `error_score` is."""

    def curve(estimator: Any) -> Any:
        return learning_curve(
            estimator, X, y, cv=3, train_sizes=[0.5], exploit_incremental_learning=True, error_score=0
        )

    with recorded(), pytest.raises(RuntimeError, match=ERROR):
        curve(DyingIncremental())
    with recorded() as calls:
        curve(SGDClassifier())
    with pytest.raises(RuntimeError, match=ERROR):
        failed_fit(calls[0], RuntimeError(ERROR))


# ------------------------------------------------------------------------------------------------- all of it

TRAINED = {len(train): X[train].sum() for train, _ in FOLDS[1:2]}


class DyingOnce(SVC):  # type: ignore[misc]
    """Fails with C=2 on the second fold of three."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        if self.C == 2 and TRAINED.get(len(X)) == X.sum():
            raise RuntimeError(ERROR)
        return super().fit(X, y, sample_weight)


def _ends_workers(call: JoblibCall) -> bool:
    """C=2 on the second fold of three."""
    arguments = fit_arguments(call)
    assert arguments is not None
    parameters = arguments["parameters"] or {"C": arguments["estimator"].C}
    train = arguments["train"]
    return bool(parameters["C"] == 2 and TRAINED.get(len(train)) == arguments["X"][train].sum())


def _ended(run: Callable[[], Any]) -> tuple[Any, list[tuple[type[Warning], str]]]:
    """What a run returns, and the first line of each of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run()
    return result, [(warning.category, str(warning.message).strip().splitlines()[0]) for warning in caught]


def _scores(result: Any) -> Any:
    """What can be compared in it: all but times, classes and the text of estimators."""
    table = getattr(result, "cv_results_", result)
    if isinstance(table, dict):
        return {
            name: numpy.ma.getdata(value).tolist()
            for name, value in table.items()
            if "time" not in name and name != "indices"
        }
    return [numpy.asarray(part).tolist() for part in (table[:3] if isinstance(table, tuple) else [table])]


COMPLETE = {
    name: run for name, run in ALL.items() if name not in ("grid, a kernel of pairs", "halving")
}  # their folds are not those above


@pytest.mark.parametrize("run", COMPLETE.values(), ids=COMPLETE)
def test_a_run_with_one_such_fit_ends_as_with_one_that_raised(recorded: Recorded, run: Callable[..., Any]) -> None:
    lost = []

    def instead(call: JoblibCall) -> Any:
        if not _ends_workers(call):
            return None
        lost.append(call)
        return failed_fit(call, RuntimeError(ERROR))

    C = 2 if run in CURVES.values() else 1
    with recorded(instead):
        result, warned = _ended(lambda: run(SVC(C=C)))
    really, really_warned = _ended(lambda: run(DyingOnce(C=C)))
    assert len(lost) == 1
    assert warned == really_warned
    if run is not CURVES["validation_curve"]:  # which warns of nothing
        assert warned[0][0] is FitFailedWarning
        assert " fits failed out of a total of " in warned[0][1]
    numpy.testing.assert_equal(_scores(result), _scores(really))
    assert "nan" in repr(_scores(result))


@pytest.mark.parametrize("C", [1, 2])
def test_a_search_goes_on_to_its_best_fit(recorded: Recorded, C: int) -> None:
    """All fits of one candidate end their workers: the other one wins, and is fitted again."""

    def instead(call: JoblibCall) -> Any:
        arguments = fit_arguments(call)
        assert arguments is not None
        return failed_fit(call, RuntimeError(ERROR)) if arguments["parameters"]["C"] == C else None

    with recorded(instead):
        search, warned = _ended(lambda: GridSearchCV(SVC(), {"C": [1, 2]}, cv=3).fit(X, y))
    assert search.best_params_ == {"C": 3 - C}
    assert [math.isnan(score) for score in search.cv_results_["mean_test_score"]] == [C == 1, C == 2]
    assert search.cv_results_["rank_test_score"].tolist() == ([2, 1] if C == 1 else [1, 2])
    assert (search.predict(X) == SVC(C=3 - C).fit(X, y).predict(X)).all()
    assert [category for category, _ in warned] == [FitFailedWarning, UserWarning]


def test_a_halving_search_goes_on(recorded: Recorded) -> None:
    """Its failed candidate does not come into the next round."""

    def instead(call: JoblibCall) -> Any:
        arguments = fit_arguments(call)
        assert arguments is not None
        return failed_fit(call, RuntimeError(ERROR)) if arguments["parameters"]["C"] == 2 else None

    with recorded(instead):
        search, warned = _ended(lambda: SEARCHES["halving"](SVC()))
    results = search.cv_results_
    rounds = [iteration for iteration, C in zip(results["iter"], results["param_C"], strict=True) if C == 2]
    assert rounds == [0]
    assert max(results["iter"]) == 1
    assert FitFailedWarning in [category for category, _ in warned]


def test_where_all_fail_scikit_learn_says_so_with_what_happened(recorded: Recorded) -> None:
    def instead(call: JoblibCall) -> Any:
        return failed_fit(call, RuntimeError(ERROR))

    with recorded(instead), pytest.raises(ValueError, match=rf"(?s)All the 6 fits failed.*RuntimeError: {ERROR}"):
        GridSearchCV(SVC(), {"C": [1, 2]}, cv=3).fit(X, y)
