"""What the scaling loop does on the scheduler: look at its tasks and workers, and release workers.

Each function is sent to the scheduler and runs on its event loop, so that nothing else happens between its look and its
action, except where it awaits.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from skjob.boosters.scheduler_plugin import all_workers_requested
from skjob.deploy.scaling.peak_memory import METRIC

ENGINE_KEYS = ("skjob-", "Shared-")
"""How keys of shared data (`engine.transfer.received_data.Shared`) begin: the engine sends it again if it is lost."""

MIN_KEPT_BYTES = 2**20
"""If a program keeps at least so many bytes on a worker, the worker stays."""

QUIET_SECONDS = 10.0
"""Seconds of silence that are unusual: workers send a heartbeat every second or two."""


@dataclass(frozen=True)
class SchedulerSnapshot:
    """What the scheduler knows, by kind of task.

    `done` has how many were done in total, and their seconds; `waiting` how many have no thread yet; `running` how long
    each running one has taken. `processing` has the number of tasks of each worker, by its name. `at_once` is how many
    tasks a worker runs at once: as many as it has threads, unless they need more memory than that leaves them; None if
    no worker has a task. `quiet` are workers that have not been heard from for `QUIET_SECONDS`. `holding` are those
    with data that a program keeps there: a library may rely on where it is, and the others may have no room for it.
    `together` says that tasks run which belong together, and `all_wanted` that a program is about to start such tasks
    and wants every worker that it can have. `peaks` has the peak memory of each worker in bytes, by its name.
    """

    done: dict[str, tuple[int, float]]
    waiting: dict[str, int]
    running: dict[str, list[float]]
    processing: dict[str, int]
    at_once: int | None
    quiet: tuple[str, ...] = ()
    holding: frozenset[str] = frozenset()
    together: bool = False
    all_wanted: bool = False
    peaks: dict[str, int] = field(default_factory=dict)


def take_snapshot(dask_scheduler: Any = None) -> SchedulerSnapshot:
    """Return what there is to do. Runs on the scheduler."""
    done = {
        prefix.name: (prefix.state_counts["memory"], prefix.all_durations["compute"])
        for prefix in dask_scheduler.task_prefixes.values()
        # Data that was scattered gets into memory too, but was never processed.
        if prefix.state_counts["memory"] and prefix.state_counts["processing"]
    }
    waiting: dict[str, int] = defaultdict(int)
    for task in (*dask_scheduler.unrunnable, *dask_scheduler.queued):
        waiting[task.prefix.name] += 1
    running: dict[str, list[float]] = defaultdict(list)
    processing = {}
    most = []
    for worker in dask_scheduler.workers.values():
        processing[str(worker.name)] = len(worker.processing)
        # Tasks that a worker says it executes come first: the others are in its queue.
        executing = [task for task in worker.executing if task in worker.processing]
        others = [task for task in worker.processing if task not in worker.executing]
        at_once = min((_at_once(worker, task) for task in worker.processing), default=worker.nthreads)
        if worker.processing:
            most.append(at_once)
        for number, task in enumerate([*executing, *others]):
            if number < at_once:
                running[task.prefix.name].append(worker.executing.get(task, 0.0))
            else:
                waiting[task.prefix.name] += 1
    silence = time.time() - QUIET_SECONDS
    quiet = tuple(str(worker.name) for worker in dask_scheduler.workers.values() if worker.last_seen < silence)
    return SchedulerSnapshot(
        done,
        dict(waiting),
        dict(running),
        processing,
        min(most, default=None),
        quiet,
        frozenset(str(worker.name) for worker in dask_scheduler.workers.values() if _holds_much(worker)),
        runs_together(dask_scheduler),
        all_workers_requested(dask_scheduler),
        {str(worker.name): int(worker.metrics.get(METRIC, 0)) for worker in dask_scheduler.workers.values()},
    )


def transitions(dask_scheduler: Any = None) -> int:
    """Return how many transitions tasks and data have made so far, forgotten ones included. Runs on the scheduler."""
    return int(dask_scheduler.transition_counter)


def runs_together(scheduler: Any) -> bool:
    """Return whether tasks work as one: of one function, and each restricted to a worker of its own.

    Trainings of XGBoost and LightGBM and Dask's shuffle do: a worker that leaves destroys the work of all.
    """
    tied: dict[str, set[str]] = defaultdict(set)
    for worker in scheduler.workers.values():
        for task in worker.processing:
            if task.worker_restrictions and len(task.worker_restrictions) == 1:
                tied[task.prefix.name] |= task.worker_restrictions
    return any(len(workers) > 1 for workers in tied.values())


def _at_once(worker: Any, task: Any) -> int:
    """Return how many tasks like this one the worker can run at once."""
    needs = task.resource_restrictions or {}
    fitting = (int(worker.resources.get(name, 0) // need) for name, need in needs.items() if need)
    return int(max(1, min([worker.nthreads, *fitting])))


async def release_workers(names: list[str], dask_scheduler: Any = None) -> list[str]:
    """Release these workers and return which have gone. Runs on the scheduler.

    A task may have come since they were chosen: a worker that has one stays, and all stay if a task waits for a worker,
    or if tasks run that belong together. Their data moves to the workers that stay. If none stays, shared data is lost
    on purpose, as the engine sends it again; if one of them holds anything else, such as results that are wanted, it
    stays and gets all of it.
    """
    workers = [worker for worker in dask_scheduler.workers.values() if str(worker.name) in names]
    idle = [worker for worker in workers if not worker.processing]
    if _tasks_wait(dask_scheduler) or runs_together(dask_scheduler) or all_workers_requested(dask_scheduler):
        return []
    if len(idle) == len(dask_scheduler.workers):
        staying = next((worker for worker in idle if _holds_wanted_data(worker)), None)
        if staying is None:
            return await _remove(idle, dask_scheduler)
        idle.remove(staying)
    if not idle:
        return []
    addresses = [worker.address for worker in idle]
    retired = await dask_scheduler.retire_workers(workers=addresses, close_workers=False)
    return [str(worker["name"]) for worker in retired.values()]


async def abandon_workers(names: list[str], dask_scheduler: Any = None) -> None:
    """Give the tasks of these workers, which are gone, to others, and blame no task for it. Runs on the scheduler.

    The scheduler itself would wait for its `worker-ttl`, minutes: a worker that does not answer may be deep in compiled
    code. The machine of these is known to be gone.
    """
    for worker in [worker for worker in dask_scheduler.workers.values() if str(worker.name) in names]:
        await dask_scheduler.remove_worker(worker.address, expected=True, close=False, stimulus_id="skjob-give-up")


async def _remove(workers: list[Any], scheduler: Any) -> list[str]:
    """Remove the last workers: the scheduler would not retire them, as none is left to take their data."""
    gone = []
    for worker in workers:
        if worker.processing or _tasks_wait(scheduler):
            break
        await scheduler.remove_worker(worker.address, expected=True, close=False, stimulus_id="skjob-release")
        gone.append(str(worker.name))
    return gone


def _tasks_wait(scheduler: Any) -> bool:
    return bool(scheduler.unrunnable or scheduler.queued)


def _holds_wanted_data(worker: Any) -> bool:
    """Return whether it holds data that is wanted and not the engine's."""
    return any(True for _ in _kept(worker))


def _holds_much(worker: Any) -> bool:
    size = 0
    for task in _kept(worker):
        size += task.get_nbytes()
        if size >= MIN_KEPT_BYTES:
            return True
    return False


def _kept(worker: Any) -> Iterator[Any]:
    for task in worker.has_what:
        ours = isinstance(task.key, str) and task.key.startswith(ENGINE_KEYS)
        if not ours and (task.who_wants or task.waiters):
            yield task
