"""Tell from an estimator's class whether it can learn from data in memory, from pieces, or from both."""

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
    """Return the library, `xgboost` or `lightgbm`, that can train an estimator on several workers; None for others."""
    module, _, name = path.rpartition(".")
    library = module.partition(".")[0]
    kind = name.removeprefix("Dask")
    if library == "xgboost" and kind in ("XGBClassifier", "XGBRegressor", "XGBRanker"):
        return "xgboost"
    if library == "lightgbm" and kind in ("LGBMClassifier", "LGBMRegressor", "LGBMRanker"):
        return "lightgbm"
    return None


def booster_library(estimator: Any) -> str | None:
    """Return the library that trains an estimator of a declared job on Dask's collections; None for rankers."""
    kind = type(estimator)
    return library_of(f"{kind.__module__}.{kind.__name__}") if kind.__name__ in BOOSTERS else None


def steps_of(estimator: Any) -> list[Any]:
    """Return the steps of a pipeline; for any other estimator, the estimator itself."""
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]


def input_mode_of(estimator: Any) -> InputMode:
    """Return what the estimator, or the pipeline, can learn from."""
    steps = steps_of(estimator)
    last = steps[-1]
    if is_dask_ml_model(last):
        return InputMode.OUT_OF_CORE
    if len(steps) == 1 and booster_library(last):
        return BOOSTERS[type(last).__name__]
    if any(is_dask_ml(step) for step in steps[:-1]):
        return InputMode.OUT_OF_CORE if hasattr(last, "partial_fit") else InputMode.IN_MEMORY
    return InputMode.BOTH if all(hasattr(step, "partial_fit") for step in steps) else InputMode.IN_MEMORY


def is_dask_ml_model(step: Any) -> bool:
    """Return whether dask-ml fits the step on Dask's arrays."""
    return f"{type(step).__module__}.".startswith(DASK_ML_MODELS)


def is_dask_ml(step: Any) -> bool:
    """Return whether the step is dask-ml's."""
    return type(step).__module__.partition(".")[0] == "dask_ml"


def classifies(estimator: Any) -> bool:
    """Return whether the estimator predicts classes, which dask-ml's classifiers do not declare."""
    from sklearn.base import is_classifier

    last = steps_of(estimator)[-1]
    if is_dask_ml_model(last):
        return type(last).__name__ in ("LogisticRegression", "GaussianNB")
    return bool(is_classifier(last))
