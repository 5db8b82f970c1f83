"""Which parameters are no part of a fit's key, and that they do not change what comes of a fit."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Memory
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import OPTICS, AgglomerativeClustering, FeatureAgglomeration
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, IsolationForest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - or another test has done it, or not
from sklearn.feature_selection import RFECV
from sklearn.linear_model import LogisticRegression, TheilSenRegressor
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

from skjob.engine.checkpoint.hashing import Hasher
from skjob.engine.checkpoint.irrelevant_parameters import (
    ANY_NUMBER_OF_JOBS,
    ANY_NUMBER_OF_JOBS_OF_LIBRARIES,
    IRRELEVANT,
    WITH_CACHE,
)
from skjob.engine.fidelity.job_counts import inner_backend
from skjob.engine.transfer.code_origin import Origins
from skjob.engine.transfer.task_pickler import content_key

X, Y = make_classification(n_samples=40, n_features=5, random_state=0)
TALKING = {name: kind for name, kind in all_estimators() if "verbose" in kind._get_param_names()}
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ClassifierChain": lambda: {"estimator": LogisticRegression()},
    "ColumnTransformer": lambda: {"transformers": [("scale", StandardScaler(), [0, 1])]},
    "FeatureUnion": lambda: {"transformer_list": [("scale", StandardScaler()), ("pca", PCA(2))]},
    "GridSearchCV": lambda: {"estimator": DecisionTreeClassifier(random_state=0), "param_grid": {"max_depth": [1, 2]}},
    "HalvingGridSearchCV": lambda: {
        "estimator": DecisionTreeClassifier(random_state=0), "param_grid": {"max_depth": [1, 2]}, "cv": 2,
    },
    "HalvingRandomSearchCV": lambda: {
        "estimator": DecisionTreeClassifier(random_state=0), "param_distributions": {"max_depth": [1, 2, 3]}, "cv": 2,
    },
    "OneVsRestClassifier": lambda: {"estimator": LogisticRegression()},
    "Pipeline": lambda: {"steps": [("scale", StandardScaler()), ("fit", LogisticRegression())]},
    "RFE": lambda: {"estimator": DecisionTreeClassifier(random_state=0)},
    "RFECV": lambda: {"estimator": DecisionTreeClassifier(random_state=0), "cv": 2},
    "RandomizedSearchCV": lambda: {
        "estimator": DecisionTreeClassifier(), "param_distributions": {"random_state": [1, 2, 3]}, "n_iter": 2,
    },
    "RegressorChain": lambda: {"estimator": DecisionTreeRegressor(random_state=0)},
    "SelfTrainingClassifier": lambda: {"estimator": LogisticRegression()},
    "StackingClassifier": lambda: {"estimators": [("tree", DecisionTreeClassifier(random_state=0))], "cv": 2},
    "StackingRegressor": lambda: {"estimators": [("tree", DecisionTreeRegressor(random_state=0))], "cv": 2},
    "TSNE": lambda: {"max_iter": 250, "perplexity": 3, "method": "exact"},
    "VotingClassifier": lambda: {"estimators": [("tree", DecisionTreeClassifier(random_state=0))]},
    "VotingRegressor": lambda: {"estimators": [("tree", DecisionTreeRegressor(random_state=0))]},
}  # fmt: skip
FEW = {"n_estimators": 3, "max_iter": 5, "n_init": 1, "n_components": 2, "n_epochs": 2, "max_subpopulation": 20}
"""So that a fit takes no time."""

TIMES = "_time"


FAST = {"FeatureUnion", "GaussianMixture", "LinearSVC", "Pipeline", "RandomForestClassifier", "SVC", "VotingClassifier"}
"""What `make test` runs of all classes that talk: of each kind one."""


def _slow_but_some(name: str) -> Any:
    return name if name in FAST else pytest.param(name, marks=pytest.mark.slow)


def digest(value: Any) -> bytes:
    return Hasher(Origins(None, {}), content_key).digest(value).value


def small(kind: type, **parameters: Any) -> Any:
    names = kind._get_param_names()  # type: ignore[attr-defined]
    chosen = {**{name: value for name, value in FEW.items() if name in names}, **PARTS.get(kind.__name__, dict)()}
    if "random_state" in names:
        chosen["random_state"] = 0
    with warnings.catch_warnings():  # of classes that a later scikit-learn no longer has
        warnings.simplefilter("ignore", FutureWarning)
        return kind(**{**chosen, **parameters})


def target(kind: type) -> Any:
    if kind.__name__.startswith("MultiTask"):
        return np.column_stack([Y, X[:, 0]]).astype(float)
    if kind.__name__ == "GammaRegressor":
        return Y + 1
    return np.column_stack([Y, X[:, 0] > 0]).astype(int) if kind.__name__.endswith("Chain") else Y


def fitted(model: Any) -> dict[str, Any]:
    """What comes of a fit: its attributes, its predictions and what it transforms to, without times."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        data = np.abs(X)
        model.fit(data, target(type(model)))
        found = {name: value for name, value in vars(model).items() if name.endswith("_") and TIMES not in name}
        for method in ("predict", "transform", "predict_proba", "score_samples"):
            if hasattr(model, method):
                found[method] = getattr(model, method)(data)
    if "cv_results_" in found:
        found["cv_results_"] = {name: part for name, part in found["cv_results_"].items() if TIMES not in name}
    return found


