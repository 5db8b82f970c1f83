"""Train XGBoost for a declared job, on all workers at once, and continue from the last checkpoint if one is lost.

As long as no worker is lost it is one call of `xgboost.dask`, with the same model as without checkpoints. After a loss
the data is placed again, and the remaining rounds are trained on top of the checkpoint. On the same number of workers
that gives the same model bit for bit, unless rows or columns are sampled (`subsample`, `colsample_*`, dart): XGBoost's
random numbers start again, with another seed, as they cannot be resumed in mid-training. On fewer workers the quantiles
of the features differ in their last digits, as they do between any two layouts (xgboost 3.2; both are tests in
tests/integration/test_boosters.py).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from skjob.boosters.checkpoint import Checkpoint, extend_history
from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import WorkerRef, connected_workers, lay_out
from skjob.boosters.patches import gathered_workers
from skjob.boosters.training import TrainingResult, lost_worker, wait_for_workers
from skjob.errors import ConfigError, in_a_line
from skjob.utils.dask_client import wait_result
from skjob.utils.notify import Notify

FETCH_INTERVAL = 1.0
"""Seconds between two requests for a new checkpoint."""

CHECKPOINT_TIMEOUT = 10.0


def check_xgboost(estimator: Any, eval_set: Sequence[Any]) -> None:
    """Check what can be known before any data is read. Raise ConfigError with all problems."""
    problems = []
    parameters = estimator.get_params()
    if parameters.get("early_stopping_rounds") and not eval_set:
        problems.append("`early_stopping_rounds` needs an evaluation set, but there is none")
    rounds = parameters.get("n_estimators")
    if rounds is not None and (not isinstance(rounds, int) or rounds < 1):
        problems.append(f"`n_estimators={rounds!r}` is not a number of rounds")
    if parameters.get("booster") == "gblinear":
        problems.append("XGBoost cannot train `booster=gblinear` on Dask")
    if problems:
        raise ConfigError.collect(problems, "fix the estimator's parameters")


def train_xgboost(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    client: Any,
    folder: str | Path | None,
    identity: str | None = None,
    every: int = 10,
    eval_set: Sequence[tuple[Any, Any]] = (),
    sample_weight: Any = None,
    qid: Any = None,
    wait_for_worker: float = 300.0,
    attempts: int = 5,
    notify: Notify = print,
) -> TrainingResult:
    """Train on all workers of the client's cluster.

    Parameters
    ----------
    estimator : XGBClassifier, XGBRegressor or XGBRanker
        An unfitted estimator of XGBoost's, for one machine or for Dask. It is not changed.
    X, y : Dask collections
        Lazy collections: persisted ones are lost with the worker that holds them.
    folder : str, Path or None
        Where checkpoints are kept: a folder, or an fsspec address. None keeps them for this call only.
    identity : str, default=None
        Identifies the data's content. None uses the collections themselves, if Dask can identify them.
    every : int, default=10
        Rounds between two checkpoints.
    eval_set : list of (X, y)
        Dask collections, named `validation_0` and so on in the history. The last one decides early stopping.
    wait_for_worker : float, default=300
        Seconds without any worker after which the training ends.
    attempts : int, default=5
        Lost workers in a row, with no checkpoint between them, after which the training ends.
    notify : callable
        Takes a line for the user.

    Raises
    ------
    ConfigError
        Parameters, labels or partitions cannot be trained on.
    TrainingLost
        No worker is left, or the training ends its workers.
    """
    import xgboost

    from skjob.boosters.checkpoint import CheckpointStore, FileCheckpointStore, MemoryCheckpointStore, training_identity

    check_xgboost(estimator, eval_set)
    data = identity if identity is not None else (X, y, sample_weight, qid, tuple(eval_set))
    known = training_identity(estimator, data, xgboost.__version__) if folder is not None else None
    store: CheckpointStore = (
        FileCheckpointStore(folder, known) if folder is not None and known is not None else MemoryCheckpointStore()
    )
    training = _Training(estimator, (X, y, sample_weight, qid), eval_set, client, store, every, notify)
    resumed_from = training.rounds
    if training.finished:
        notify(f"xgboost: reused all {training.rounds} rounds from an earlier run")
    elif resumed_from:
        notify(f"xgboost: continuing from round {resumed_from} of an earlier run")
    with gathered_workers():
        restarts = training.run(wait_for_worker, attempts)
    model, history = training.result()
    return TrainingResult(model, history, training.rounds, resumed_from, restarts)


class _Training:
    """One training, from its latest checkpoint on."""

    def __init__(
        self,
        estimator: Any,
        data: tuple[Any, Any, Any, Any],
        eval_set: Sequence[tuple[Any, Any]],
        client: Any,
        store: Any,
        every: int,
        notify: Notify,
    ) -> None:
        self._estimator = estimator
        self._data = data
        self._eval_set = eval_set
        self._client = client
        self._store = store
        self._every = max(1, every)
        self._notify = notify
        self._reported: set[str] = set()
        self._latest: Checkpoint | None = None
        with self._reporting_once("cannot read an earlier run's checkpoint"):
            self._latest = store.load()

    @property
    def rounds(self) -> int:
        return self._latest.rounds if self._latest is not None else 0

    @property
    def finished(self) -> bool:
        return self._latest is not None and self._latest.finished

    def run(self, wait_for_worker: float, attempts: int) -> int:
        """Train to the end. Return the number of restarts after a lost worker."""
        restarts = in_vain = 0
        workers = connected_workers(self._client) or wait_for_workers(self._client, 1, wait_for_worker, free=False)
        while not self.finished:
            before = self.rounds
            try:
                self._train(workers)
            except ConfigError:
                raise
            except Exception as error:
                lost = lost_worker(workers, self._client)
                if lost is None:
                    raise
                restarts += 1
                in_vain = 0 if self.rounds > before else in_vain + 1
                if in_vain >= attempts:
                    raise TrainingLost(
                        f"the training has lost a worker {attempts} times without progress, last `{lost}`: "
                        f"it may need more memory than a worker has; {self.rounds} rounds are done"
                    ) from error
                number = len(workers)
                workers = wait_for_workers(self._client, number, wait_for_worker)
                replaced = (
                    f"with {len(workers)} of {number} workers" if len(workers) < number else "with another one instead"
                )
                self._notify(f"xgboost: worker `{lost}` was lost; continuing from round {self.rounds}, {replaced}")
        return restarts

    def result(self) -> tuple[Any, Any]:
        """Return the model for one machine, and the scores."""
        import xgboost

        assert self._latest is not None  # noqa: S101 - `run` has ended
        kind = getattr(xgboost, type(self._estimator).__name__.removeprefix("Dask"))
        parameters = {name: value for name, value in self._estimator.get_params().items() if name != "coll_cfg"}
        model = kind(**parameters)
        model.load_model(bytearray(self._latest.booster))
        if self._latest.history:
            model.evals_result_ = self._latest.history
        return model, self._latest.history

    def _train(self, workers: Sequence[WorkerRef]) -> None:
        import xgboost.dask
        from xgboost.callback import EarlyStopping

        from skjob.boosters.xgboost_callbacks import CheckpointCallback, ResumedCallback

        X, y, sample_weight, qid = lay_out(self._client, self._data, workers)
        eval_set = [
            # The training data is not held twice, and XGBoost recognizes it.
            (X, y)
            if features is self._data[0] and target is self._data[1]
            else tuple(lay_out(self._client, (features, target), workers))
            for features, target in self._eval_set
        ]
        self._check_labels(y)
        training = secrets.token_hex(8)
        parameters = self._estimator.get_params()
        before = self._latest
        callbacks = [*(parameters.pop("callbacks", None) or ())]
        patience = parameters.pop("early_stopping_rounds", None)
        if patience:
            callbacks.append(EarlyStopping(rounds=patience))
        total = self._estimator.get_num_boosting_rounds()
        parameters["n_estimators"] = total - self.rounds
        if before is not None and isinstance(parameters.get("random_state"), int | None):
            # Else each resumed training would sample the same rows as the first.
            parameters["random_state"] = (parameters.get("random_state") or 0) + before.rounds
        kind = getattr(xgboost.dask, "Dask" + type(self._estimator).__name__.removeprefix("Dask"))
        resumed = [ResumedCallback(callback, before) for callback in callbacks]
        estimator = kind(**parameters, callbacks=[CheckpointCallback(training, self._every, before), *resumed])
        estimator.client = self._client
        booster = None if before is None else xgboost.Booster(model_file=bytearray(before.booster))
        rows = {"sample_weight": sample_weight} if qid is None else {"qid": qid}
        with self._fetching(training, workers):
            estimator.fit(X, y, eval_set=eval_set or None, verbose=False, xgb_model=booster, **rows)
        trained = estimator.get_booster()
        history = extend_history(before.history if before else {}, estimator.evals_result() if eval_set else {})
        self._store_checkpoint(
            Checkpoint(trained.num_boosted_rounds(), bytes(trained.save_raw("ubj")), history, finished=True)
        )

    def _check_labels(self, y: Any) -> None:
        """Raise ConfigError unless the labels are 0, 1, 2, …: XGBoost trains nonsense on other numbers."""
        from distributed import futures_of
        from sklearn.base import is_classifier

        if not is_classifier(self._estimator):
            return
        each = [self._client.submit(_labels, part) for part in futures_of(y)]
        found = sorted(set().union(*self._client.gather(each)), key=str)
        if all(isinstance(label, int | float) for label in found):
            found.sort()
        if found != list(range(len(found))):
            labels = ", ".join(repr(label) for label in found[:8])
            raise ConfigError(f"the labels are {labels}: XGBoost needs 0, 1, 2, …", "number the classes of the target")

    @contextmanager
    def _fetching(self, training: str, workers: Sequence[WorkerRef]) -> Iterator[None]:
        """Fetch checkpoints from the workers until the block ends."""
        from skjob.boosters.xgboost_callbacks import discard_checkpoint, fetch_checkpoint

        addresses = [worker.address for worker in workers]
        over = threading.Event()

        def look() -> None:
            for checkpoint in self._ask(fetch_checkpoint, training, self.rounds, workers=addresses):
                if checkpoint is not None and checkpoint.rounds > self.rounds:
                    self._store_checkpoint(checkpoint)

        def keep_looking() -> None:
            while not over.wait(FETCH_INTERVAL):
                with suppress(Exception):  # the next request may succeed; the training itself reports what is wrong
                    look()

        thread = threading.Thread(target=keep_looking, name="skjob-checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(CHECKPOINT_TIMEOUT)
            with suppress(Exception):
                self._ask(discard_checkpoint, training, workers=addresses)

    def _ask(self, function: Any, *arguments: Any, workers: Sequence[str]) -> list[Any]:
        """Run a function on those of the workers that are connected, without waiting for one that is just dying."""
        connected = [worker.address for worker in connected_workers(self._client) if worker.address in workers]
        asking = self._client.run(function, *arguments, workers=connected, on_error="ignore", asynchronous=True)
        return list(wait_result(self._client, asking, CHECKPOINT_TIMEOUT).values())

    def _store_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._latest = checkpoint
        with self._reporting_once("cannot keep checkpoints for another run"):
            self._store.save(checkpoint)

    @contextmanager
    def _reporting_once(self, what: str) -> Iterator[None]:
        """Report a failure of the checkpoints' storage once; the training continues with the latest one in memory."""
        try:
            yield
        except Exception as error:
            if what not in self._reported:
                self._reported.add(what)
                self._notify(f"xgboost: {what}: {in_a_line(error)}")


def _labels(part: Any) -> set[Any]:
    """Return the values in a part of the target. Runs on a worker."""
    import numpy

    return set(numpy.unique(part).tolist())
