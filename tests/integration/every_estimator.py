"""Everything with `n_jobs` in scikit-learn, imbalanced-learn and the boosters, with a use of each on little data.

A use is a function of `n_jobs` that returns a result: a fitted estimator with its predictions, or a function's return
value. `alone` and `in_a_search` are the two uses of an estimator; `CallsInFit` lets a search call a function.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import imblearn.pipeline
import numpy
import sklearn
from imblearn.utils.testing import all_estimators as all_of_imbalanced_learn
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.cluster import compute_optics_graph, dbscan, estimate_bandwidth, mean_shift
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, make_regression
from sklearn.decomposition import PCA, dict_learning, dict_learning_online, sparse_encode
from sklearn.ensemble import AdaBoostClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - for `all_estimators`
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.manifold import locally_linear_embedding, smacof
from sklearn.metrics import pairwise_distances, pairwise_distances_chunked, pairwise_kernels
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.neighbors import kneighbors_graph, radius_neighbors_graph
from sklearn.pipeline import make_union
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.discovery import all_estimators
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

Data = tuple[Any, Any]
Use = Callable[[int | None], Any]

COMPARED_METHODS = (
    "predict", "predict_proba", "decision_function", "score_samples", "transform", "kneighbors", "kneighbors_graph",
    "radius_neighbors_graph", "apply", "get_support",
)  # fmt: skip
"""Methods of a fitted estimator whose results are compared."""


def classes() -> Data:
    """Return fifty shuffled flowers of three classes: the first rows must not be of one class."""
    X, y = load_iris(return_X_y=True)
    order = numpy.random.default_rng(0).permutation(len(y))[:50]
    return X[order], y[order]


def two_classes() -> Data:
    X, y = load_iris(return_X_y=True)
    order = numpy.random.default_rng(0).permutation(100)[:50] + 50  # classes that overlap
    return X[order], y[order] - 1


def numbers() -> Data:
    return make_regression(50, 4, noise=5, random_state=0)


def two_numbers() -> Data:
    return make_regression(50, 4, n_targets=2, noise=5, random_state=0)


def two_labels() -> Data:
    X, y = classes()
    return X, numpy.column_stack([y, y > 0])


def counts() -> Data:
    return numpy.random.default_rng(0).integers(0, 5, (50, 8)), None


def rare() -> Data:
    """Return a hundred rows, a fifth of them in the class that is to be oversampled."""
    rng = numpy.random.default_rng(0)
    y = (numpy.arange(100) % 5 == 0).astype(int)
    return rng.normal(size=(100, 3)) + y[:, None], y


def _tree(**parameters: Any) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=3, random_state=0, **parameters)


def _regression_tree() -> DecisionTreeRegressor:
    return DecisionTreeRegressor(max_depth=3, random_state=0)


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=200)


_DICTIONARY = numpy.random.default_rng(1).normal(size=(3, 4))
_MANY_TREES = {"n_estimators": 6, "max_depth": 4, "random_state": 0}

ESTIMATORS: Mapping[str, tuple[Callable[[], Data], dict[str, Any]]] = {
    "BaggingClassifier": (classes, {"estimator": _tree(), "n_estimators": 5, "random_state": 0, "max_features": 3}),
    "BaggingRegressor": (numbers, {"estimator": _regression_tree(), "n_estimators": 5, "random_state": 0}),
    "CalibratedClassifierCV": (classes, {"estimator": _tree(), "cv": 3}),
    "ColumnTransformer": (
        classes,
        {"transformers": [("one", StandardScaler(), [0, 1]), ("two", MinMaxScaler(), [2]), ("three", PCA(1), [0, 3])]},
    ),
    "DBSCAN": (classes, {"eps": 0.6}),
    "DictionaryLearning": (classes, {"n_components": 3, "max_iter": 5, "random_state": 0}),
    "ElasticNetCV": (numbers, {"cv": 3, "alphas": 5, "l1_ratio": [0.3, 0.8]}),
    "ExtraTreesClassifier": (classes, _MANY_TREES),
    "ExtraTreesRegressor": (numbers, _MANY_TREES | {"bootstrap": True, "oob_score": True}),
    "FeatureUnion": (classes, {"transformer_list": [("one", PCA(2)), ("two", StandardScaler())]}),
    "GaussianProcessClassifier": (classes, {"random_state": 0, "n_restarts_optimizer": 1, "max_iter_predict": 5}),
    "GraphicalLassoCV": (classes, {"cv": 3, "alphas": 2, "n_refinements": 2}),
    "GridSearchCV": (classes, {"estimator": _tree(), "param_grid": {"max_depth": [1, 3]}, "cv": 2}),
    "HDBSCAN": (classes, {"min_cluster_size": 5, "copy": True}),
    "HalvingGridSearchCV": (
        classes,
        {"estimator": _tree(), "param_grid": {"max_depth": [1, 3]}, "cv": 2, "random_state": 0, "min_resources": 12},
    ),
    "HalvingRandomSearchCV": (
        classes,
        {
            "estimator": _tree(),
            "param_distributions": {"max_depth": [1, 2, 3]},
            "n_candidates": 2,
            "cv": 2,
            "random_state": 0,
            "min_resources": 12,
        },
    ),
    "IsolationForest": (classes, {"n_estimators": 6, "random_state": 0}),
    "Isomap": (classes, {"n_neighbors": 8}),
    "KNeighborsClassifier": (classes, {}),
    "KNeighborsRegressor": (numbers, {"algorithm": "ball_tree"}),
    "KNeighborsTransformer": (classes, {}),
    "KernelPCA": (classes, {"n_components": 2, "kernel": "rbf", "fit_inverse_transform": True, "random_state": 0}),
    "LabelPropagation": (classes, {"kernel": "knn", "n_neighbors": 5}),
    "LabelSpreading": (classes, {"kernel": "knn", "n_neighbors": 5}),
    "LarsCV": (numbers, {"cv": 3}),
    "LassoCV": (numbers, {"cv": 3, "alphas": 5}),
    "LassoLarsCV": (numbers, {"cv": 3}),
    "LatentDirichletAllocation": (counts, {"n_components": 3, "max_iter": 3, "random_state": 0}),
    "LinearRegression": (two_numbers, {}),
    "LocalOutlierFactor": (classes, {"novelty": True, "n_neighbors": 5}),
    "LocallyLinearEmbedding": (classes, {"n_neighbors": 8, "random_state": 0}),
    "LogisticRegression": (classes, {"max_iter": 200}),
    "LogisticRegressionCV": (classes, {"Cs": 2, "cv": 2, "max_iter": 200, "use_legacy_attributes": False}),
    "MDS": (classes, {"n_init": 3, "max_iter": 20, "random_state": 0, "init": "random"}),
    "MeanShift": (classes, {"bandwidth": 1.5}),
    "MiniBatchDictionaryLearning": (classes, {"n_components": 3, "max_iter": 5, "random_state": 0}),
    "MiniBatchSparsePCA": (classes, {"n_components": 2, "max_iter": 5, "random_state": 0}),
    "MultiOutputClassifier": (two_labels, {"estimator": _tree()}),
    "MultiOutputRegressor": (two_numbers, {"estimator": _regression_tree()}),
    "MultiTaskElasticNetCV": (two_numbers, {"cv": 3, "alphas": 5}),
    "MultiTaskLassoCV": (two_numbers, {"cv": 3, "alphas": 5}),
    "NearestNeighbors": (classes, {"algorithm": "kd_tree"}),
    "Nystroem": (classes, {"n_components": 10, "random_state": 0}),
    "OPTICS": (classes, {"min_samples": 5}),
    "OneVsOneClassifier": (classes, {"estimator": _tree()}),
    "OneVsRestClassifier": (classes, {"estimator": _tree()}),
    "OrthogonalMatchingPursuitCV": (numbers, {"cv": 3}),
    "OutputCodeClassifier": (classes, {"estimator": _tree(), "random_state": 0}),
    "PassiveAggressiveClassifier": (classes, {"random_state": 0, "max_iter": 20}),
    "Perceptron": (classes, {"random_state": 0, "max_iter": 20}),
    "RFECV": (classes, {"estimator": _tree(), "cv": 3}),
    "RadiusNeighborsClassifier": (classes, {"radius": 3.0}),
    "RadiusNeighborsRegressor": (numbers, {"radius": 5.0}),
    "RadiusNeighborsTransformer": (classes, {"radius": 1.0}),
    "RandomForestClassifier": (classes, _MANY_TREES | {"oob_score": True}),
    "RandomForestRegressor": (numbers, _MANY_TREES),
    "RandomTreesEmbedding": (classes, _MANY_TREES),
    "RandomizedSearchCV": (
        classes,
        {
            "estimator": _tree(),
            "param_distributions": {"max_depth": [1, 2, 3]},
            "n_iter": 2,
            "cv": 2,
            "random_state": 0,
        },
    ),
    "SGDClassifier": (classes, {"random_state": 0, "max_iter": 20}),
    "SequentialFeatureSelector": (classes, {"estimator": _tree(), "n_features_to_select": 2, "cv": 2}),
    "SparseCoder": (classes, {"dictionary": _DICTIONARY}),
    "SparsePCA": (classes, {"n_components": 2, "max_iter": 5, "random_state": 0}),
    "SpectralClustering": (classes, {"n_clusters": 3, "random_state": 0, "affinity": "nearest_neighbors"}),
    "SpectralEmbedding": (classes, {"random_state": 0}),
    "StackingClassifier": (classes, {"estimators": [("one", _tree()), ("two", _logistic())], "cv": 2}),
    "StackingRegressor": (numbers, {"estimators": [("one", _regression_tree()), ("two", Ridge())], "cv": 2}),
    "TSNE": (classes, {"perplexity": 5, "max_iter": 250, "random_state": 0, "init": "pca"}),
    "TheilSenRegressor": (numbers, {"max_subpopulation": 100, "random_state": 0}),
    "TunedThresholdClassifierCV": (two_classes, {"estimator": _tree(), "cv": 3, "thresholds": 5}),
    "VotingClassifier": (classes, {"estimators": [("one", _tree()), ("two", _logistic())]}),
    "VotingRegressor": (numbers, {"estimators": [("one", _regression_tree()), ("two", Ridge())]}),
}
"""Each estimator of scikit-learn that has `n_jobs`, with data for it and the parameters that make it small."""

IMBALANCED: Mapping[str, dict[str, Any]] = {
    "AllKNN": {},
    "BalancedBaggingClassifier": {"estimator": _tree(), "n_estimators": 4, "random_state": 0},
    "BalancedRandomForestClassifier": _MANY_TREES,
    "CondensedNearestNeighbour": {"random_state": 0},
    "EasyEnsembleClassifier": {"estimator": AdaBoostClassifier(n_estimators=3), "n_estimators": 3, "random_state": 0},
    "EditedNearestNeighbours": {},
    "InstanceHardnessThreshold": {"estimator": _logistic(), "cv": 2, "random_state": 0},
    "KMeansSMOTE": {"random_state": 0, "cluster_balance_threshold": 0.01, "k_neighbors": 2},
    "NearMiss": {"version": 3},
    "NeighbourhoodCleaningRule": {},
    "OneSidedSelection": {"random_state": 0},
    "RepeatedEditedNearestNeighbours": {},
    "SMOTEENN": {"random_state": 0},
    "SMOTETomek": {"random_state": 0},
    "TomekLinks": {},
}
"""Estimators of imbalanced-learn, for `rare`."""

_FEW_LEAVES = {
    "n_estimators": 3,
    "min_child_samples": 3,
    "subsample": 0.7,
    "subsample_freq": 1,
    "random_state": 0,
    "verbose": -1,
}

BOOSTERS: Mapping[str, tuple[type, Callable[[], Data], dict[str, Any]]] = {
    "XGBClassifier": (XGBClassifier, classes, {"n_estimators": 4, "subsample": 0.7, "random_state": 0}),
    "XGBRegressor": (XGBRegressor, numbers, {"n_estimators": 4, "colsample_bytree": 0.7, "random_state": 0}),
    "XGBRFClassifier": (XGBRFClassifier, two_classes, {"n_estimators": 4, "random_state": 0}),
    "XGBRFRegressor": (XGBRFRegressor, numbers, {"n_estimators": 4, "random_state": 0}),
    "LGBMClassifier": (LGBMClassifier, classes, _FEW_LEAVES),
    "LGBMRegressor": (LGBMRegressor, numbers, _FEW_LEAVES),
}
"""Classes of the boosters that a search can fit: the rankers want groups, which it cannot split."""


def _optics_graph(X: Any, n_jobs: int | None) -> Any:
    return compute_optics_graph(
        X, min_samples=5, max_eps=numpy.inf, metric="minkowski", p=2, metric_params=None, algorithm="auto",
        leaf_size=30, n_jobs=n_jobs,
    )  # fmt: skip


def _importance(X: Any, y: Any, n_jobs: int | None) -> Any:
    return permutation_importance(_tree().fit(X, y), X, y, n_repeats=3, random_state=0, n_jobs=n_jobs)


def _smacof(X: Any, n_jobs: int | None) -> Any:
    return smacof(pairwise_distances(X), n_init=3, max_iter=10, random_state=0, n_jobs=n_jobs)


_DICT_LEARNING = {"n_components": 3, "alpha": 1, "random_state": 0}

FUNCTIONS: Mapping[str, Callable[[Any, Any, int | None], Any]] = {
    "compute_optics_graph": lambda X, y, n_jobs: _optics_graph(X, n_jobs),
    "cross_val_predict": lambda X, y, n_jobs: cross_val_predict(_tree(), X, y, cv=3, n_jobs=n_jobs),
    "cross_val_score": lambda X, y, n_jobs: cross_val_score(_tree(), X, y, cv=3, n_jobs=n_jobs),
    "cross_validate": lambda X, y, n_jobs: cross_validate(
        _tree(), X, y, cv=3, n_jobs=n_jobs, return_estimator=True, return_train_score=True, return_indices=True
    ),
    "dbscan": lambda X, y, n_jobs: dbscan(X, eps=0.6, n_jobs=n_jobs),
    "dict_learning": lambda X, y, n_jobs: dict_learning(X, max_iter=4, n_jobs=n_jobs, **_DICT_LEARNING),
    "dict_learning_online": lambda X, y, n_jobs: dict_learning_online(X, max_iter=4, n_jobs=n_jobs, **_DICT_LEARNING),
    "estimate_bandwidth": lambda X, y, n_jobs: estimate_bandwidth(X, n_samples=30, random_state=0, n_jobs=n_jobs),
    "kneighbors_graph": lambda X, y, n_jobs: kneighbors_graph(X, 4, mode="distance", n_jobs=n_jobs),
    "learning_curve": lambda X, y, n_jobs: learning_curve(
        _tree(), X, y, cv=3, train_sizes=[0.6, 1.0], shuffle=True, random_state=0, n_jobs=n_jobs
    ),
    "locally_linear_embedding": lambda X, y, n_jobs: locally_linear_embedding(
        X, n_neighbors=8, n_components=2, random_state=0, n_jobs=n_jobs
    ),
    "make_column_transformer": lambda X, y, n_jobs: make_column_transformer(
        (StandardScaler(), [0, 1]), (PCA(1), [2, 3]), n_jobs=n_jobs
    ).fit(X, y),
    "make_union": lambda X, y, n_jobs: make_union(PCA(2), StandardScaler(), n_jobs=n_jobs).fit(X, y),
    "mean_shift": lambda X, y, n_jobs: mean_shift(X, bandwidth=1.5, n_jobs=n_jobs),
    "mutual_info_classif": lambda X, y, n_jobs: mutual_info_classif(X, y, random_state=0, n_jobs=n_jobs),
    "mutual_info_regression": lambda X, y, n_jobs: mutual_info_regression(X, X[:, 0], random_state=0, n_jobs=n_jobs),
    "pairwise_distances": lambda X, y, n_jobs: [
        pairwise_distances(X, metric=metric, n_jobs=n_jobs) for metric in ("euclidean", "manhattan", "braycurtis")
    ],
    "pairwise_distances_chunked": lambda X, y, n_jobs: list(
        pairwise_distances_chunked(X, n_jobs=n_jobs, working_memory=0.005)
    ),
    "pairwise_kernels": lambda X, y, n_jobs: [
        pairwise_kernels(X, metric=metric, n_jobs=n_jobs) for metric in ("rbf", "laplacian")
    ],
    "permutation_importance": _importance,
    "permutation_test_score": lambda X, y, n_jobs: permutation_test_score(
        _tree(), X, y, cv=2, n_permutations=4, random_state=0, n_jobs=n_jobs
    ),
    "radius_neighbors_graph": lambda X, y, n_jobs: radius_neighbors_graph(X, 1.0, mode="distance", n_jobs=n_jobs),
    "smacof": lambda X, y, n_jobs: _smacof(X, n_jobs),
    "sparse_encode": lambda X, y, n_jobs: sparse_encode(X, _DICTIONARY, algorithm="lasso_lars", n_jobs=n_jobs),
    "validation_curve": lambda X, y, n_jobs: validation_curve(
        _tree(), X, y, param_name="max_depth", param_range=[1, 3], cv=3, n_jobs=n_jobs
    ),
}
"""Each function of scikit-learn that has `n_jobs`, on `classes`."""

DISPLAYS = {"LearningCurveDisplay", "PartialDependenceDisplay", "ValidationCurveDisplay"}
"""Classes that plot the results of functions of the table, and have `n_jobs` in a method."""


class CallsInFit(BaseEstimator):
    """An estimator whose fit is one call of a function of the table."""

    def __init__(self, function: str = "", n_jobs: int | None = None) -> None:
        self.function = function
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> CallsInFit:
        self.returned_ = FUNCTIONS[self.function](X, y, self.n_jobs)
        return self


def no_score(estimator: Any, X: Any, y: Any = None) -> float:
    """Score estimators that have no score of their own."""
    return 0.0


def _with(kind: type, parameters: dict[str, Any], n_jobs: int | None) -> Any:
    """Return an estimator; None leaves `n_jobs` out."""
    given = {} if n_jobs is None else {"n_jobs": n_jobs}
    return sklearn.base.clone(kind(**parameters, **given))


def alone(kind: type, data: Data, parameters: dict[str, Any], n_jobs: int | None) -> Any:
    """Return a fitted estimator, its results and its score."""
    X, y = data
    model = _with(kind, parameters, n_jobs)
    if hasattr(model, "fit_resample"):
        return [model.fit_resample(X, y), model]
    fitted = model.fit(X, y)
    method_results = {
        name: getattr(fitted, name)(*_arguments(fitted, name, X)) for name in COMPARED_METHODS if hasattr(fitted, name)
    }
    return [fitted, method_results, fitted.score(X, y) if hasattr(fitted, "score") else None]


def _arguments(fitted: Any, name: str, X: Any) -> list[Any]:
    parameters = inspect.signature(getattr(fitted, name)).parameters
    return [X] if "X" in parameters else []


def in_a_search(kind: type, data: Data, parameters: dict[str, Any], n_jobs: int | None) -> Any:
    """Return the models of a cross-validation without `n_jobs`, and a fitted search with the same `n_jobs` as they."""
    X, y = data
    model, name = _with(kind, parameters, n_jobs), "n_jobs"
    if hasattr(model, "fit_resample"):
        model, name = imblearn.pipeline.Pipeline([("part", model), ("model", _logistic())]), "part__n_jobs"
    scoring = None if hasattr(model, "score") else no_score
    given = {} if n_jobs is None else {"n_jobs": n_jobs}
    search = GridSearchCV(model, {name: [n_jobs]}, scoring=scoring, cv=2, error_score="raise", **given)
    return [
        cross_validate(model, X, y, cv=2, scoring=scoring, error_score="raise", return_estimator=True),
        search.fit(X, y),
    ]


def uses() -> Iterator[tuple[str, Use]]:
    """Yield each use with its name."""
    kinds = dict(all_estimators())
    tables: list[tuple[str, type, Callable[[], Data], dict[str, Any]]] = [
        *((name, kinds[name], data, parameters) for name, (data, parameters) in ESTIMATORS.items()),
        *((name, dict(all_of_imbalanced_learn())[name], rare, parameters) for name, parameters in IMBALANCED.items()),
        *((name, *row) for name, row in BOOSTERS.items()),
        *((name, CallsInFit, classes, {"function": name}) for name in FUNCTIONS),
    ]
    for name, kind, data, parameters in tables:
        for how in (alone, in_a_search):
            yield f"{name}-{how.__name__}", _Use(how, kind, data, parameters)


class _Use:
    def __init__(self, how: Any, kind: type, data: Callable[[], Data], parameters: dict[str, Any]) -> None:
        self._how, self._kind, self._data, self._parameters = how, kind, data, parameters

    def __call__(self, n_jobs: int | None) -> Any:
        return self._how(self._kind, self._data(), self._parameters, n_jobs)


def with_jobs() -> dict[str, set[str]]:
    """Return the names of everything public with `n_jobs`: scikit-learn's estimators, functions and other classes, and
    imbalanced-learn's estimators."""
    estimators = {name for name, kind in all_estimators() if _has_jobs(kind)}
    functions: set[str] = set()
    others: set[str] = set()
    for module in map(import_module, _public_modules()):
        for name, value in vars(module).items():
            if name.startswith("_") or not str(getattr(value, "__module__", "")).startswith("sklearn."):
                continue
            if inspect.isfunction(value) and _has_jobs(value):
                functions.add(name)
            if inspect.isclass(value) and any(_has_jobs(method) for method in _public_methods(value)):
                others.add(name)
    return {
        "estimators": estimators,
        "functions": functions,
        "others": others,
        "imbalanced": {name for name, kind in all_of_imbalanced_learn() if _has_jobs(kind)},
    }


def _public_modules() -> list[str]:
    """Return the package's public modules, without its tests and vendored packages."""
    names = [module.name for module in pkgutil.walk_packages(sklearn.__path__, "sklearn.")]
    hidden = re.compile(r"\.(_|tests\b|conftest\b|externals\b)|^sklearn\.utils\.parallel$")
    return [name for name in names if not hidden.search(name)]


def _public_methods(kind: type) -> list[Any]:
    methods = [getattr(method, "__func__", method) for name, method in vars(kind).items() if not name.startswith("_")]
    return [method for method in methods if inspect.isfunction(method)]


def _has_jobs(called: Any) -> bool:
    return "n_jobs" in inspect.signature(called).parameters
