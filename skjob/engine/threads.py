"""How many threads a fit's own numerics may use on a worker: its share of the cores, as with joblib's loky.

Pods, the workers of skjob's local cluster and those that a nanny of Dask's starts have it in their environment before
Python starts. This is for a worker that somebody has started without one (`dask worker --no-nanny`): each of its fits
would start as many BLAS and OpenMP threads as the machine has cores. What the environment says is left alone, and so is
a worker in a process that is not its own.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WORKER_COMMAND = "distributed.cli.dask_worker"

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
    """Cores for each of the worker's threads; None where this process is not a worker's own."""
    import joblib
    from distributed import get_worker

    with suppress(ValueError):
        worker = get_worker()
        if worker.nanny is not None or _is_worker_process():
            return max(1, int(joblib.cpu_count()) // int(worker.state.nthreads))
    return None


def _is_worker_process() -> bool:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(spec, "name", "") or os.path.basename(sys.argv[0])  # noqa: PTH119 - a name, not a path
    return name == WORKER_COMMAND or (name == "dask" and "worker" in sys.argv[:2])
