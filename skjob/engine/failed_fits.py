"""A fit that ended every worker it ran on, as scikit-learn tells of a fit that failed.

Scikit-learn gives a fit that raises the score `error_score` and goes on with the search. A fit that takes its process
down never gets there. So the same function of scikit-learn is called here with an estimator that raises what happened:
its result has all that the search expects, in whatever version of scikit-learn.
"""

from __future__ import annotations

import numbers
from typing import Any

from skjob.engine.joblib_calls import JoblibCall, fit_arguments, inner_function


def failed_fit(call: JoblibCall, error: Exception) -> Any:
    """The result of a fit that raised `error`; None where the call is none, or its errors are to be raised."""
    arguments = fit_arguments(call)
    from sklearn.base import clone

    if arguments is None or not isinstance(arguments.get("error_score"), numbers.Number):
        return None
    function, _, _ = call
    estimator = clone(arguments["estimator"]).set_params(**clone(arguments.get("parameters") or {}, safe=False))
    result = inner_function(function)(**{**arguments, "estimator": _fails_with(error, estimator)})
    if isinstance(result, dict) and "estimator" in result:
        result["estimator"] = estimator
    return result


def _fails_with(error: Exception, original: Any) -> Any:
    from sklearn.base import BaseEstimator

    class FailedFit(BaseEstimator):  # type: ignore[misc]
        def set_params(self, **_: Any) -> Any:
            return self

        def fit(self, *_: Any, **__: Any) -> None:
            raise error

        def partial_fit(self, *_: Any, **__: Any) -> None:
            raise error

        def __sklearn_tags__(self) -> Any:
            # Whether the data is a matrix of pairs decides how it is split.
            return original.__sklearn_tags__()

    return FailedFit()
