"""Callbacks of XGBoost that keep a checkpoint on a worker, and resume other callbacks from one.

The worker of rank 0 keeps its latest checkpoint in memory, where the program fetches it: a booster of megabytes is too
large a message for the scheduler, and a worker cannot reach the user's folder. A resumed training starts from the
booster; callbacks are given the earlier rounds, so that early stopping counts them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

from xgboost import collective
from xgboost.callback import EarlyStopping, TrainingCallback

from skjob.boosters.checkpoint import Checkpoint, extend_history, first_rounds

_lock = threading.Lock()
_latest: dict[str, Checkpoint] = {}
"""Checkpoints by training."""


def fetch_checkpoint(training: str, after: int) -> Checkpoint | None:
    """Return the latest checkpoint kept here; None unless it has more than `after` rounds. Runs on a worker."""
    with _lock:
        latest = _latest.get(training)
    return latest if latest is not None and latest.rounds > after else None


def discard_checkpoint(training: str) -> None:
    """Discard the checkpoint of a training that has ended. Runs on a worker."""
    with _lock:
        _latest.pop(training, None)


class CheckpointCallback(TrainingCallback):  # type: ignore[misc]
    """Keeps a checkpoint every `every` rounds, counted from the first of the whole training."""

    def __init__(self, training: str, every: int, before: Checkpoint | None) -> None:
        super().__init__()
        self._training = training
        self._every = every
        self._before = before

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Keep a checkpoint if it is time for one."""
        rounds = model.num_boosted_rounds()
        if rounds % self._every == 0 and collective.get_rank() == 0:
            history = extend_history(self._before.history if self._before else {}, evals_log)
            with _lock:
                _latest[self._training] = Checkpoint(rounds, bytes(model.save_raw("ubj")), history)
        return False


class ResumedCallback(TrainingCallback):  # type: ignore[misc]
    """Wraps a callback, and gives it the earlier rounds as if it had seen them."""

    def __init__(self, callback: TrainingCallback, before: Checkpoint | None) -> None:
        super().__init__()
        self._callback = copy.deepcopy(callback)
        self._before = before
        self._over = False

    def before_training(self, model: Any) -> Any:
        """Replay the earlier rounds for early stopping."""
        model = self._callback.before_training(model)
        if self._before is not None and isinstance(self._callback, EarlyStopping) and self._before.history:
            rounds, self._callback.starting_round = self._callback.starting_round, 0
            for number in range(rounds):
                seen = first_rounds(self._before.history, number + 1)
                self._over = self._callback.after_iteration(model, number, seen)
            self._callback.starting_round = rounds
        return model

    def after_training(self, model: Any) -> Any:
        """Call the wrapped callback."""
        return self._callback.after_training(model)

    def before_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Stop at once if early stopping has had enough rounds before."""
        return self._over or bool(self._callback.before_iteration(model, *self._whole(epoch, evals_log)))

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Call the wrapped callback with all rounds."""
        return bool(self._callback.after_iteration(model, *self._whole(epoch, evals_log)))

    def _whole(self, epoch: int, evals_log: Mapping[str, Any]) -> tuple[int, Any]:
        if self._before is None:
            return epoch, evals_log
        # Early stopping adds the earlier rounds by itself.
        shift = 0 if isinstance(self._callback, EarlyStopping) else self._before.rounds
        return epoch + shift, extend_history(self._before.history, evals_log)
