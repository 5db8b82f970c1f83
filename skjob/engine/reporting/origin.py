"""Find out what makes a Parallel call: a search, another estimator, a function of scikit-learn, or the program itself.

joblib does not say, so the frames of scikit-learn that lead to the call are read: its searches, and how many tasks some
of its functions and estimators are about to submit (scikit-learn 1.7 to 1.9). What is not found there is left out.
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
    """What makes a call, and how much it has to do; the fields are those of `CallStarted`."""

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

    `tasks` is how many it has, if the program has said so, and `frame` is the one that calls the Parallel object.
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
    known = frame.f_locals
    maker = frame.f_code.co_name
    with suppress(Exception):  # the user's own objects are called
        if maker == "evaluate_candidates":
            return _of_search(origin, known, first)
        owner = known.get("self")
        origin = replace(origin, name=type(owner).__name__ if _is_estimator(owner) else maker.strip("_<>"))
        if tasks is None and maker in _TOTALS:
            origin = replace(origin, tasks=int(_TOTALS[maker](known)))
        if maker == "cross_validate":
            origin = replace(origin, splits=origin.tasks)
    return origin


def calls_scored_fits(frame: FrameType | None) -> bool:
    """Return whether the frame that calls a Parallel object is one of scikit-learn's whose tasks are scored fits."""
    frame = _caller(frame)
    return frame is not None and frame.f_code.co_name in _FITTING and _module(frame).startswith("sklearn.")


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return the frame that wants a call, behind those of Parallel classes."""
    while frame is not None and _module(frame).startswith(PARALLEL_MODULES):
        frame = frame.f_back
    return frame


def _of_search(origin: CallOrigin, known: Mapping[str, Any], first: JoblibCall) -> CallOrigin:
    search = known["self"]
    metric, is_first = _metric(search)
    candidates, splits = first[2]["candidate_progress"][1], first[2]["split_progress"][1]
    iterations = (known.get("more_results") or {}).get("iter")
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
    """Return the metric that chooses the best candidate, and whether it is the first of several that are equal."""
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


def _splits(known: Mapping[str, Any]) -> int:
    """Return the number of splits; raises TypeError for a splitter of the program's own, whose code is not called."""
    splitter = known["cv"]
    if not type(splitter).__module__.startswith("sklearn."):
        raise TypeError
    number: int = splitter.get_n_splits(known["X"], known["y"], **known["routed_params"].splitter.split)
    return number


def _learning_curve(known: Mapping[str, Any]) -> int:
    return len(known["train_test_proportions"]) if "train_test_proportions" in known else _splits(known)


def _fit(known: Mapping[str, Any]) -> int:
    """Return the number of tasks that a `fit` submits: of a forest its trees, of RFECV its splits."""
    return len(known["trees"]) if "trees" in known else _splits(known)


_TOTALS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "cross_validate": _splits,
    "cross_val_predict": lambda known: len(known["splits"]),
    "learning_curve": _learning_curve,
    "validation_curve": lambda known: _splits(known) * len(known["param_range"]),
    "permutation_test_score": lambda known: known["n_permutations"],
    "fit": _fit,
    "_fit": lambda known: known["n_jobs"],  # bagging
}
"""How many tasks a function or method of scikit-learn submits, by its local variables."""


_FITTING = frozenset({"evaluate_candidates", "cross_validate", "learning_curve", "validation_curve"})
"""Functions of scikit-learn whose tasks are fits that return their scores."""


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_estimator(value: Any) -> bool:
    try:
        return hasattr(type(value), "get_params")  # of the class: an object may answer to any name, and note it
    except Exception:  # a metaclass of the program's own
        return False
