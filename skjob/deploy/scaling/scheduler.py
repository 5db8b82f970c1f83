"""Query and release workers on the scheduler, for the scaling loop.

Each function is sent to the scheduler and runs on its event loop, so that nothing else happens between its query and
its action, except where it awaits.
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
"""Prefixes of keys of shared data (`engine.transfer.received_data.Shared`), which the engine sends again if it is
lost."""

MIN_HELD_BYTES = 2**20
"""Bytes that a program must hold on a worker for the worker to stay."""

QUIET_SECONDS = 10.0
"""Seconds of silence that are unusual: workers send a heartbeat every second or two."""


@dataclass(frozen=True)
class SchedulerSnapshot:
    """What the scheduler knows, by kind of task.

    `done` has how many tasks were done in total, and their seconds; `waiting` how many have no thread yet; `running`
    how long each running one has taken. `processing` has the number of tasks of each worker, by its name.
    `at_once` is how many tasks a worker runs concurrently: as many as it has threads, unless they need more
    memory than that leaves them; None if no worker has a task. `quiet` are workers that have not been heard from for
    `QUIET_SECONDS`. `holding` are those with data that a program keeps there: a library may rely on where it is, and
    the others may have no room for it. `together` means that tasks are running that belong together, and `all_wanted`
    that a program is about to start such tasks and wants every worker that it can have. `peaks` has the peak memory of
    each worker in bytes, by its name.
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
    """Return the state of tasks and workers. Runs on the scheduler."""
    done = {
        prefix.name: (prefix.state_counts["memory"], prefix.all_durations["compute"])
        for prefix in dask_scheduler.task_prefixes.values()
        # Scattered data is in memory too, but was never processed.
        if prefix.state_counts["memory"] and prefix.state_counts["processing"]
    }
    waiting: dict[str, int] = defaultdict(int)
    for task in (*dask_scheduler.unrunnable, *dask_scheduler.queued):
        waiting[task.prefix.name] += 1
    running: dict[str, list[float]] = defaultdict(list)
    processing = {}
    concurrent = []
    for worker in dask_scheduler.workers.values():
        processing[str(worker.name)] = len(worker.processing)
        # Tasks that the worker reports as executing come first: the others are in its queue.
        executing = [task for task in worker.executing if task in worker.processing]
        others = [task for task in worker.processing if task not in worker.executing]
        at_once = min((_at_once(worker, task) for task in worker.processing), default=worker.nthreads)
        if worker.processing:
            concurrent.append(at_once)
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
        min(concurrent, default=None),
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
    """Return whether tasks work as one: running the same function, each restricted to a worker of its own.

    Trainings of XGBoost and LightGBM and Dask's shuffle do: a worker that leaves destroys the work of all.
    """
    restricted: dict[str, set[str]] = defaultdict(set)
    for worker in scheduler.workers.values():
        for task in worker.processing:
            if task.worker_restrictions and len(task.worker_restrictions) == 1:
                restricted[task.prefix.name] |= task.worker_restrictions
    return any(len(workers) > 1 for workers in restricted.values())


def _at_once(worker: Any, task: Any) -> int:
    """Return how many tasks like this one the worker can run concurrently."""
    requirements = task.resource_restrictions or {}
    fitting = (int(worker.resources.get(name, 0) // need) for name, need in requirements.items() if need)
    return int(max(1, min([worker.nthreads, *fitting])))


async def release_workers(names: list[str], dask_scheduler: Any = None) -> list[str]:
    """Release these workers and return those that are gone. Runs on the scheduler.

    A task may have arrived since they were chosen: a worker that has one stays, and all stay if a task waits for a
    worker, or if tasks are running that belong together. Their data moves to the workers that stay. If none stays,
    shared data is lost on purpose, as the engine sends it again; but if one of them holds anything else that is wanted,
    such as results, it stays and receives all of it.
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
    """Reassign the tasks of these lost workers, without blaming the tasks. Runs on the scheduler.

    The scheduler itself would wait for its `worker-ttl`, minutes: a worker that does not answer may be deep in compiled
    code. Here the machine is known to be gone.
    """
    for worker in [worker for worker in dask_scheduler.workers.values() if str(worker.name) in names]:
        await dask_scheduler.remove_worker(worker.address, expected=True, close=False, stimulus_id="skjob-give-up")


async def _remove(workers: list[Any], scheduler: Any) -> list[str]:
    """Remove the last workers: the scheduler would not retire them, as none would be left to take their data."""
    removed = []
    for worker in workers:
        if worker.processing or _tasks_wait(scheduler):
            break
        await scheduler.remove_worker(worker.address, expected=True, close=False, stimulus_id="skjob-release")
        removed.append(str(worker.name))
    return removed


def _tasks_wait(scheduler: Any) -> bool:
    return bool(scheduler.unrunnable or scheduler.queued)


def _holds_wanted_data(worker: Any) -> bool:
    """Return whether a worker holds data that is wanted and not the engine's."""
    return any(True for _ in _held_tasks(worker))


def _holds_much(worker: Any) -> bool:
    size = 0
    for task in _held_tasks(worker):
        size += task.get_nbytes()
        if size >= MIN_HELD_BYTES:
            return True
    return False


def _held_tasks(worker: Any) -> Iterator[Any]:
    for task in worker.has_what:
        is_engine_data = isinstance(task.key, str) and task.key.startswith(ENGINE_KEYS)
        if not is_engine_data and (task.who_wants or task.waiters):
            yield task
