"""Trains LightGBM for a declared job, on all workers at once; when one dies, it starts again as a whole.

LightGBM's interface to Dask has no way to go on from a model, so there are no checkpoints. Early stopping is refused:
its Dask estimators hang with it (see `patches.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import in_parts, lay_out, places
from skjob.boosters.patches import INSTEAD, early_stopping_asked, mustered
from skjob.boosters.training import Tell, Trained, lost_worker, wait_for_workers
from skjob.errors import ConfigError


def check_lightgbm(estimator: Any) -> None:
    """What can be known before any data is read. Raises ConfigError."""
    asked = early_stopping_asked(estimator.get_params())
    if asked is not None:
        raise ConfigError(f"LightGBM's Dask estimators hang with early stopping, which {asked} asks for", INSTEAD)


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
    tell: Tell = print,
) -> Trained:
    """Train on all workers of the client's cluster.

    Parameters are those of `train_xgboost`; `group` has the sizes of a ranker's groups, and `attempts` is how many
    deaths of a worker are survived.

    Raises
    ------
    ConfigError
        Early stopping, or partitions that do not match.
    TrainingLost
        No worker is left, or the training ends its workers.
    """
    import lightgbm

    check_lightgbm(estimator)
    kind = getattr(lightgbm, "Dask" + type(estimator).__name__.removeprefix("Dask"))
    parameters = {name: value for name, value in estimator.get_params().items() if name != "client"}
    restarts = 0
    with mustered():
        workers = places(client) or wait_for_workers(client, 1, wait_for_worker, free=False)
        while True:
            try:
                features, target, weights, groups = lay_out(client, (X, y, sample_weight, group), workers)
                parts = features.npartitions
                sets = [tuple(in_parts(each, parts) for each in lay_out(client, pair, workers)) for pair in eval_set]
                extra = {"sample_weight": weights, "group": groups}
                given = {name: value for name, value in extra.items() if value is not None}
                fitted = kind(**parameters, client=client).fit(features, target, **given, **_watched(kind, sets))
                break
            except ConfigError:
                raise
            except Exception as error:
                gone = lost_worker(workers, client)
                if gone is None:
                    raise
                restarts += 1
                if restarts > attempts:
                    raise TrainingLost(
                        f"the training has lost a worker {restarts} times, at last `{gone}`: "
                        "it may need more memory than a worker has"
                    ) from error
                number = len(workers)
                workers = wait_for_workers(client, number, wait_for_worker)
                tell(f"lightgbm: worker `{gone}` went away; starts again with {len(workers)} of {number} workers")
    model = fitted.to_local()
    history = {name: dict(scores) for name, scores in fitted.evals_result_.items()} if sets else {}
    return Trained(model, history, int(model.booster_.current_iteration()), 0, restarts)


def _watched(kind: Any, sets: list[Any]) -> dict[str, Any]:
    """The evaluation sets as this LightGBM wants them: 4.7 warns of `eval_set`, 4.6 knows nothing else."""
    if not sets:
        return {}
    if "eval_X" not in signature(kind.fit).parameters:
        return {"eval_set": sets}
    return {"eval_X": tuple(features for features, _ in sets), "eval_y": tuple(target for _, target in sets)}
