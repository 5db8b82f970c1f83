"""How many threads a fit's own numerics may use on a worker: its share of the cores, as with joblib's loky.

Pods and the workers of skjob's local cluster say so in their environment before Python starts. This is for a worker
that somebody else has started: without it, each of its fits would start as many BLAS and OpenMP threads as the machine
has cores. What the environment says is left alone.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_once = threading.Lock()
_done = False


def limit_inner_threads() -> None:
    """Called by each task; does its work once a process."""
    global _done
    with _once:
        if _done:
            return
        _done = True
        share = _share()
        if share is None or any(name in os.environ for name in VARIABLES):
            return
        for name in VARIABLES:  # for libraries that are loaded later
            os.environ[name] = str(share)
        import threadpoolctl

        threadpoolctl.threadpool_limits(share)


def _share() -> int | None:
    """Cores for each of the worker's threads; None where this is no worker of its own, but the user's process."""
    import joblib
    from distributed import get_worker

    with suppress(ValueError):
        worker = get_worker()
        if worker.nanny is not None:
            return max(1, int(joblib.cpu_count()) // int(worker.state.nthreads))
    return None
