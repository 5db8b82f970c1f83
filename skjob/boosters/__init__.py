"""XGBoost and LightGBM on Dask: trainings in which each worker does a part, all at the same time.

On the scheduler, `scheduler_plugin.py` ends a training that has lost a part, and `tracker.py` runs XGBoost's tracker in
a process of its own, `tracker_process.py`. `patches.py` wraps a program's own calls, `xgboost.py` and `lightgbm.py`
train for declared jobs, and `partitioning.py` places the data on workers for them. Nothing here imports the libraries
before they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skjob.utils.notify import Notify

if TYPE_CHECKING:
    from skjob.boosters.worker_barrier import WorkerBarrier


def prepare(client: Any, threads: int | None = None, notify: Notify = lambda _: None) -> WorkerBarrier:
    """Make the trainings that this process starts on the client's cluster end with a reason if they lose a worker.

    A training waits until the cluster has `threads` threads; None takes the workers that are connected. Return what
    waits.
    """
    from skjob.boosters.patches import patch_libraries
    from skjob.boosters.scheduler_plugin import TrainingPlugin
    from skjob.boosters.tracker import TrackerPlugin
    from skjob.boosters.worker_barrier import WorkerBarrier
    from skjob.engine.transfer.worker_plugins import register_plugin

    register_plugin(client, TrainingPlugin())
    register_plugin(client, TrackerPlugin())
    barrier = WorkerBarrier(client, threads or 0, notify)
    patch_libraries(barrier)
    return barrier