@pytest.mark.parametrize("name", [_slow_but_some(name) for name in sorted(TALKING)])
def test_an_estimator_that_talks_fits_the_same_and_has_the_same_key(name: str, capfd: Any) -> None:
    quiet, talking = small(TALKING[name], verbose=False), small(TALKING[name], verbose=True)
    assert digest(quiet) == digest(talking)
    assert digest(fitted(quiet)) == digest(fitted(talking))


@pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])
def test_how_often_a_mixture_talks_changes_nothing(kind: type) -> None:
    often, seldom = small(kind, verbose=2, verbose_interval=1), small(kind, verbose=2, verbose_interval=9)
    assert digest(often) == digest(seldom)
    assert digest(fitted(often)) == digest(fitted(seldom))


@pytest.mark.parametrize(
    ("package", "kind", "names"), [("xgboost", "XGBClassifier", "verbosity"), ("lightgbm", "LGBMClassifier", "verbose"),
                                   ("lightgbm", "LGBMRegressor", "verbosity")],
)  # fmt: skip
def test_a_booster_that_talks_fits_the_same_and_has_the_same_key(
    package: str, kind: str, names: str, capfd: Any
) -> None:
    make = getattr(pytest.importorskip(package), kind)
    quiet, talking = (make(n_estimators=2, n_jobs=1, random_state=0, **{names: value}) for value in (0, 1))
    assert digest(quiet) == digest(talking)
    assert digest(quiet) != digest(make(n_estimators=2, n_jobs=2, random_state=0, **{names: 0}))
    before, after = (model.fit(X, Y).predict(X) for model in (quiet, talking))
    assert before.tobytes() == after.tobytes()


def test_imbalanced_learns_classes_have_the_same_key() -> None:
    pytest.importorskip("imblearn")
    from imblearn.ensemble import BalancedRandomForestClassifier
    from imblearn.pipeline import Pipeline as BalancedPipeline

    assert digest(BalancedRandomForestClassifier(verbose=0)) == digest(BalancedRandomForestClassifier(verbose=1))
    steps = [("pca", PCA()), ("tree", DecisionTreeClassifier())]
    assert digest(BalancedPipeline(steps, memory="a")) == digest(BalancedPipeline(steps, memory="b"))


def test_each_package_of_the_table_has_a_test() -> None:
    assert set(IRRELEVANT) == {"sklearn", "sklearn.mixture", "imblearn", "xgboost", "lightgbm"}


STEPS = [("pca", PCA(2)), ("tree", DecisionTreeClassifier(random_state=0))]
CACHING: dict[str, Callable[[Any], Any]] = {
    "Pipeline": lambda memory: Pipeline(STEPS, memory=memory),
    "AgglomerativeClustering": lambda memory: AgglomerativeClustering(memory=memory),
    "FeatureAgglomeration": lambda memory: FeatureAgglomeration(memory=memory),
    "OPTICS": lambda memory: OPTICS(memory=memory),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CACHING))
def test_where_an_estimator_caches_is_no_part_of_its_key(name: str, tmp_path: Path) -> None:
    places = [str(tmp_path / "a"), tmp_path / "b", Memory(tmp_path / "c", verbose=0), Memory(tmp_path / "d", verbose=9)]
    keys = {digest(CACHING[name](place)) for place in places}
    assert len(keys) == 1
    cache = Memory(tmp_path / "c", verbose=0)  # filled by the first fit, and read by the second
    assert len({digest(fitted(CACHING[name](place))) for place in (None, cache, cache)}) == 1
    assert digest(CACHING[name](Memory(None))) == digest(CACHING[name](None)) not in keys


def test_each_class_that_caches_has_a_test() -> None:
    assert {name for module, name in WITH_CACHE if module.startswith("sklearn.")} == set(CACHING)


