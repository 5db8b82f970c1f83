"""Decide whether a fit gives the same result when it is repeated: not if a `random_state` that matters is None.

scikit-learn documents for many estimators with which parameters `random_state` has no effect; these are in a table,
with its words. Anything else with None is unseeded: in case of doubt the fit is repeated.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

SEEDS = ("random_state", "seed", "random_seed", "rng")

Parameters = Mapping[str, Any]


def _equals(name: str, *values: Any) -> Callable[[Parameters], bool]:
    """Return a test whether a parameter has one of these values, of the same type."""
    return lambda parameters: any(
        type(parameters.get(name)) is type(each) and parameters.get(name) == each for each in values
    )


def _never_randomized(parameters: Parameters) -> bool:
    solver, components = parameters.get("svd_solver"), parameters.get("n_components")
    # "auto" becomes "randomized" only if the number of components is at least 1.
    share = isinstance(components, float) and 0 < components < 1
    return solver in ("full", "covariance_eigh") or (solver == "auto" and (components in (None, "mle") or share))


_EXACT_SOLVERS = _equals("solver", "lbfgs", "newton-cg", "newton-cholesky")
_RIDGE_SOLVERS = _equals("solver", "auto", "svd", "cholesky", "lsqr", "sparse_cg", "lbfgs")
_UNSHUFFLED = _equals("shuffle", False)
_CYCLIC = _equals("selection", "cyclic")
_NO_PROBABILITY = _equals("probability", False, "deprecated")
_NO_JITTER = _equals("jitter", None)

# From scikit-learn 1.9. "auto" of Ridge never becomes "sag" (linear_model/_ridge.py).
NO_EFFECT: Mapping[str, Callable[[Parameters], bool]] = {
    # "Ignored when `probability` is False"
    "SVC": _NO_PROBABILITY,
    "NuSVC": _NO_PROBABILITY,
    # "Only used for `solver` == 'sag', 'saga' or 'liblinear' to shuffle the data. It has no effect on the other
    # solvers"
    "LogisticRegression": _EXACT_SOLVERS,
    "LogisticRegressionCV": _EXACT_SOLVERS,
    # "Used when ``solver`` == 'sag' or 'saga' to shuffle the data"
    "Ridge": _RIDGE_SOLVERS,
    "RidgeClassifier": _RIDGE_SOLVERS,
    # "Used when ``selection`` == 'random'"
    "Lasso": _CYCLIC,
    "LassoCV": _CYCLIC,
    "ElasticNet": _CYCLIC,
    "ElasticNetCV": _CYCLIC,
    "MultiTaskLasso": _CYCLIC,
    "MultiTaskLassoCV": _CYCLIC,
    "MultiTaskElasticNet": _CYCLIC,
    "MultiTaskElasticNetCV": _CYCLIC,
    # "When ``dual=False`` the underlying implementation of LinearSVC is not random and ``random_state`` has no effect"
    "LinearSVC": _equals("dual", False),
    # "Used when the 'arpack' or 'randomized' solvers are used"
    "PCA": _never_randomized,
    # "Used when ``eigen_solver`` == 'arpack' or 'randomized'"
    "KernelPCA": _equals("eigen_solver", "dense"),
    # "Determines the random number generator when ``eigen_solver`` == 'arpack'"
    "LocallyLinearEmbedding": _equals("eigen_solver", "dense"),
    # "Ignored if `jitter` is None"
    "Lars": _NO_JITTER,
    "LassoLars": _NO_JITTER,
    # "Controls the randomness to generate the predictions when ``strategy='stratified'`` or ``strategy='uniform'``"
    "DummyClassifier": _equals("strategy", "prior", "most_frequent", "constant"),
    # "Determines random number generation for subsampling"; "`subsample=None` means that all the training samples are
    # used"
    "KBinsDiscretizer": _equals("subsample", None),
    # "Controls the randomness of cross-validation when `cv` is a float"
    "TunedThresholdClassifierCV": lambda parameters: not isinstance(parameters.get("cv"), float),
    # "When `shuffle` is True, `random_state` affects the ordering of the indices … Otherwise, this parameter has no
    # effect"
    "TargetEncoder": _UNSHUFFLED,
    "KFold": _UNSHUFFLED,
    "GroupKFold": _UNSHUFFLED,
    "StratifiedKFold": _UNSHUFFLED,
    "StratifiedGroupKFold": _UNSHUFFLED,
}

GIVES_SEEDS = frozenset(
    {"AdaBoostClassifier", "AdaBoostRegressor", "BaggingClassifier", "BaggingRegressor", "ClassifierChain",
     "RegressorChain"}
)  # fmt: skip
"""Estimators whose own `random_state` sets that of every estimator inside them: "controls the random seed given at
each `estimator`", "a different seed is generated for each instance in the ensemble"."""


