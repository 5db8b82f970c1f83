"""XGBoost and LightGBM on Dask: trainings of which each worker does a part, all at the same time.

On the scheduler `scheduler_plugin.py` ends a training that has lost a part, and `tracker.py` has XGBoost's tracker in a
process of its own, `tracker_process.py`. `patches.py` is what a program's own calls get, `xgboost.py` and `lightgbm.py`
are the trainings of declared jobs, `partitioning.py` puts the data on workers for them. Nothing here imports the
libraries before they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def prepare(client: Any, threads: int | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make trainings that this process starts on the client's cluster safe: they end, and say why.

    `threads` is how many the cluster may come to have, which a training waits for; None takes the workers that there
    are. `tell` takes a line for the user.
    """
    from skjob.boosters.patches import guard
    from skjob.boosters.scheduler_plugin import TrainingWatch
    from skjob.boosters.tracker import Trackers
    from skjob.boosters.worker_barrier import WorkerBarrier
    from skjob.engine.transfer.worker_plugins import register_plugin

    register_plugin(client, TrainingWatch())
    register_plugin(client, Trackers())
    guard(WorkerBarrier(client, threads or 0, tell))
