"""Retry tasks that Dask gave up because their workers died, each call alone.

Dask counts the death of a worker against all tasks that the worker had, and the one that killed it may have been
another. So each call of such a task is sent once more when nothing else is out: if its workers die then, the call
itself ended them.
"""

from __future__ import annotations

from contextlib import suppress

from distributed import Client, KilledWorker

from skjob.engine.dispatch.batch import BatchTask, WorkersLost
from skjob.engine.dispatch.batch_results import BatchResults
from skjob.engine.dispatch.outstanding import OutstandingTasks

MEMORY_EVENTS = "worker-restart-memory"
"""The topic under which Dask's nannies report workers that they ended for their memory."""


class Quarantine:
    """Decides what becomes of tasks whose workers died."""

    def __init__(self, client: Client, outstanding: OutstandingTasks, results: BatchResults) -> None:
        self._client = client
        self._outstanding = outstanding
        self._results = results

    def add(self, number: int, task: BatchTask, error: KilledWorker) -> None:
        """Quarantine the calls of a task that Dask gave up; give up the call of one that was quarantined."""
        if not self._results.take(number):
            return
        if task.quarantined:
            self._results.give_up(task, self._describe(task, error))
        else:
            self._outstanding.quarantine(BatchTask(task.batch, [index], quarantined=True) for index in task.indices)

    def _describe(self, task: BatchTask, error: KilledWorker) -> WorkersLost:
        died = error.allowed_failures + 1
        if self._was_out_of_memory(error.last_worker.address):
            return WorkersLost(
                f"{task.name} ended {died} workers, which ran out of memory; give workers more with `--worker-memory`"
            )
        return WorkersLost(
            f"{task.name} ended {died} workers: it needs more memory than they have, or it crashes; "
            "give workers more with `--worker-memory`, or try this fit on its own"
        )

    def _was_out_of_memory(self, address: str) -> bool:
        with suppress(Exception):  # it only makes the message better
            return any(event["worker"] == address for _, event in self._client.get_events(MEMORY_EVENTS))
        return False