class OwnCache(Memory):
    """Which may change what it gives back."""


def test_a_cache_of_the_programs_own_is_a_part_of_the_key(tmp_path: Path) -> None:
    make = CACHING["Pipeline"]
    assert digest(make(OwnCache(tmp_path / "a", verbose=0))) != digest(make(OwnCache(tmp_path / "b", verbose=0)))


def test_a_cached_function_is_known_by_the_function(tmp_path: Path) -> None:
    def double(X: Any) -> Any:
        return 2 * X

    def triple(X: Any) -> Any:
        return 3 * X

    def keyed(function: Any, **options: Any) -> bytes:
        cached = [Memory(tmp_path / place, verbose=0).cache(function, **options) for place in "ab"]
        [key] = {digest(FunctionTransformer(each)) for each in cached}
        return key

    assert len({keyed(double), keyed(triple), keyed(double, ignore=["X"])}) == 3


def test_parts_of_pipelines_count_as_they_do_alone(tmp_path: Path) -> None:
    def nested(place: str, verbose: bool) -> Any:
        inner = make_pipeline(StandardScaler(), PCA(2), memory=str(tmp_path / place), verbose=verbose)
        union = FeatureUnion([("inner", inner)], verbose=verbose)
        columns = ColumnTransformer([("union", union, [0, 1, 2])], verbose=verbose)
        return make_pipeline(columns, SVC(verbose=verbose), memory=str(tmp_path / f"{place}2"), verbose=verbose)

    assert digest(nested("a", False)) == digest(nested("b", True))
    assert digest(nested("a", False)) != digest(nested("a", False).set_params(svc__C=3))


class LoudSVC(SVC):
    """Which may do anything with its parameters."""


class LoudPipeline(Pipeline):
    """The same."""


class LoudForest(IsolationForest):
    """The same."""


class Own(BaseEstimator):
    def __init__(self, verbose: int = 0, memory: Any = None, n_jobs: int = 1) -> None:
        self.verbose = verbose
        self.memory = memory
        self.n_jobs = n_jobs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LoudSVC(verbose=False), LoudSVC(verbose=True)),
        (LoudPipeline([], memory="a"), LoudPipeline([], memory="b")),
        (LoudForest(n_jobs=1), LoudForest(n_jobs=2)),
        (Own(verbose=0), Own(verbose=1)),
        (Own(memory="a"), Own(memory="b")),
        (Own(n_jobs=1), Own(n_jobs=2)),
    ],
)
def test_classes_of_the_program_keep_all_their_parameters(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


MODELS: dict[str, Callable[[], Any]] = {
    **{name: (lambda kind=kind: kind(n_estimators=7, random_state=0)) for name, kind in all_estimators()
       if name in {known for _, known in ANY_NUMBER_OF_JOBS} and name != "TheilSenRegressor"},
    "TheilSenRegressor": lambda: TheilSenRegressor(random_state=0, max_subpopulation=30),
    "BaggingClassifier": lambda: BaggingClassifier(n_estimators=7, random_state=0),
    "BaggingRegressor": lambda: BaggingRegressor(n_estimators=7, random_state=0),
    "RFECV": lambda: RFECV(DecisionTreeClassifier(random_state=0), cv=2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"), sorted(ANY_NUMBER_OF_JOBS | ANY_NUMBER_OF_JOBS_OF_LIBRARIES), ids=lambda part: part
)
def test_a_fit_in_a_task_is_the_same_for_any_number_of_jobs(module: str, name: str) -> None:
    model = MODELS[name]()
    assert type(model).__module__ == module
    models = [clone(model).set_params(n_jobs=jobs) for jobs in (None, 1, 2, 7, -1)]
    assert len({digest(each) for each in models}) == 1
    with joblib.parallel_config(backend=inner_backend(1), n_jobs=None):
        assert len({digest(fitted(each)) for each in models}) == 1


def test_jobs_that_work_on_code_of_the_program_are_a_part_of_the_key() -> None:
    def keys(part: Any) -> int:
        return len({digest(BaggingClassifier(part, n_jobs=jobs)) for jobs in (1, 2)})

    assert keys(DecisionTreeClassifier()) == 1
    assert keys(make_pipeline(StandardScaler(), SVC())) == 1
    assert keys(make_pipeline(FunctionTransformer(lambda X: X), SVC())) == 2
    assert keys(make_pipeline(Own(), SVC())) == 2


def test_the_number_of_jobs_of_other_estimators_is_a_part_of_the_key() -> None:
    assert digest(LogisticRegression(n_jobs=1)) != digest(LogisticRegression(n_jobs=2))
