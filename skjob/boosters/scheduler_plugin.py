"""Runs on the scheduler: a distributed training of XGBoost or LightGBM is one thing, and ends as one.

Each worker that holds data runs one task of it, tied to that worker, and all of them talk to each other past Dask. When
one dies, Dask waits for a worker with that address, which never comes; LightGBM's other parts wait in compiled code for
a peer that is gone (a closed connection reads as nothing, for ever), and hold their workers against the next training
(tests/integration/test_boosters.py, without this plugin, tells whether that is still so). Here the parts that are tied
to a lost worker fail with an error that names it; those that still run a moment later fail too, and are ended on their
workers, by the worker's end where nothing else helps.

What belongs together is told by what the parts are given to find each other: a list of machines, or a tracker.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from skjob.boosters.errors import TrainingLost, peer_failed, worker_gone

NAME = "skjob-boosters"

LIBRARIES = ("xgboost.dask", "lightgbm.dask")
"""The modules whose tasks are parts of trainings where they are tied to a worker."""

OVER = ("memory", "erred", "forgotten")

PEERS_END = 2.0
"""Seconds that the other parts get to end by themselves: XGBoost's do, with an error, when a connection closes."""

STOP_TIMEOUT = 20.0
"""Seconds that a worker gets to hear that it should end a part."""


@dataclass(frozen=True)
class Part:
    """A task of a training: its key, the library, the address of its worker, and by what its peers are known."""

    key: Any
    library: str
    worker: str
    meeting: str


def part_of(task: Any) -> Part | None:
    """What a task of the scheduler's is in a training; None for any other task."""
    if not task.worker_restrictions or len(task.worker_restrictions) != 1:
        return None
    function = getattr(task.run_spec, "func", None)
    module = getattr(getattr(function, "func", function), "__module__", None) or ""  # a partial has its function's
    library = next((name for name in LIBRARIES if module == name or module.startswith(f"{name}.")), None)
    if library is None:
        return None
    [worker] = task.worker_restrictions
    return Part(task.key, library, worker, _meeting(task.run_spec))


def _meeting(spec: Any) -> str:
    """The text that all parts of one training are given to find each other; empty for a part that meets nobody."""
    machines = spec.kwargs.get("machines")
    if machines is not None:
        return str(machines)
    for argument in (*spec.args, *spec.kwargs.values()):
        if isinstance(argument, dict) and "dmlc_tracker_port" in argument:
            return meeting_of(argument)
    return ""


def meeting_of(arguments: Mapping[str, Any]) -> str:
    """The same of what XGBoost's parts are given: where their tracker is."""
    return f"{arguments.get('dmlc_tracker_uri')}:{arguments['dmlc_tracker_port']}"


def want_all(client: str, wanted: bool, dask_scheduler: Any = None) -> None:
    """Runs on the scheduler: a client is about to train, and wants every worker that it can have; or no longer."""
    watch = dask_scheduler.plugins.get(NAME)
    if watch is not None:
        (watch.wanting.add if wanted else watch.wanting.discard)(client)


def is_ending(dask_scheduler: Any = None) -> bool:
    """Runs on the scheduler: whether something is left of a training that was lost."""
    watch = dask_scheduler.plugins.get(NAME)
    return watch is not None and bool(watch.ending)


def any_wanted(scheduler: Any) -> bool:
    """Whether a client wants every worker that it can have."""
    watch = scheduler.plugins.get(NAME)
    return watch is not None and bool(watch.wanting)


class TrainingWatch(SchedulerPlugin):  # type: ignore[misc]
    """Ends what is left of a training that has lost a part. One a scheduler."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._names: dict[str, str] = {}
        self.ending: dict[str, asyncio.Future[None]] = {}
        self.wanting: set[str] = set()
        """The clients that are about to train."""

    async def start(self, scheduler: Any) -> None:
        """Called by the scheduler."""
        self._scheduler = scheduler
        self._names = {worker.address: str(worker.name) for worker in scheduler.workers.values()}

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Called by the scheduler for each worker that comes; it does not know the name of one that has gone."""
        self._names[worker] = str(scheduler.workers[worker].name)

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str, **_: Any) -> None:
        """Called by the scheduler when it has removed a worker, whose tasks it has just given to others."""
        name = self._names.pop(worker, worker)
        tied = [
            part
            for task in list(scheduler.tasks.values())
            if task.state not in OVER and (part := part_of(task)) is not None and part.worker == worker
        ]
        for part in tied:
            self._fail(part, worker_gone(part.library, name))
            self._end_peers(part, worker_gone(part.library, name))

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when a client has gone."""
        self.wanting.discard(client)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Called by the scheduler: a part that fails leaves its peers waiting."""
        if finish != "erred" or start != "processing":
            return
        part = part_of(self._scheduler.tasks[key])
        if part is not None and part.meeting:
            name = self._names.get(part.worker, part.worker)
            self._end_peers(part, peer_failed(part.library, name))

    def _fail(self, part: Part, message: str) -> None:
        task = self._scheduler.tasks.get(part.key)
        if task is None or task.state in OVER:
            return
        # As the scheduler does it with what depends on a task that failed: from whatever state the task is in.
        task.exception = pickle.dumps(TrainingLost(message))
        task.exception_text = message
        task.exception_blame = task
        self._scheduler.transitions({part.key: "erred"}, stimulus_id=f"{NAME}-lost")

    def _end_peers(self, part: Part, message: str) -> None:
        """Once a training: a peer that fails in turn is no news."""
        if not part.meeting or part.meeting in self.ending:
            return
        peers = self._peers(part)
        if peers:
            ending = self.ending[part.meeting] = asyncio.ensure_future(self._end(peers, message))
            ending.add_done_callback(lambda _: self.ending.pop(part.meeting, None))

    def _peers(self, part: Part) -> list[Part]:
        found = (part_of(task) for task in self._scheduler.tasks.values() if task.state not in OVER)
        return [peer for peer in found if peer is not None and peer.meeting == part.meeting and peer.key != part.key]

    async def _end(self, peers: list[Part], message: str) -> None:
        from skjob.engine.cancellation import INTERRUPT_TIMEOUT

        await asyncio.sleep(PEERS_END)
        # One that its program has given back is not known here any more, and may still run.
        left = [part for part in peers if getattr(self._scheduler.tasks.get(part.key), "state", "") not in OVER[:2]]
        for part in left:
            self._fail(part, message)
        await self._stop(left)
        if left:
            await asyncio.sleep(INTERRUPT_TIMEOUT + 1.0)

    async def _stop(self, peers: list[Part]) -> None:
        """Whatever the scheduler thinks of them: their program may have given them back, and they still run."""
        from distributed.protocol.pickle import dumps

        from skjob.engine.cancellation import stop_key

        for part in peers:
            if part.worker in self._scheduler.workers:
                message = {"op": "run", "function": dumps(stop_key), "kwargs": dumps({"key": part.key}), "wait": True}
                telling = self._scheduler.broadcast(msg=message, workers=[part.worker], on_error="ignore")
                with suppress(TimeoutError):
                    await asyncio.wait_for(telling, STOP_TIMEOUT)
