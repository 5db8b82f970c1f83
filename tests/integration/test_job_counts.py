"""Estimators get the number of jobs of plain joblib, or the width if their results do not depend on the number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy
import pytest
from distributed import Client
from forked_workers import two_forked_workers
from sklearn.datasets import load_iris, make_regression
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.ensemble import BaggingClassifier, IsolationForest
from sklearn.feature_selection import RFECV
from sklearn.linear_model import LogisticRegression, TheilSenRegressor
from sklearn.manifold import MDS
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier
from waiting import DEADLINE

from skjob.engine.backend import SkjobBackend
from skjob.engine.fidelity.job_counts import WIDTH_INDEPENDENT, plain_number
from skjob.engine.joblib_calls import calls_of

WIDTH = 5


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers of a cluster that may scale up to five threads."""
    with two_forked_workers() as client:
        yield client


@pytest.fixture
def backend(client: Client) -> SkjobBackend:
    return SkjobBackend(client, width=WIDTH, wait_for_workers=DEADLINE)


def _bagging(n_jobs: int | None) -> Any:
    model = BaggingClassifier(DecisionTreeClassifier(), n_estimators=9, random_state=0, n_jobs=n_jobs)
    model.fit(*load_iris(return_X_y=True))
    return [tree.tree_.threshold for tree in model.estimators_]


def _isolation(n_jobs: int | None) -> Any:
    model = IsolationForest(n_estimators=9, random_state=0, n_jobs=n_jobs).fit(load_iris().data)
    return [tree.tree_.threshold for tree in model.estimators_]


def _feature_elimination(n_jobs: int | None) -> Any:
    model = RFECV(LogisticRegression(max_iter=200), cv=3, n_jobs=n_jobs).fit(*load_iris(return_X_y=True))
    return [model.ranking_, model.cv_results_["mean_test_score"]]


def _theil_sen(n_jobs: int | None) -> Any:
    X, y = make_regression(40, 3, random_state=0)
    model = TheilSenRegressor(random_state=0, max_subpopulation=300, n_jobs=n_jobs).fit(X, y)
    return [model.coef_, model.intercept_]


INDEPENDENT: dict[tuple[str, str], list[Callable[[int | None], Any]]] = {
    ("sklearn.ensemble._bagging", "_fit"): [_bagging, _isolation],
    ("sklearn.feature_selection._rfe", "fit"): [_feature_elimination],
    ("sklearn.linear_model._theil_sen", "fit"): [_theil_sen],
}


def _same(one: Any, other: Any) -> bool:
    return all(numpy.array_equal(left, right) for left, right in zip(one, other, strict=True))


def test_every_width_independent_function_is_tested() -> None:
    assert set(INDEPENDENT) == WIDTH_INDEPENDENT


@pytest.mark.parametrize(
    "fit",
    [
        pytest.param(fit, marks=[pytest.mark.slow] * (fit is not _feature_elimination))
        for fits in INDEPENDENT.values()
        for fit in fits
    ],
)
def test_results_do_not_depend_on_the_number_of_jobs(fit: Callable[[int | None], Any], backend: SkjobBackend) -> None:
    expected = fit(1)
    for n_jobs in (2, 3):
        assert _same(fit(n_jobs), expected), n_jobs
    with joblib.parallel_config(backend=backend):
        for n_jobs in (None, -1):
            assert _same(fit(n_jobs), expected), n_jobs


@pytest.mark.usefixtures("send_small_calls_to_workers")
def test_width_independent_estimator_gets_one_part_per_thread(
    backend: SkjobBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Any] = []
    submit = SkjobBackend.submit

    def recording_submit(self: SkjobBackend, func: Any, callback: Any = None) -> Any:
        parts.extend(calls_of(func))
        return submit(self, func, callback)

    monkeypatch.setattr(SkjobBackend, "submit", recording_submit)
    with joblib.parallel_config(backend=backend):
        _bagging(None)
    assert len(parts) == WIDTH


def _embedding(n_jobs: int | None) -> Any:
    model = MDS(n_init=4, max_iter=30, random_state=7, init="random", n_jobs=n_jobs, normalized_stress="auto")
    return [model.fit_transform(load_iris().data[::5]), model.stress_]


def _topics(n_jobs: int | None) -> Any:
    counts = numpy.random.default_rng(0).integers(0, 5, (60, 12))
    return [LatentDirichletAllocation(4, max_iter=3, random_state=0, n_jobs=n_jobs).fit_transform(counts)]


@pytest.mark.parametrize("fit", [_embedding, _topics])
@pytest.mark.parametrize("n_jobs", [None, 2, 3])
def test_width_dependent_estimator_gets_the_number_of_plain_joblib(
    fit: Callable[[int | None], Any], n_jobs: int | None, backend: SkjobBackend
) -> None:
    expected = fit(n_jobs)
    with joblib.parallel_config(backend=backend):
        assert _same(fit(n_jobs), expected)


def test_parallel_config_of_the_program_applies(backend: SkjobBackend) -> None:
    with joblib.parallel_config(backend=backend):
        assert joblib.effective_n_jobs(None) == 1
        assert joblib.effective_n_jobs(-1) == plain_number(-1)
        with joblib.parallel_config(n_jobs=3):
            assert joblib.effective_n_jobs(None) == 3
            assert joblib.Parallel()._effective_n_jobs() == WIDTH


class _Topics(LatentDirichletAllocation):
    """A topic model with another score."""

    def score(self, X: Any, y: Any = None) -> float:
        return float(self.components_.sum())


@pytest.mark.parametrize("n_jobs", [None, 2, -1])
def test_number_of_jobs_in_a_task_is_that_of_the_programs_machine(n_jobs: int | None, backend: SkjobBackend) -> None:
    counts = numpy.random.default_rng(0).integers(0, 5, (60, 12))
    model = _Topics(4, max_iter=3, random_state=0, n_jobs=n_jobs)
    expected = cross_val_score(model, counts, cv=3)
    with joblib.parallel_config(backend=backend):
        assert numpy.array_equal(cross_val_score(model, counts, cv=3), expected)
