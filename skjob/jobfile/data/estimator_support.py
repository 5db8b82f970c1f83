"""What an estimator can learn from, by its class: data that is whole, in pieces, or either."""

from __future__ import annotations

from typing import Any

from skjob.jobfile.data.placement import InputMode

DASK_ML_MODELS = ("dask_ml.linear_model.", "dask_ml.naive_bayes.")
BOOSTERS = {
    "XGBClassifier": InputMode.BOTH,
    "XGBRegressor": InputMode.BOTH,
    "LGBMClassifier": InputMode.BOTH,
    "LGBMRegressor": InputMode.BOTH,
    "DaskXGBClassifier": InputMode.OUT_OF_CORE,
    "DaskXGBRegressor": InputMode.OUT_OF_CORE,
    "DaskLGBMClassifier": InputMode.OUT_OF_CORE,
    "DaskLGBMRegressor": InputMode.OUT_OF_CORE,
}


def library_of(path: str) -> str | None:
    """`xgboost` or `lightgbm`, by an estimator's import path, where they can train it on several workers at once."""
    module, _, name = path.rpartition(".")
    library = module.partition(".")[0]
    kind = name.removeprefix("Dask")
    if library == "xgboost" and kind in ("XGBClassifier", "XGBRegressor", "XGBRanker"):
        return "xgboost"
    if library == "lightgbm" and kind in ("LGBMClassifier", "LGBMRegressor", "LGBMRanker"):
        return "lightgbm"
    return None


def booster(estimator: Any) -> str | None:
    """The library of an estimator that a declared job trains on Dask's collections: no ranker."""
    kind = type(estimator)
    return library_of(f"{kind.__module__}.{kind.__name__}") if kind.__name__ in BOOSTERS else None


def steps_of(estimator: Any) -> list[Any]:
    """Of a pipeline; any other estimator is its own only step."""
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]


def input_mode_of(estimator: Any) -> InputMode:
    """What the estimator, or the pipeline, can learn from."""
    steps = steps_of(estimator)
    last = steps[-1]
    if is_dask_ml_model(last):
        return InputMode.OUT_OF_CORE
    if len(steps) == 1 and booster(last):
        return BOOSTERS[type(last).__name__]
    if any(is_dask_ml(step) for step in steps[:-1]):
        return InputMode.OUT_OF_CORE if hasattr(last, "partial_fit") else InputMode.IN_MEMORY
    return InputMode.BOTH if all(hasattr(step, "partial_fit") for step in steps) else InputMode.IN_MEMORY


def is_dask_ml_model(step: Any) -> bool:
    """Whether it is fitted by dask-ml, on Dask's arrays."""
    return f"{type(step).__module__}.".startswith(DASK_ML_MODELS)


def is_dask_ml(step: Any) -> bool:
    """Whether it comes from dask-ml."""
    return type(step).__module__.partition(".")[0] == "dask_ml"


def classifies(estimator: Any) -> bool:
    """Whether it predicts classes. dask-ml's classifiers don't say so as scikit-learn's do."""
    from sklearn.base import is_classifier

    last = steps_of(estimator)[-1]
    if is_dask_ml_model(last):
        return type(last).__name__ in ("LogisticRegression", "GaussianNB")
    return bool(is_classifier(last))