def unseeded(value: Any, parameters: Parameters | None = None) -> bool:
    """Return whether unseeded random numbers may matter when `value` is fitted with `parameters` set on it."""
    return _unseeded(value, parameters or {}, False, set())


def random_by_default(function: Any) -> bool:
    """Return whether a function or class of a library has a `random_state` that is None by default."""
    try:
        return inspect.signature(function).parameters["random_state"].default is None
    except (KeyError, TypeError, ValueError):
        return False


def _unseeded(value: Any, overrides: Parameters, given: bool, above: set[int]) -> bool:
    if isinstance(value, str | bytes | int | float | complex | type | types.ModuleType | None) or id(value) in above:
        return False
    above = above | {id(value)}
    if isinstance(value, dict):
        return any(_unseeded(each, {}, given, above) for each in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_unseeded(each, {}, given, above) for each in value)
    if isinstance(value, functools.partial):
        seeded = not _means_none(value.keywords.get("random_state"))
        return not seeded and _unseeded(value.func, {}, given, above)
    if isinstance(value, types.MethodType):
        return _unseeded(value.__self__, {}, given, above)
    if callable(value) and not hasattr(value, "__dict__"):
        return False
    if isinstance(value, types.FunctionType):
        return random_by_default(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "pandas", "builtins", "polars", "pyarrow"):
        return False
    if type(value).__module__.startswith("scipy."):
        return hasattr(value, "rvs")  # a distribution, which draws from the global generator
    return _object_unseeded(value, overrides, given, above)


def _object_unseeded(value: Any, overrides: Parameters, given: bool, above: set[int]) -> bool:
    kind = type(value)
    library = kind.__module__.partition(".")[0] == "sklearn"
    if library and kind.__name__ == "_PassthroughScorer":
        return False  # it has the estimator as it was before its parameters were set, and scores another
    nested: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for name, each in overrides.items():
        first, separator, rest = name.partition("__")
        if separator:
            nested.setdefault(first, {})[rest] = each
        else:
            own[first] = each
    parameters = {**_parameters(value), **own}
    no_effect = NO_EFFECT.get(kind.__name__) if library else None
    given = given and hasattr(value, "get_params")
    for name in SEEDS:
        if name in parameters and _means_none(parameters[name]) and not given:
            return not (no_effect and no_effect(parameters)) or _any_inside(parameters, own, nested, given, above)
    given = given or (library and kind.__name__ in GIVES_SEEDS and "random_state" in parameters)
    return _any_inside(parameters, own, nested, given, above)


def _any_inside(
    parameters: Parameters, own: Parameters, nested: Mapping[str, Parameters], given: bool, above: set[int]
) -> bool:
    for name, each in parameters.items():
        if name in SEEDS or name == "param_distributions":
            continue
        if isinstance(each, list) and each and all(_is_step(part) for part in each):
            # Steps of a pipeline, transformers of columns: their names are parameters too.
            steps = [(own.get(part[0], part[1]), nested.get(part[0], {})) for part in each]
        else:
            steps = [(each, nested.get(name, {}))]
        if any(_unseeded(step, inner, given, above) for step, inner in steps):
            return True
    return False


def _parameters(value: Any) -> Parameters:
    """Return the parameters of an estimator, or the attributes of any other object."""
    kind: Any = type(value)
    if not hasattr(kind, "_get_param_names"):
        return getattr(value, "__dict__", {})
    return {name: getattr(value, name, None) for name in _names(kind)}


@functools.lru_cache(maxsize=1024)
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(kind._get_param_names())


def _is_step(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) >= 2 and isinstance(value[0], str)


def _means_none(value: Any) -> bool:
    """Return whether a value is None or another name of numpy's global generator."""
    import numpy as np

    return value is None or value is np.random or value is getattr(np.random.mtrand, "_rand", value)
