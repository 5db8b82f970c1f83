"""Turn the calls of a batch into a Dask task: pickle them, reserve what they need, and send them."""

from __future__ import annotations

import asyncio
import queue
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dask.task_spec import Task, TaskRef
from distributed import Client

from skjob.engine.checkpoint.fit_cache import CallFitCache
from skjob.engine.dispatch.batch import BatchTask, WorkersLost
from skjob.engine.dispatch.cluster_watch import MAX_TRIES, ClusterWatch
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.engine.fidelity.effects.lossy_pickles import describe_loss, lost_attributes
from skjob.engine.fidelity.effects.returned_arguments import live_arguments
from skjob.engine.fidelity.effects.unpicklable import why_unpicklable
from skjob.engine.fidelity.replay import CallRefused
from skjob.engine.fidelity.settings.packing import CallSettings
from skjob.engine.joblib_calls import iter_nested, label
from skjob.engine.memory import WorkerMemory, needed
from skjob.engine.task import Outcome, run_batch
from skjob.engine.threads import WholeWorkers
from skjob.engine.transfer.import_path import send_new_code
from skjob.engine.transfer.local_code import SCRIPT, is_local
from skjob.engine.transfer.shared_data import CallData
from skjob.engine.transfer.worker_plugins import check_workers, register_plugins_again

Arrival = tuple[int, list[Outcome] | Exception]
"""The number of a task, and what came of it."""


@dataclass(frozen=True)
class CallContext:
    """What the tasks of one Parallel call have in common.

    Attributes
    ----------
    call_id : str
        Part of the key of each task.
    nested : joblib backend
        What Parallel calls inside the tasks use.
    root : path or None
        The folder of the user's script.
    settings : CallSettings
        The settings of the program's process.
    shares_memory : bool
        Whether plain Python runs the tasks in the program's process.
    of_program : bool
        Whether the program itself makes the call, and no library for it.
    """

    call_id: str
    nested: Any
    root: Path | None
    settings: CallSettings
    shares_memory: bool
    of_program: bool


class TaskSender:
    """Sends the tasks of one call, and puts what comes of each into the queue `arrivals`."""

    def __init__(
        self,
        client: Client,
        context: CallContext,
        outstanding: OutstandingTasks,
        cluster: ClusterWatch,
        data: CallData,
        fits: CallFitCache | None,
        arrivals: queue.SimpleQueue[Arrival | None],
    ) -> None:
        self._client = client
        self._context = context
        self._outstanding = outstanding
        self._cluster = cluster
        self._data = data
        self._fits = fits
        self._arrivals = arrivals
        self._memory = WorkerMemory(client)
        self._whole_workers = WholeWorkers(client)
        self._prepared = False

    def send(self, number: int, task: BatchTask) -> None:
        """Pickle a new task and send it.

        Raises
        ------
        WorkersLost
            There is no worker or no connection to send it over.
        CallRefused
            It cannot be pickled.
        """
        self._cluster.wait_for_connection()
        self._prepare()
        send_new_code(self._client)
        versions = self._fits.versions() if self._fits is not None else {}
        if self._context.shares_memory:
            task.live_arguments = [live_arguments(call) if self._context.of_program else () for call in task.calls]
        task.payload = self._cluster.retry(partial(self._dump, task, versions))
        self._send(number, task)

    def send_again(self, number: int, task: BatchTask) -> None:
        """Send a task again that was cancelled or lost: the connection broke, or its data went with a worker.

        Raises
        ------
        WorkersLost
            It was sent too often, or there is no worker or no connection.
        """
        self._cluster.wait_for_connection()
        register_plugins_again(self._client)
        self._send(number, task)

    def _prepare(self) -> None:
        """Check, before the first task of a call, that workers have skjob and the client's plugins."""
        if self._prepared:
            return
        register_plugins_again(self._client)
        check_workers(self._client)
        self._prepared = True

    def _dump(self, task: BatchTask, versions: Mapping[str, str]) -> bytes:
        context = self._context
        if context.shares_memory and (why := self._why_lossy(task)):
            raise CallRefused(f"it cannot be sent to workers: {why}")
        try:
            task.settings = context.settings.packed(task.calls)
            return self._data.dump(task.calls, context.nested, task.data, context.root, versions)
        except (OSError, WorkersLost):
            raise
        except Exception as error:  # whatever the program's own objects raise
            raise CallRefused(
                f"it cannot be sent to workers: {why_unpicklable(task.calls, error, context.root)}"
            ) from error

    def _why_lossy(self, task: BatchTask) -> str:
        """Return what one of the program's objects loses when it is pickled; empty if none loses anything."""
        for part in iter_nested(task.calls):
            with suppress(Exception):  # the program's own objects are called; the pickle will tell
                if lost := lost_attributes(part, self._is_of_program):
                    return describe_loss(part, lost)
        return ""

    def _is_of_program(self, kind: type) -> bool:
        module = sys.modules.get(kind.__module__)
        return kind.__module__ in SCRIPT or (module is not None and is_local(module, self._context.root))

    def _send(self, number: int, task: BatchTask) -> None:
        if task.tries >= MAX_TRIES:
            raise WorkersLost(f"its data was lost with workers, {MAX_TRIES} times")
        self._cluster.retry(partial(self._data.restore, task.data))
        memory = self._memory.reserved(needed(task.calls, task.data.values()))
        whole = self._whole_workers.reserved(task.calls)
        with self._outstanding.sending(number) as pending:
            if not pending:
                self._data.release(task.data)
                return
            task.tries += 1
            task.sent_at = time.perf_counter()
            task.key = f"{label(task.calls)}-{self._context.call_id}-{number}-{task.tries}"
            names, futures = [*task.data], self._data.futures(task.data)
            remote_task = Task(
                task.key,
                run_batch,
                task.key,
                task.payload,
                names,
                *(TaskRef(futures[name].key) for name in names),
                # So that it waits at the scheduler for a free thread, whichever worker's. Otherwise, if there are few
                # tasks, Dask sends them all to the worker that has the data, and others stand idle.
                _data_producer=True,
                whole=whole is not None,
                live_arguments=task.live_arguments,
                settings=task.settings,
            )
            task.remote = self._client.get(
                {task.key: remote_task},
                task.key,
                sync=False,
                priority=task.priority,
                resources={**(memory or {}), **(whole or {})} or None,
            )
            asyncio.run_coroutine_threadsafe(self._fetch(number, task.remote), self._client.loop.asyncio_loop)

    async def _fetch(self, number: int, remote: Any) -> None:
        """Wait for what comes of a task. If its worker dies before it is fetched, wait until it is computed again."""
        try:
            outcome = await self._client.gather(remote, asynchronous=True)
        except Exception as error:
            outcome = error
        if not self._outstanding.closed:
            self._arrivals.put((number, outcome))
