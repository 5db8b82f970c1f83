"""One Parallel call: its batches are sent as Dask tasks, and each is settled exactly once, whatever happens.

The client's event loop fetches the outcome of each task, which may take any time. One thread settles: it waits for
outcomes, hands each complete batch to joblib, and checks that there is a cluster left to wait for.

A lost task is sent again: the connection or the scheduler broke, or the data or the worker it needed is gone. Dask
itself runs a task again whose worker died, and gives up after some deaths; the calls of such a task are quarantined,
that is, tried once more, each alone. If workers die again, the call becomes a failed fit under scikit-learn's
`error_score`, as any fit that raises does; otherwise the Parallel call ends in its error.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker
from distributed import Future as RemoteFuture

from skjob.engine.cancellation import stop_tasks
from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.dispatch.batch import Batch, BatchFuture, BatchTask, KnownResult
from skjob.engine.dispatch.batch_results import BatchResults
from skjob.engine.dispatch.cluster_watch import MAX_TRIES, ClusterWatch
from skjob.engine.dispatch.measurements import CallMeasurements
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.engine.dispatch.quarantine import Quarantine
from skjob.engine.dispatch.sender import Arrival, CallContext, TaskSender
from skjob.engine.fidelity.job_counts import InnerBackend
from skjob.engine.fidelity.settings.packing import CallSettings
from skjob.engine.fidelity.small_calls import Measured, small_calls_of
from skjob.engine.joblib_calls import JoblibCall, calls_of, fit_arguments
from skjob.engine.priorities import WorkEstimate, estimate_work, priority
from skjob.engine.remote_traceback import RemoteTraceback
from skjob.engine.transfer.shared_data import CallData, shared_data
from skjob.utils.dask_client import wait_result

WATCH_INTERVAL = 1.0
"""Seconds without an outcome after which the settling thread checks the cluster."""

CANCEL_TIMEOUT = 3.0
"""Seconds that the end of a call waits until scheduler and workers have received it."""

_JOIN_TIMEOUT = 5.0
"""Seconds that the end of a call waits for its thread."""


class ParallelCall:
    """The batches of one Parallel call, and the thread that settles them.

    Parameters
    ----------
    client : distributed.Client
    nested : joblib backend
        What Parallel calls inside the tasks use.
    root : path or None
        The folder of the user's script.
    wait_for_workers : float
        Seconds without any worker after which everything fails.
    look_ahead : int
        How many tasks are out at a time; the longest of them are sent first.
    fits : FitCache or None
        Where finished fits are looked up and stored.
    of_program : bool
        Whether the program itself makes the call, and no library for it.
    shares_memory : bool
        Whether plain Python runs the tasks in the program's process: then a failure counts once all tasks before it
        have ended.
    """

    def __init__(
        self,
        client: Client,
        nested: Any,
        root: Path | None,
        wait_for_workers: float,
        look_ahead: int,
        fits: FitCache | None = None,
        *,
        shares_memory: bool = False,
        of_program: bool = False,
    ) -> None:
        self._client = client
        self._look_ahead = max(1, look_ahead)
        self._submitted = 0
        self._outstanding = OutstandingTasks()
        self._cluster = ClusterWatch(client, self._outstanding, wait_for_workers)
        self._data: CallData = shared_data(client, wait_for_workers).begin_call(self._cluster.wait_for_worker)
        settings = CallSettings(root)
        jobs = nested.in_key if isinstance(nested, InnerBackend) else ()
        self._fits = None
        if fits is not None:
            taken = settings.taken.in_key()
            self._fits = fits.begin_call(root, self._data.key, taken, jobs, shares_memory=shares_memory)
        self._measurements = CallMeasurements(small_calls_of(client))
        self._results = BatchResults(
            client, self._outstanding, self._data, self._measurements, self._fits, in_order=shares_memory
        )
        self._quarantine = Quarantine(client, self._outstanding, self._results)
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._id = uuid4().hex[:12]
        context = CallContext(self._id, nested, root, settings, shares_memory, of_program)
        self._sender = TaskSender(
            client, context, self._outstanding, self._cluster, self._data, self._fits, self._arrivals
        )
        thread = threading.Thread(target=self._settle_all, name="skjob-settle", daemon=True)
        self._thread: threading.Thread | None = thread
        thread.start()

    # ------------------------------------------------------------------------------------------------ joblib's thread

    def submit(self, func: Any, callback: Callable[[Any], None] | None) -> BatchFuture:
        """Send one batch. Never raises: what goes wrong is the outcome of this batch."""
        calls = calls_of(func)
        batch = Batch(
            calls, [None] * len(calls), [None] * len(calls), [_estimate(call) for call in calls], self._submitted
        )
        batch.future.start, batch.future.calls = batch.start, calls
        self._submitted += len(calls)
        self._results.expect(batch)
        if callback is not None:
            batch.future.add_done_callback(callback)
        self._look_up(batch)
        task = BatchTask(batch, [index for index, result in enumerate(batch.results) if result is None])
        number = self._outstanding.add(task)
        if number is None:
            return batch.future
        if not task.indices:
            self._arrivals.put((number, []))  # for the settling thread: joblib submits the next batch in its callback
        else:
            task.priority = priority(number, self._look_ahead, self._measurements.expected(task))
            self._send(number, task)
        return batch.future

    def _look_up(self, batch: Batch) -> None:
        """Find the stored results of a batch: their fits need not be sent."""
        if self._fits is None:
            return
        for index, call in enumerate(batch.calls):
            identity = batch.identities[index] = self._fits.identify(call)
            found = None if identity is None else self._fits.find(identity, call)
            if found is not None:
                batch.results[index] = KnownResult(found)

    @property
    def measured(self) -> Measured | None:
        """What the call took on workers; None if not all of it ran there, or it did more than return results."""
        return self._measurements.total(self._submitted)

    def close(self) -> None:
        """Stop the thread, and cancel the tasks that are still out."""
        self.cancel()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_JOIN_TIMEOUT)
        if self._fits is not None:
            self._fits.end()

    def cancel(self) -> None:
        """Cancel all tasks that are out, end those that run, and send no more. No callbacks: joblib has stopped
        listening."""
        tasks = self._outstanding.close()
        # By its key if the future itself was lost: an interrupt can come while a task is being sent.
        remote = [task.remote or RemoteFuture(task.key, self._client) for task in tasks if task.key]
        try:
            if remote and self._client.status == "running":
                self._wait_briefly(self._client.cancel(remote, force=True, asynchronous=True))
                stop = self._client.run(stop_tasks, self._id, wait=False, on_error="ignore", asynchronous=True)
                self._wait_briefly(stop)
        finally:
            for task in tasks:
                self._data.release(task.data)
            self._data.end()
            self._arrivals.put(None)

    def _wait_briefly(self, request: Any) -> None:
        """Have the event loop make a request, and wait a little: one that is not answered must not hold up others."""
        with suppress(Exception):  # the connection may be breaking: a client that is gone needs nothing
            wait_result(self._client, request, CANCEL_TIMEOUT)

    def _send(self, number: int, task: BatchTask) -> None:
        try:
            self._sender.send(number, task)
        except Exception as error:
            self._results.fail(number, error)
        if number not in self._outstanding:  # cancelled meanwhile, when it did not hold all of its data yet
            self._data.release(task.data)

    # ------------------------------------------------------------------------------------------------ settling thread

    def _settle_all(self) -> None:
        while not self._outstanding.closed:
            try:
                self._settle_next()
            except BaseException as error:  # whatever it is, joblib must not wait forever
                error.__cause__ = RemoteTraceback(traceback.format_exc())  # joblib strips it of its own
                self._results.fail_all(error)

    def _settle_next(self) -> None:
        try:
            arrival = self._arrivals.get(timeout=WATCH_INTERVAL)
        except queue.Empty:
            self._watch()
            return
        task = self._outstanding.get(arrival[0]) if arrival else None
        if arrival is None or task is None:
            return
        number, outcome = arrival
        if isinstance(outcome, list):
            self._cluster.note_outcome()
            if self._results.take(number):
                self._results.complete(task, [*outcome])
        elif isinstance(outcome, KilledWorker):
            self._quarantine.add(number, task, outcome)
        elif task.remote.status == "error" or (task.remote.status == "finished" and task.tries >= MAX_TRIES):
            self._results.fail(number, outcome)
        else:
            self._send_again(number, task)
        if started := self._outstanding.start_quarantined():
            self._send(*started)

    def _watch(self) -> None:
        if lost := self._cluster.find_loss():
            self._results.fail_all(lost)

    def _send_again(self, number: int, task: BatchTask) -> None:
        try:
            self._sender.send_again(number, task)
        except Exception as error:
            self._results.fail(number, error)


def _estimate(call: JoblibCall) -> WorkEstimate | None:
    arguments = fit_arguments(call)
    return None if arguments is None else estimate_work(arguments)
