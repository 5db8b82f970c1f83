"""Trains XGBoost for a declared job, on all workers at once, and goes on from its last checkpoint when one dies.

It is one call of `xgboost.dask` as long as nothing happens: the same model as without checkpoints. After a death the
data is laid out anew and the rounds that are left are trained on top of the checkpoint. On as many workers as before
that gives the same model bit for bit, unless rows or columns are sampled (`subsample`, `colsample_*`, dart): XGBoost's
random numbers start anew, with another seed, as no seed takes them up in mid-training. On fewer workers the quantiles
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

from skjob.boosters.checkpoint import Checkpoint, joined
from skjob.boosters.errors import TrainingLost
from skjob.boosters.partitioning import Place, lay_out, places
from skjob.boosters.patches import mustered
from skjob.boosters.training import Tell, Trained, lost_worker, wait_for_workers
from skjob.errors import ConfigError, in_a_line
from skjob.utils.dask_client import wait_result

FETCH_EVERY = 1.0
"""Seconds between two looks for a new checkpoint."""

ASK_TIMEOUT = 10.0


def check_xgboost(estimator: Any, eval_set: Sequence[Any]) -> None:
    """What can be known before any data is read. Raises ConfigError, for all problems at once."""
    problems = []
    parameters = estimator.get_params()
    if parameters.get("early_stopping_rounds") and not eval_set:
        problems.append("`early_stopping_rounds` needs an evaluation set, and there is none")
    rounds = parameters.get("n_estimators")
    if rounds is not None and (not isinstance(rounds, int) or rounds < 1):
        problems.append(f"`n_estimators={rounds!r}` is no number of rounds")
    if parameters.get("booster") == "gblinear":
        problems.append("`booster=gblinear` is not trained on Dask by XGBoost")
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
    tell: Tell = print,
) -> Trained:
    """Train on all workers of the client's cluster.

    Parameters
    ----------
    estimator : XGBClassifier, XGBRegressor or XGBRanker
        Of XGBoost, for one machine or for Dask, not fitted. It is left as it is.
    X, y : Dask collections
        Lazy, or they are lost with the worker that has them.
    folder : str, Path or None
        Where checkpoints are kept: a folder, or an address of fsspec's. None keeps them for this call alone.
    identity : str, default=None
        Tells the data's content. None goes by the collections themselves, where Dask can tell them from others.
    every : int, default=10
        Rounds between two checkpoints.
    eval_set : list of (X, y)
        Dask collections, named `validation_0` and so on in the history. The last is for early stopping.
    wait_for_worker : float, default=300
        Seconds without any worker after which it ends.
    attempts : int, default=5
        Deaths in a row, with no checkpoint between them, after which it ends.
    tell : callable
        Takes a line for the user.

    Raises
    ------
    ConfigError
        Parameters, labels or partitions that can't be trained on.
    TrainingLost
        No worker is left, or the training ends its workers.
    """
    import xgboost

    from skjob.boosters.checkpoint import InMemory, Kept, Stored, identity_of

    check_xgboost(estimator, eval_set)
    data = identity if identity is not None else (X, y, sample_weight, qid, tuple(eval_set))
    known = identity_of(estimator, data, xgboost.__version__) if folder is not None else None
    kept: Kept = Stored(folder, known) if folder is not None and known is not None else InMemory()
    training = _Training(estimator, (X, y, sample_weight, qid), eval_set, client, kept, every, tell)
    resumed_from = training.rounds
    if training.finished:
        tell(f"xgboost: an earlier run has trained all {training.rounds} rounds")
    elif resumed_from:
        tell(f"xgboost: goes on from round {resumed_from}, which an earlier run has reached")
    with mustered():
        restarts = training.run(wait_for_worker, attempts)
    model, history = training.result()
    return Trained(model, history, training.rounds, resumed_from, restarts)


class _Training:
    """One training, from its latest checkpoint on."""

    def __init__(
        self,
        estimator: Any,
        data: tuple[Any, Any, Any, Any],
        eval_set: Sequence[tuple[Any, Any]],
        client: Any,
        kept: Any,
        every: int,
        tell: Tell,
    ) -> None:
        self._estimator = estimator
        self._data = data
        self._eval_set = eval_set
        self._client = client
        self._kept = kept
        self._every = max(1, every)
        self._tell = tell
        self._told: set[str] = set()
        self._latest: Checkpoint | None = None
        with self._telling_once("an earlier run's checkpoint can't be read"):
            self._latest = kept.find()

    @property
    def rounds(self) -> int:
        return self._latest.rounds if self._latest is not None else 0

    @property
    def finished(self) -> bool:
        return self._latest is not None and self._latest.finished

    def run(self, wait_for_worker: float, attempts: int) -> int:
        """Train to the end; how often a worker's death was survived."""
        restarts = in_vain = 0
        workers = places(self._client) or wait_for_workers(self._client, 1, wait_for_worker, free=False)
        while not self.finished:
            before = self.rounds
            try:
                self._train(workers)
            except ConfigError:
                raise
            except Exception as error:
                gone = lost_worker(workers, self._client)
                if gone is None:
                    raise
                restarts += 1
                in_vain = 0 if self.rounds > before else in_vain + 1
                if in_vain >= attempts:
                    raise TrainingLost(
                        f"the training has lost a worker {attempts} times without getting on, at last `{gone}`: "
                        f"it may need more memory than a worker has; {self.rounds} rounds are done"
                    ) from error
                number = len(workers)
                workers = wait_for_workers(self._client, number, wait_for_worker)
                told = (
                    f"with {len(workers)} of {number} workers" if len(workers) < number else "with another in its place"
                )
                self._tell(f"xgboost: worker `{gone}` went away; goes on from round {self.rounds}, {told}")
        return restarts

    def result(self) -> tuple[Any, Any]:
        """The model for one machine, and the scores."""
        import xgboost

        assert self._latest is not None  # noqa: S101 - `run` has ended
        kind = getattr(xgboost, type(self._estimator).__name__.removeprefix("Dask"))
        parameters = {name: value for name, value in self._estimator.get_params().items() if name != "coll_cfg"}
        model = kind(**parameters)
        model.load_model(bytearray(self._latest.booster))
        if self._latest.history:
            model.evals_result_ = self._latest.history
        return model, self._latest.history

    def _train(self, workers: Sequence[Place]) -> None:
        import xgboost.dask
        from xgboost.callback import EarlyStopping

        from skjob.boosters.xgboost_callbacks import CheckpointCallback, ResumedCallback

        X, y, sample_weight, qid = lay_out(self._client, self._data, workers)
        eval_set = [
            # The data itself is not held twice, and XGBoost knows it again.
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
            # Else each training that goes on would sample the rows that the first has sampled.
            parameters["random_state"] = (parameters.get("random_state") or 0) + before.rounds
        kind = getattr(xgboost.dask, "Dask" + type(self._estimator).__name__.removeprefix("Dask"))
        going_on = [ResumedCallback(callback, before) for callback in callbacks]
        estimator = kind(**parameters, callbacks=[CheckpointCallback(training, self._every, before), *going_on])
        estimator.client = self._client
        booster = None if before is None else xgboost.Booster(model_file=bytearray(before.booster))
        rows = {"sample_weight": sample_weight} if qid is None else {"qid": qid}
        with self._fetching(training, workers):
            estimator.fit(X, y, eval_set=eval_set or None, verbose=False, xgb_model=booster, **rows)
        trained = estimator.get_booster()
        history = joined(before.history if before else {}, estimator.evals_result() if eval_set else {})
        self._note(Checkpoint(trained.num_boosted_rounds(), bytes(trained.save_raw("ubj")), history, finished=True))

    def _check_labels(self, y: Any) -> None:
        """XGBoost itself takes any numbers, and trains nonsense on those that are not 0, 1, 2, …"""
        from distributed import futures_of
        from sklearn.base import is_classifier

        if not is_classifier(self._estimator):
            return
        each = [self._client.submit(_labels, part) for part in futures_of(y)]
        found = sorted(set().union(*self._client.gather(each)), key=str)
        if all(isinstance(label, int | float) for label in found):
            found.sort()
        if found != list(range(len(found))):
            told = ", ".join(repr(label) for label in found[:8])
            raise ConfigError(f"the labels are {told}: XGBoost needs 0, 1, 2, …", "number the classes of the target")

    @contextmanager
    def _fetching(self, training: str, workers: Sequence[Place]) -> Iterator[None]:
        """Get checkpoints from the workers for the length of the block."""
        from skjob.boosters.xgboost_callbacks import fetch, forget

        addresses = [place.address for place in workers]
        over = threading.Event()

        def look() -> None:
            for checkpoint in self._ask(fetch, training, self.rounds, workers=addresses):
                if checkpoint is not None and checkpoint.rounds > self.rounds:
                    self._note(checkpoint)

        def keep_looking() -> None:
            while not over.wait(FETCH_EVERY):
                with suppress(Exception):  # the next look may succeed; the training itself tells what is wrong
                    look()

        thread = threading.Thread(target=keep_looking, name="skjob-checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(ASK_TIMEOUT)
            with suppress(Exception):
                self._ask(forget, training, workers=addresses)

    def _ask(self, function: Any, *arguments: Any, workers: Sequence[str]) -> list[Any]:
        """Run it on those of the workers that are still there; one that dies just now is not waited for."""
        there = [place.address for place in places(self._client) if place.address in workers]
        asking = self._client.run(function, *arguments, workers=there, on_error="ignore", asynchronous=True)
        return list(wait_result(self._client, asking, ASK_TIMEOUT).values())

    def _note(self, checkpoint: Checkpoint) -> None:
        self._latest = checkpoint
        with self._telling_once("checkpoints can't be kept for another run"):
            self._kept.keep(checkpoint)

    @contextmanager
    def _telling_once(self, what: str) -> Iterator[None]:
        """The place where checkpoints are kept may fail; the training, whose latest is here, goes on."""
        try:
            yield
        except Exception as error:
            if what not in self._told:
                self._told.add(what)
                self._tell(f"xgboost: {what}: {in_a_line(error)}")


def _labels(part: Any) -> set[Any]:
    """Runs on a worker: what is in a part of the target."""
    import numpy

    return set(numpy.unique(part).tolist())
