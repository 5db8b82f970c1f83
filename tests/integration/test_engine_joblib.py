"""Parts of scikit-learn that use joblib in special ways, on a real cluster: the results are those of n_jobs=1."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy
import pytest
from distributed import Client, LocalCluster
from forked_workers import forked_workers
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, ExtraTreesRegressor, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LassoCV, LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import (
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from waiting import DEADLINE

from skjob.engine.backend import SkjobBackend

X, Y = load_iris(return_X_y=True)
# Large enough to be shared instead of sent with each task.
X = numpy.tile(X, (25, 1)) + numpy.random.default_rng(0).normal(size=(25 * len(X), X.shape[1]))
Y = numpy.tile(Y, 25)
assert X.nbytes > 100_000
TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
LINEAR = make_pipeline(StandardScaler(), LogisticRegression())

pytestmark = pytest.mark.usefixtures("send_small_calls_to_workers")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        forked_workers(),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _cross_validate(n_jobs: int) -> Any:
    scores = cross_validate(
        LINEAR, X, Y, cv=4, scoring=["accuracy", "f1_macro"], return_train_score=True, n_jobs=n_jobs
    )
    return [scores[name] for name in sorted(scores) if not name.endswith("_time")]


def _bagging(n_jobs: int) -> Any:
    fitted = BaggingClassifier(TREE, 12, random_state=0, n_jobs=n_jobs).fit(X, Y)
    # predict_proba adds up one part for each job, with any backend, which changes sums in the last bit.
    return [fitted.set_params(n_jobs=1).predict_proba(X), fitted.set_params(n_jobs=n_jobs).predict(X)]


def _voting(n_jobs: int) -> Any:
    voting = VotingClassifier([("tree", TREE), ("linear", LINEAR)], voting="soft", n_jobs=n_jobs).fit(X, Y)
    return [voting.predict_proba(X)]


def _stacking(n_jobs: int) -> Any:
    return [StackingClassifier([("tree", TREE), ("linear", LINEAR)], cv=3, n_jobs=n_jobs).fit(X, Y).predict_proba(X)]


def _permutation_importance(n_jobs: int) -> Any:
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, Y)
    return [permutation_importance(fitted, X, Y, n_repeats=4, random_state=0, n_jobs=n_jobs).importances]


def _random_search(n_jobs: int) -> Any:
    space = {"logisticregression__C": [0.01, 0.1, 1, 10]}
    search = RandomizedSearchCV(LINEAR, space, n_iter=3, cv=3, random_state=0, n_jobs=n_jobs).fit(X, Y)
    return [search.cv_results_["mean_test_score"], numpy.array(search.best_score_)]


def _columns(n_jobs: int) -> Any:
    scaled = [("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2, 3])]
    return [ColumnTransformer(scaled, n_jobs=n_jobs).fit_transform(X)]


def _lasso(n_jobs: int) -> Any:
    fitted = LassoCV(cv=3, alphas=20, random_state=0, n_jobs=n_jobs).fit(X, Y)
    return [fitted.mse_path_, fitted.coef_]


def _trees(n_jobs: int) -> Any:
    return [ExtraTreesRegressor(10, random_state=0, n_jobs=n_jobs).fit(X, Y).predict(X)]


WORK: dict[str, Callable[[int], Any]] = {
    "cross_validate": _cross_validate,
    "cross_val_predict": lambda n_jobs: [cross_val_predict(LINEAR, X, Y, cv=3, n_jobs=n_jobs)],
    "learning_curve": lambda n_jobs: list(
        learning_curve(TREE, X, Y, cv=3, shuffle=True, random_state=0, n_jobs=n_jobs)
    ),
    "validation_curve": lambda n_jobs: list(
        validation_curve(TREE, X, Y, param_name="max_depth", param_range=[1, 2, 3], cv=3, n_jobs=n_jobs)
    ),
    "RandomizedSearchCV": _random_search,
    "RFECV": lambda n_jobs: [RFECV(TREE, cv=3, n_jobs=n_jobs).fit(X, Y).cv_results_["mean_test_score"]],
    "BaggingClassifier": _bagging,
    "ExtraTreesRegressor": _trees,
    "VotingClassifier": _voting,
    "StackingClassifier": _stacking,
    "OneVsRestClassifier": lambda n_jobs: [OneVsRestClassifier(LINEAR, n_jobs=n_jobs).fit(X, Y).predict_proba(X)],
    "MultiOutputRegressor": lambda n_jobs: [
        MultiOutputRegressor(ExtraTreesRegressor(3, random_state=0), n_jobs=n_jobs).fit(X, X[:, :2]).predict(X)
    ],
    "ColumnTransformer": _columns,
    "LassoCV": _lasso,
    "permutation_importance": _permutation_importance,
    "pairwise_distances": lambda n_jobs: [pairwise_distances(X[:300], metric="canberra", n_jobs=n_jobs)],
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_results_match_those_of_one_process(client: Client, work: Callable[[int], Any]) -> None:
    expected = work(1)
    with joblib.parallel_config(backend=SkjobBackend(client, wait_for_workers=DEADLINE), n_jobs=-1):
        results = work(-1)
    assert len(results) == len(expected)
    for result, serial in zip(results, expected, strict=True):
        numpy.testing.assert_array_equal(result, serial, strict=True)
