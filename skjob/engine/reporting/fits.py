"""Read fits of scikit-learn's searches and cross-validations, and what they return. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from skjob.engine.events import MAX_VALUE_LENGTH
from skjob.engine.joblib_calls import JoblibCall, inner_function
from skjob.engine.reporting.values import short_text
from skjob.errors import without_credentials

DESCRIBED = frozenset({"builtins", "numpy", "scipy", "sklearn"})
"""Libraries whose objects are described by their `repr`."""

SINGLE_METRIC = "score"
"""Name of the metric if there is only one."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The fit that a task is. `candidate` and `split` are None if the call does not belong to a search."""

    candidate: int | None
    split: int | None
    parameters: Mapping[str, Any] | None


def is_scored_fit(call: JoblibCall) -> bool:
    """Return whether a task fits an estimator and returns its scores, as those of searches do."""
    try:
        inner = inner_function(call[0])
        return bool(inner.__name__ == "_fit_and_score" and inner.__module__.startswith("sklearn."))
    except Exception:  # the user's own objects are called
        return False


def read_fit(call: JoblibCall) -> Fit:
    """Return the fit that a task is."""
    keywords = call[2]
    candidate, split = keywords.get("candidate_progress"), keywords.get("split_progress")
    return Fit(candidate and candidate[0], split and split[0], keywords.get("parameters"))


def describe_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as text; an object of another library or of the program by its class or its name.

    Their `repr` is never called, as it may print, warn or raise.
    """
    return {str(name): _text(value) for name, value in parameters.items()}


def _text(value: Any) -> str:
    if isinstance(value, FunctionType | type):
        return value.__name__
    kind = type(value)
    if kind.__module__.partition(".")[0] not in DESCRIBED:
        return f"<{kind.__name__}>"
    try:
        return without_credentials(short_text(value, MAX_VALUE_LENGTH))
    except (Exception, SystemExit):  # raised by an object within it
        return f"<{kind.__name__}>"


def read_scores(scores: Any) -> dict[str, float]:
    """Return scores by metric, from scikit-learn's format: a number, or a dictionary of several."""
    if isinstance(scores, Mapping):
        return {str(name): float(score) for name, score in scores.items()}
    return {SINGLE_METRIC: float(scores)}


def last_line(error: str) -> str:
    """Return the last line of a traceback, which contains the error."""
    lines = error.rstrip().splitlines()
    text = without_credentials(lines[-1].strip()) if lines else ""
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"
