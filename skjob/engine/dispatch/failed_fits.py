"""Turn a fit that ended every worker it ran on into a failed fit of scikit-learn.

scikit-learn gives a fit that raises the score `error_score` and continues the search. A fit that ends its process never
gets there. So the same function of scikit-learn is called here with an estimator that raises the error: its result has
all that the search expects, in any version of scikit-learn.
"""

from __future__ import annotations

import numbers
from typing import Any

from skjob.engine.joblib_calls import JoblibCall, fit_arguments, inner_function


def failed_fit(call: JoblibCall, error: Exception) -> Any:
    """Return the result of a fit that raised `error`; None if the call is no fit, or its errors are to be raised."""
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
            # They say whether the data is a matrix of pairs, which decides how it is split.
            return original.__sklearn_tags__()

    return FailedFit()
