"""Train LightGBM for a declared job, on all workers at once; restart from the beginning when one is lost.

LightGBM's interface to Dask cannot continue from a model, so there are no checkpoints. Early stopping is refused: its
Dask estimators hang with it (see `patches.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import connected_workers, lay_out, with_partitions
from skjob.boosters.patches import EARLY_STOPPING_HINT, gathered_workers, requested_early_stopping
from skjob.boosters.training import TrainingResult, lost_worker, wait_for_workers
from skjob.errors import ConfigError
from skjob.utils.notify import Notify


def check_lightgbm(estimator: Any) -> None:
    """Check what can be known before any data is read. Raise ConfigError."""
    requested = requested_early_stopping(estimator.get_params())
    if requested is not None:
        raise ConfigError(
            f"LightGBM's Dask estimators hang with early stopping, which {requested} requests", EARLY_STOPPING_HINT
        )


def train_lightgbm(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    client: Any,
    eval_set: Sequence[tuple[Any, Any]] = (),
    sample_weight: Any = None,
    group: Any = None,
    wait_for_worker: float = 300.0,
    attempts: int = 3,
    notify: Notify = print,
) -> TrainingResult:
    """Train on all workers of the client's cluster.

    Parameters are those of `train_xgboost`; `group` has the sizes of a ranker's groups, and `attempts` is how often the
    training restarts after losing a worker.

    Raises
    ------
    ConfigError
        Early stopping is requested, or partitions do not match.
    TrainingLost
        No worker is left, or the training ends its workers.
    """
    import lightgbm

    check_lightgbm(estimator)
    kind = getattr(lightgbm, "Dask" + type(estimator).__name__.removeprefix("Dask"))
    parameters = {name: value for name, value in estimator.get_params().items() if name != "client"}
    restarts = 0
    with gathered_workers():
        workers = connected_workers(client) or wait_for_workers(client, 1, wait_for_worker, free=False)
        while True:
            try:
                features, target, weights, groups = lay_out(client, (X, y, sample_weight, group), workers)
                parts = features.npartitions
                sets = [
                    tuple(with_partitions(each, parts) for each in lay_out(client, pair, workers)) for pair in eval_set
                ]
                extra = {"sample_weight": weights, "group": groups}
                given = {name: value for name, value in extra.items() if value is not None}
                fitted = kind(**parameters, client=client).fit(
                    features, target, **given, **_evaluation_sets(kind, sets)
                )
                break
            except ConfigError:
                raise
            except Exception as error:
                lost = lost_worker(workers, client)
                if lost is None:
                    raise
                restarts += 1
                if restarts > attempts:
                    raise TrainingLost(
                        f"the training has lost a worker {restarts} times, last `{lost}`: "
                        "it may need more memory than a worker has"
                    ) from error
                number = len(workers)
                workers = wait_for_workers(client, number, wait_for_worker)
                notify(f"lightgbm: worker `{lost}` was lost; restarting with {len(workers)} of {number} workers")
    model = fitted.to_local()
    history = {name: dict(scores) for name, scores in fitted.evals_result_.items()} if sets else {}
    return TrainingResult(model, history, int(model.booster_.current_iteration()), 0, restarts)


def _evaluation_sets(kind: Any, sets: list[Any]) -> dict[str, Any]:
    """Return the evaluation sets as this LightGBM takes them: 4.7 warns about `eval_set`, 4.6 has nothing else."""
    if not sets:
        return {}
    if "eval_X" not in signature(kind.fit).parameters:
        return {"eval_set": sets}
    return {"eval_X": tuple(features for features, _ in sets), "eval_y": tuple(target for _, target in sets)}
