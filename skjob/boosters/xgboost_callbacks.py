"""What a training of XGBoost notes on its workers after each round, and how it goes on from what was noted.

The worker of rank 0 keeps its latest checkpoint in memory, where the program fetches it: a booster of megabytes is no
message for the scheduler, and a folder of the user's is not within a worker's reach. A training that goes on starts
from the booster; callbacks are given the rounds before, so that early stopping counts them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

from xgboost import collective
from xgboost.callback import EarlyStopping, TrainingCallback

from skjob.boosters.checkpoint import Checkpoint, first_rounds, joined

_lock = threading.Lock()
_latest: dict[str, Checkpoint] = {}
"""By training."""


def fetch(training: str, after: int) -> Checkpoint | None:
    """Runs on a worker: the latest checkpoint, where it is of more than `after` rounds and was noted here."""
    with _lock:
        latest = _latest.get(training)
    return latest if latest is not None and latest.rounds > after else None


def forget(training: str) -> None:
    """Runs on a worker: the training is over."""
    with _lock:
        _latest.pop(training, None)


class CheckpointCallback(TrainingCallback):  # type: ignore[misc]
    """Notes a checkpoint every `every` rounds, counted from the first of the whole training."""

    def __init__(self, training: str, every: int, before: Checkpoint | None) -> None:
        super().__init__()
        self._training = training
        self._every = every
        self._before = before

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Called by XGBoost after each round."""
        rounds = model.num_boosted_rounds()
        if rounds % self._every == 0 and collective.get_rank() == 0:
            history = joined(self._before.history if self._before else {}, evals_log)
            with _lock:
                _latest[self._training] = Checkpoint(rounds, bytes(model.save_raw("ubj")), history)
        return False


class ResumedCallback(TrainingCallback):  # type: ignore[misc]
    """Another callback, which is given the rounds before as if it had been there."""

    def __init__(self, callback: TrainingCallback, before: Checkpoint | None) -> None:
        super().__init__()
        self._callback = copy.deepcopy(callback)
        self._before = before
        self._over = False

    def before_training(self, model: Any) -> Any:
        """Called by XGBoost. Early stopping sees round after round what it would have seen."""
        model = self._callback.before_training(model)
        if self._before is not None and isinstance(self._callback, EarlyStopping) and self._before.history:
            rounds, self._callback.starting_round = self._callback.starting_round, 0
            for number in range(rounds):
                seen = first_rounds(self._before.history, number + 1)
                self._over = self._callback.after_iteration(model, number, seen)
            self._callback.starting_round = rounds
        return model

    def after_training(self, model: Any) -> Any:
        """Called by XGBoost."""
        return self._callback.after_training(model)

    def before_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Called by XGBoost. Where the rounds before were enough, there are no more."""
        return self._over or bool(self._callback.before_iteration(model, *self._whole(epoch, evals_log)))

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Called by XGBoost."""
        return bool(self._callback.after_iteration(model, *self._whole(epoch, evals_log)))

    def _whole(self, epoch: int, evals_log: Mapping[str, Any]) -> tuple[int, Any]:
        if self._before is None:
            return epoch, evals_log
        # Early stopping adds the rounds before by itself.
        shift = 0 if isinstance(self._callback, EarlyStopping) else self._before.rounds
        return epoch + shift, joined(self._before.history, evals_log)
