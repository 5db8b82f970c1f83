"""End all parts of a distributed training of XGBoost or LightGBM when one of them is lost. Runs on the scheduler.

Each worker that holds data runs one task of a training, tied to that worker, and the tasks talk to each other past
Dask. When a worker dies, Dask waits for one with its address, which never comes; LightGBM's other parts wait in
compiled code for the lost peer (a closed connection reads as nothing, for ever), and block their workers for the next
training (tests/integration/test_boosters.py, without this plugin, shows whether that is still so). This plugin fails
the parts that are tied to a lost worker with an error that names it. Parts that still run a moment later fail too, and
are ended on their workers, by ending the worker if nothing else helps.

Parts belong to the same training if they are given the same means to find each other: a list of machines, or a tracker.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from skjob.boosters.errors import TrainingLost, peer_failed_message, worker_lost_message

TRAINING_PLUGIN = "skjob-boosters"

TRAINING_MODULES = ("xgboost.dask", "lightgbm.dask")
"""The modules whose tasks are parts of trainings if they are tied to a worker."""

FINAL_STATES = ("memory", "erred", "forgotten")

PEERS_END_TIMEOUT = 2.0
"""Seconds for the other parts to end by themselves: XGBoost's do, with an error, when a connection closes."""

STOP_TIMEOUT = 20.0
"""Seconds for a worker to receive the request to end a part."""


@dataclass(frozen=True)
class TrainingPart:
    """A task of a training: its key, the library, its worker's address, and the text that all its peers share."""

    key: Any
    library: str
    worker: str
    meeting: str


def as_training_part(task: Any) -> TrainingPart | None:
    """Return the part of a training that a task of the scheduler's is; None for any other task."""
    if not task.worker_restrictions or len(task.worker_restrictions) != 1:
        return None
    function = getattr(task.run_spec, "func", None)
    module = getattr(getattr(function, "func", function), "__module__", None) or ""  # a partial has its function's
    library = next((name for name in TRAINING_MODULES if module == name or module.startswith(f"{name}.")), None)
    if library is None:
        return None
    [worker] = task.worker_restrictions
    return TrainingPart(task.key, library, worker, _meeting(task.run_spec))


def _meeting(spec: Any) -> str:
    """Return the text that all parts of a training are given to find each other; empty for a part without peers."""
    machines = spec.kwargs.get("machines")
    if machines is not None:
        return str(machines)
    for argument in (*spec.args, *spec.kwargs.values()):
        if isinstance(argument, dict) and "dmlc_tracker_port" in argument:
            return meeting_of(argument)
    return ""


def meeting_of(arguments: Mapping[str, Any]) -> str:
    """Return the address of the tracker by which XGBoost's parts find each other."""
    return f"{arguments.get('dmlc_tracker_uri')}:{arguments['dmlc_tracker_port']}"


def request_all_workers(client: str, requested: bool, dask_scheduler: Any = None) -> None:
    """Request every available worker for a client that is about to train, or end that. Runs on the scheduler."""
    plugin = dask_scheduler.plugins.get(TRAINING_PLUGIN)
    if plugin is not None:
        (plugin.requesting.add if requested else plugin.requesting.discard)(client)


def is_ending(dask_scheduler: Any = None) -> bool:
    """Return whether parts of a failed training still run. Runs on the scheduler."""
    plugin = dask_scheduler.plugins.get(TRAINING_PLUGIN)
    return plugin is not None and bool(plugin.ending)


def all_workers_requested(scheduler: Any) -> bool:
    """Return whether a client requests every available worker."""
    plugin = scheduler.plugins.get(TRAINING_PLUGIN)
    return plugin is not None and bool(plugin.requesting)


class TrainingPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Ends the remaining parts of a training that has lost one. One for each scheduler."""

    name = TRAINING_PLUGIN
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._names: dict[str, str] = {}
        self.ending: dict[str, asyncio.Future[None]] = {}
        self.requesting: set[str] = set()
        """The clients that are about to train."""

    async def start(self, scheduler: Any) -> None:
        """Start with the names of the workers."""
        self._scheduler = scheduler
        self._names = {worker.address: str(worker.name) for worker in scheduler.workers.values()}

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note the name of each worker: the scheduler has forgotten it when the worker is lost."""
        self._names[worker] = str(scheduler.workers[worker].name)

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str, **_: Any) -> None:
        """Fail the parts of a removed worker, whose tasks the scheduler has just given to others."""
        name = self._names.pop(worker, worker)
        tied = [
            part
            for task in list(scheduler.tasks.values())
            if task.state not in FINAL_STATES and (part := as_training_part(task)) is not None and part.worker == worker
        ]
        for part in tied:
            self._fail(part, worker_lost_message(part.library, name))
            self._end_peers(part, worker_lost_message(part.library, name))

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Forget the request of a client that has disconnected."""
        self.requesting.discard(client)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """End the peers of a part that fails: they would wait for it."""
        if finish != "erred" or start != "processing":
            return
        part = as_training_part(self._scheduler.tasks[key])
        if part is not None and part.meeting:
            name = self._names.get(part.worker, part.worker)
            self._end_peers(part, peer_failed_message(part.library, name))

    def _fail(self, part: TrainingPart, message: str) -> None:
        task = self._scheduler.tasks.get(part.key)
        if task is None or task.state in FINAL_STATES:
            return
        # As the scheduler treats the dependents of a failed task, whatever state the task is in.
        task.exception = pickle.dumps(TrainingLost(message))
        task.exception_text = message
        task.exception_blame = task
        self._scheduler.transitions({part.key: "erred"}, stimulus_id=f"{TRAINING_PLUGIN}-lost")

    def _end_peers(self, part: TrainingPart, message: str) -> None:
        """Do this once for each training: its peers fail one after the other."""
        if not part.meeting or part.meeting in self.ending:
            return
        peers = self._peers(part)
        if peers:
            ending = self.ending[part.meeting] = asyncio.ensure_future(self._end(peers, message))
            ending.add_done_callback(lambda _: self.ending.pop(part.meeting, None))

    def _peers(self, part: TrainingPart) -> list[TrainingPart]:
        found = (as_training_part(task) for task in self._scheduler.tasks.values() if task.state not in FINAL_STATES)
        return [peer for peer in found if peer is not None and peer.meeting == part.meeting and peer.key != part.key]

    async def _end(self, peers: list[TrainingPart], message: str) -> None:
        from skjob.engine.cancellation import INTERRUPT_TIMEOUT

        await asyncio.sleep(PEERS_END_TIMEOUT)
        # A part that its program has released is unknown here, and may still run.
        left = [
            part for part in peers if getattr(self._scheduler.tasks.get(part.key), "state", "") not in FINAL_STATES[:2]
        ]
        for part in left:
            self._fail(part, message)
        await self._stop(left)
        if left:
            await asyncio.sleep(INTERRUPT_TIMEOUT + 1.0)

    async def _stop(self, peers: list[TrainingPart]) -> None:
        """Stop parts on their workers, even if their program has released them."""
        from distributed.protocol.pickle import dumps

        from skjob.engine.cancellation import stop_key

        for part in peers:
            if part.worker in self._scheduler.workers:
                message = {"op": "run", "function": dumps(stop_key), "kwargs": dumps({"key": part.key}), "wait": True}
                request = self._scheduler.broadcast(msg=message, workers=[part.worker], on_error="ignore")
                with suppress(TimeoutError):
                    await asyncio.wait_for(request, STOP_TIMEOUT)
