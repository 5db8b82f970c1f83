"""Parameters that do not change the result of a fit: how much it prints, where it caches, how many jobs it uses.

They are left out of the key of a fit, so that a run reuses the fits of another that cached in another folder. The
tables apply to the libraries' own classes only: a class of the program, even one derived from a library's, may use its
parameters for anything, and all of them are in the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from joblib.memory import Memory

IRRELEVANT: Mapping[str, frozenset[str]] = {
    "sklearn": frozenset({"verbose"}),
    "sklearn.mixture": frozenset({"verbose_interval"}),
    "imblearn": frozenset({"verbose"}),
    "xgboost": frozenset({"verbosity"}),
    "lightgbm": frozenset({"verbose", "verbosity"}),
}
"""Parameters of all classes of a package or module. Each row is a test (test_irrelevant_parameters.py)."""

WITH_CACHE: frozenset[tuple[str, str]] = frozenset(
    {
        ("sklearn.pipeline", "Pipeline"),
        ("sklearn.cluster._agglomerative", "AgglomerativeClustering"),
        ("sklearn.cluster._agglomerative", "FeatureAgglomeration"),
        ("sklearn.cluster._optics", "OPTICS"),
        ("imblearn.pipeline", "Pipeline"),
    }
)
"""Classes whose parameter `memory` is a cache. Whether there is one is part of the key, its location is not."""

ANY_NUMBER_OF_JOBS: frozenset[tuple[str, str]] = frozenset(
    {
        ("sklearn.ensemble._forest", "ExtraTreesClassifier"),
        ("sklearn.ensemble._forest", "ExtraTreesRegressor"),
        ("sklearn.ensemble._forest", "RandomForestClassifier"),
        ("sklearn.ensemble._forest", "RandomForestRegressor"),
        ("sklearn.ensemble._iforest", "IsolationForest"),
        ("sklearn.linear_model._theil_sen", "TheilSenRegressor"),
    }
)
"""Classes whose fits in a task are the same for any `n_jobs`, to the last bit, whatever else their parameters are."""

ANY_NUMBER_OF_JOBS_OF_LIBRARIES: frozenset[tuple[str, str]] = frozenset(
    {
        ("sklearn.ensemble._bagging", "BaggingClassifier"),
        ("sklearn.ensemble._bagging", "BaggingRegressor"),
        ("sklearn.feature_selection._rfe", "RFECV"),
    }
)
"""Classes like those, if all their parts are a library's: with several jobs, code of the program works on copies."""

KEYWORDS = "_other_params"
"""The attribute in which LightGBM keeps parameters that are not in its signature, beside its other attributes."""


@dataclass(frozen=True)
class CachePlaceholder:
    """Stands in a key for a cache, wherever it is."""


def relevant_state(
    value: Any, kind: type, state: Mapping[str, Any], is_library: Callable[[Any], bool]
) -> Mapping[str, Any]:
    """Return the attributes of an object that may change what it computes.

    Parameters
    ----------
    value : object
    kind : type
        Its class, which a library defines.
    state : mapping
        Its attributes.
    is_library : callable
        Tells whether a class or function is a library's.
    """
    own = (kind.__module__, kind.__qualname__)
    if not hasattr(kind, "get_params"):
        return state
    unneeded = {name for package, names in IRRELEVANT.items() if _is_in(kind.__module__, package) for name in names}
    if own in ANY_NUMBER_OF_JOBS or (
        own in ANY_NUMBER_OF_JOBS_OF_LIBRARIES and _is_all_of_libraries(value, is_library)
    ):
        unneeded.add("n_jobs")
    left = {name: part for name, part in state.items() if name not in unneeded}
    if own in WITH_CACHE and "memory" in left:
        left["memory"] = cache_of(left["memory"])
    if _is_in(kind.__module__, "lightgbm") and type(left.get(KEYWORDS)) is dict:
        left[KEYWORDS] = {name: part for name, part in left[KEYWORDS].items() if name not in unneeded}
    return left


def cache_of(memory: Any) -> Any:
    """Return the relevant part of `memory`: None, a placeholder for a cache, or an object of the program's own."""
    if type(memory) is Memory:
        return None if memory.location is None else CachePlaceholder()
    return CachePlaceholder() if isinstance(memory, str | PathLike) else memory


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_all_of_libraries(estimator: Any, is_library: Callable[[Any], bool]) -> bool:
    parts = estimator.get_params(deep=True).values()
    return all(is_library(type(part) if hasattr(part, "get_params") else part) for part in parts if _is_code(part))


def _is_code(part: Any) -> bool:
    return hasattr(part, "get_params") or callable(part)
