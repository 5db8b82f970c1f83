"""Find out what makes a Parallel call: a search, another estimator, a function of scikit-learn, or the program itself.

joblib does not tell, so the frames of scikit-learn that lead to the call are read: its searches, and how many tasks
some of its functions and estimators are about to submit (scikit-learn 1.7 to 1.9). What is not found there is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from skjob.engine.fidelity.placement import LIBRARIES, PARALLEL_MODULES
from skjob.engine.joblib_calls import JoblibCall, inner_function
from skjob.engine.reporting.fits import SINGLE_METRIC


@dataclass(frozen=True)
class CallOrigin:
    """What makes a call, and how many tasks it has; the fields are those of `CallStarted`."""

    name: str
    estimator: str = ""
    iteration: int | None = None
    candidates: int | None = None
    splits: int | None = None
    tasks: int | None = None
    metric: str = ""
    metric_is_first: bool = False

    @property
    def is_search(self) -> bool:
        """Whether a search makes the call: nothing else has candidates."""
        return self.candidates is not None


def find_origin(first: JoblibCall, tasks: int | None, frame: FrameType | None) -> CallOrigin:
    """Return what makes the call with this first task.

    `tasks` is how many it has, if known; `frame` is the one that calls the Parallel object.
    """
    function, arguments, keywords = first
    inner = inner_function(function)
    name = str(getattr(inner, "__name__", type(inner).__name__)).strip("_<>")
    values = [*arguments, *keywords.values()]
    estimator = next((type(value).__name__ for value in values if _is_estimator(value)), "")
    origin = CallOrigin(name, estimator, tasks=tasks)
    frame = _caller(frame)
    if frame is None or _module(frame).partition(".")[0] not in LIBRARIES:
        return origin
    variables = frame.f_locals
    caller = frame.f_code.co_name
    with suppress(Exception):  # the user's own objects are called
        if caller == "evaluate_candidates":
            return _of_search(origin, variables, first)
        owner = variables.get("self")
        origin = replace(origin, name=type(owner).__name__ if _is_estimator(owner) else caller.strip("_<>"))
        if tasks is None and caller in _TASK_COUNTS:
            origin = replace(origin, tasks=int(_TASK_COUNTS[caller](variables)))
        if caller == "cross_validate":
            origin = replace(origin, splits=origin.tasks)
    return origin


def calls_scored_fits(frame: FrameType | None) -> bool:
    """Return whether the frame that calls a Parallel object belongs to scikit-learn and its tasks are scored fits."""
    frame = _caller(frame)
    return frame is not None and frame.f_code.co_name in _SCORED_FIT_FUNCTIONS and _module(frame).startswith("sklearn.")


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return the frame that makes the call, behind those of Parallel classes."""
    while frame is not None and _module(frame).startswith(PARALLEL_MODULES):
        frame = frame.f_back
    return frame


def _of_search(origin: CallOrigin, variables: Mapping[str, Any], first: JoblibCall) -> CallOrigin:
    search = variables["self"]
    metric, is_first = _metric(search)
    candidates, splits = first[2]["candidate_progress"][1], first[2]["split_progress"][1]
    iterations = (variables.get("more_results") or {}).get("iter")
    return CallOrigin(
        name=type(search).__name__,
        estimator=origin.estimator,
        iteration=int(iterations[0]) if iterations else None,
        candidates=candidates,
        splits=splits,
        tasks=candidates * splits,
        metric=metric,
        metric_is_first=is_first,
    )


def _metric(search: Any) -> tuple[str, bool]:
    """Return the metric that chooses the best candidate, and whether it is merely the first of several."""
    refit, scoring = search.refit, search.scoring
    if callable(refit):
        return "", False
    if scoring is None or isinstance(scoring, str):
        return SINGLE_METRIC, False
    if isinstance(refit, str):
        return refit, False
    if isinstance(scoring, dict | list | tuple | set):
        return str(next(iter(scoring))), True
    return SINGLE_METRIC, False


def _splits(variables: Mapping[str, Any]) -> int:
    """Return the number of splits. Raise TypeError for a splitter of the program's own, whose code is not called."""
    splitter = variables["cv"]
    if not type(splitter).__module__.startswith("sklearn."):
        raise TypeError
    number: int = splitter.get_n_splits(variables["X"], variables["y"], **variables["routed_params"].splitter.split)
    return number


def _learning_curve(variables: Mapping[str, Any]) -> int:
    return len(variables["train_test_proportions"]) if "train_test_proportions" in variables else _splits(variables)


def _fit(variables: Mapping[str, Any]) -> int:
    """Return the number of tasks that a `fit` submits: a forest's trees, RFECV's splits."""
    return len(variables["trees"]) if "trees" in variables else _splits(variables)


_TASK_COUNTS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "cross_validate": _splits,
    "cross_val_predict": lambda variables: len(variables["splits"]),
    "learning_curve": _learning_curve,
    "validation_curve": lambda variables: _splits(variables) * len(variables["param_range"]),
    "permutation_test_score": lambda variables: variables["n_permutations"],
    "fit": _fit,
    "_fit": lambda variables: variables["n_jobs"],  # bagging
}
"""Number of tasks that a function or method of scikit-learn submits, from its local variables."""


_SCORED_FIT_FUNCTIONS = frozenset({"evaluate_candidates", "cross_validate", "learning_curve", "validation_curve"})
"""Functions of scikit-learn whose tasks are fits that return their scores."""


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_estimator(value: Any) -> bool:
    try:
        return hasattr(type(value), "get_params")  # the class, because an object may answer to any name, and record it
    except Exception:  # a metaclass of the program's own
        return False
