"""Settle the batches of one Parallel call: each exactly once, with its results or with an error.

If plain Python runs the tasks in the program's process, a failed batch is settled only after all batches before it: one
of those may show that the call must run in that process, where the failure may not happen.
"""

from __future__ import annotations

import pickle
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from distributed import Client

from skjob.engine.checkpoint.fit_cache import CallFitCache
from skjob.engine.checkpoint.fit_key import FitIdentity
from skjob.engine.dispatch.batch import Batch, BatchTask, CallResult, KnownResult, WorkersLost
from skjob.engine.dispatch.failed_fits import failed_fit
from skjob.engine.dispatch.measurements import CallMeasurements
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.engine.fidelity.effects.returned_arguments import arguments_of
from skjob.engine.fidelity.replay import CallRefused
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.task import Outcome
from skjob.engine.transfer.shared_data import CallData
from skjob.utils.reconnect import abandon_reason

SCORING_FAILED = "Scoring failed."
"""How the warning of such a fit begins (scikit-learn 1.9, metrics/_scorer.py and model_selection/_validation.py)."""


class BatchResults:
    """Settles the batches of one call.

    Parameters
    ----------
    client : distributed.Client
    outstanding : OutstandingTasks
        The tasks of the call.
    data : CallData
        The shared data of the call, which a task that is settled releases.
    measurements : CallMeasurements
        Notes how long tasks took.
    fits : CallFitCache or None
        Stores finished fits.
    in_order : bool
        Whether a batch that failed waits for those before it.
    """

    def __init__(
        self,
        client: Client,
        outstanding: OutstandingTasks,
        data: CallData,
        measurements: CallMeasurements,
        fits: CallFitCache | None,
        *,
        in_order: bool,
    ) -> None:
        self._client = client
        self._outstanding = outstanding
        self._data = data
        self._measurements = measurements
        self._fits = fits
        self._in_order = in_order
        self._unsettled: deque[Batch] = deque()

    def expect(self, batch: Batch) -> None:
        """Note a batch that is to be settled, in the order of the tasks."""
        if self._in_order:
            self._unsettled.append(batch)

    def take(self, number: int) -> bool:
        """Return whether a task still has to be settled, which it is then the caller's to do."""
        task = self._outstanding.take(number)
        if task is None:
            return False
        self._data.release(task.data)
        task.remote, task.payload = None, b""
        return True

    # ------------------------------------------------------------------------------------------------ results

    def complete(self, task: BatchTask, results: list[CallResult]) -> None:
        """Note the results of a task's calls. Those after a call that failed did not run: joblib ignores them."""
        batch = task.batch
        results = [_checked(result) if isinstance(result, Outcome) else result for result in results]
        try:
            self._measurements.note_task(task, results)
            for index, result in zip(task.indices, results, strict=False):
                batch.results[index] = result
                if isinstance(result, Outcome) and result.ok and not result.refused:
                    if (estimate := batch.estimates[index]) is not None:
                        self._measurements.note_fit(estimate, result.seconds)
                    self._store(batch.identities[index], result, batch.calls[index])
        except Exception as error:  # nobody else would settle the batch any more
            batch.fail(self._named(error, task))
            return
        batch.failed = any(isinstance(result, Outcome) and not result.ok for result in batch.results)
        if batch.future.done() or not (batch.failed or batch.complete):
            return
        for found in batch.results:
            if isinstance(found, Outcome) and found.refused:
                batch.future.set_exception(CallRefused(found.refused))
                return
        if not self._in_order or not batch.failed:
            _settle(batch)
        if self._in_order:
            self._settle_failed()

    def _settle_failed(self) -> None:
        """Settle the batches that failed and have no unsettled batch before them."""
        while self._unsettled and (self._unsettled[0].future.done() or self._unsettled[0].failed):
            first = self._unsettled.popleft()
            if not first.future.done():
                _settle(first)

    def _store(self, identity: FitIdentity | None, outcome: Outcome, call: JoblibCall) -> None:
        if self._fits is not None and identity is not None and not outcome.effects and not _failed_scoring(outcome):
            with arguments_of(call):
                result = pickle.loads(outcome.content)  # noqa: S301 - from our own workers, over mutual TLS
            shown = bool(outcome.stdout or outcome.stderr or outcome.warnings or outcome.logged)
            self._fits.store(identity, result, outcome.seconds, outcome.differs, outcome.read, shown=shown)

    # ------------------------------------------------------------------------------------------------ errors

    def fail(self, number: int, error: BaseException) -> None:
        """Settle the batch of a task with an error, unless it is settled."""
        task = self._outstanding.get(number)
        if task is None:
            return
        named = self._named(error, task)
        if self.take(number):
            task.batch.fail(named)

    def fail_all(self, error: BaseException) -> None:
        """Settle all batches that have unfinished tasks with an error."""
        numbers, quarantined = self._outstanding.give_up()
        for number in numbers:
            self.fail(number, error)
        for task in quarantined:
            if not task.batch.future.done():
                task.batch.fail(self._named(error, task))

    def give_up(self, task: BatchTask, error: WorkersLost) -> None:
        """Settle a quarantined call that cannot be done: as a failed fit if scikit-learn accepts one, else in error."""
        [index] = task.indices
        try:
            result = failed_fit(task.batch.calls[index], error)
        except Exception as problem:
            result, error.__cause__ = None, problem
        if result is not None:
            self.complete(task, [KnownResult(result)])
        else:
            task.batch.fail(error)

    def _named(self, error: BaseException, task: BatchTask) -> BaseException:
        """Return the error with the name of its call. If the client was given up, the reason for that replaces it."""
        if why := abandon_reason(self._client):
            error = WorkersLost(why)
        if isinstance(error, CallRefused):
            return error
        if type(error) is WorkersLost and not str(error).startswith(task.name):
            return WorkersLost(f"{task.name} cannot be finished: {error}")
        with suppress(Exception):
            error.add_note(f"while {task.name} was sent to a worker")
        return error


def _failed_scoring(outcome: Outcome) -> bool:
    """Return whether a fit could not be scored, for which it has `error_score`: like one that failed, it is retried."""
    return any(warned.text.startswith(SCORING_FAILED) for warned in outcome.warnings)


def _settle(batch: Batch) -> None:
    batch.future.set_result([result for result in batch.results if result is not None])


def _checked(outcome: Outcome) -> Outcome:
    """Return the outcome; as refused if the task missed a file that exists on this machine."""
    for path in outcome.missing:
        with suppress(OSError, ValueError):
            if Path(path).exists():
                return replace(outcome, refused=f"its tasks read `{Path(path).name}`, which is not on the workers")
    return outcome
