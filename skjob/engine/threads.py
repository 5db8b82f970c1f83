"""Limit how many threads the numerics of a fit use on a worker.

Most estimators compute on one core, and a worker runs as many of their fits as it has threads. A few use all cores of a
machine by themselves: gradient boosting of scikit-learn, XGBoost, LightGBM. A worker runs one fit of those at a time,
with as many inner threads as it has threads, unless the user sets `n_jobs=1`. Each worker declares a resource of
Dask's, which such a task takes. The models of XGBoost 3.2 and LightGBM 4.7 are the same with any number of threads;
those of scikit-learn 1.9 differ in their last digits, as they do on machines with different numbers of cores.

All other fits use their share of the cores, as with joblib's loky. Pods, the workers of skjob's local cluster and those
that a nanny of Dask's starts have it in their environment before Python starts. `limit_inner_threads` is for a worker
without one (`dask worker --no-nanny`): each of its fits would start as many BLAS and OpenMP threads as the machine has
cores. What the environment sets is left alone, and so is a worker that shares its process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.engine.joblib_calls import JoblibCall, fit_arguments, iter_nested
from skjob.engine.transfer.worker_plugins import register_plugin

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WORKER_COMMAND = "distributed.cli.dask_worker"

WHOLE_WORKER = "skjob-whole-worker"
"""The resource of which each worker has one unit."""

THREADED = {
    "sklearn.ensemble._hist_gradient_boosting": None,
    "xgboost": "n_jobs",
    "lightgbm": "n_jobs",
    "catboost": "thread_count",
}
"""Modules whose estimators use all cores by themselves, with the parameter that limits them, if there is one."""

_once = threading.Lock()
_done = False


def limit_inner_threads() -> None:
    """Limit the threads of this process, once. Each task calls it."""
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


def inner_threads() -> int:
    """Return how many threads the numerics of a task use here."""
    import joblib

    for name in VARIABLES:
        with suppress(KeyError, ValueError):
            return int(os.environ[name])
    return int(joblib.cpu_count())


def _share() -> int | None:
    """Return the cores for each of the worker's threads; None if this process is not a worker's own."""
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


# ---- estimators that use all cores by themselves


def takes_whole_worker(call: JoblibCall) -> bool:
    """Return whether something in this call uses all the cores it gets, and the user has not limited it to one."""
    return any(number is None or number != 1 for _, _, number in _threaded(call))


def _threaded(call: JoblibCall) -> Iterator[tuple[Any, str | None, Any]]:
    """Yield each estimator in a call that uses all cores by itself, its parameter for their number, and the number."""
    arguments = fit_arguments(call)
    chosen = dict((arguments or {}).get("parameters") or {})
    candidates = [arguments["estimator"], *chosen.values()] if arguments else iter_nested([call])
    for candidate in candidates:
        for name, estimator, given in _estimators_in(candidate):
            module = next((module for module in THREADED if _is_of(estimator, module)), None)
            if module is None:
                continue
            parameter = THREADED[module]
            if parameter is None:
                yield estimator, None, None
            else:
                path = f"{name}__{parameter}" if name else parameter
                yield estimator, parameter, chosen.get(path, given.get(path))


def _estimators_in(candidate: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield an estimator and those inside it (steps of a pipeline, what a meta-estimator fits), by their names."""
    if not hasattr(type(candidate), "get_params"):  # an object may answer to any name
        return
    try:
        given = candidate.get_params()
    except Exception:  # the user's own objects are called
        return
    yield "", candidate, given
    for name, value in given.items():
        if hasattr(type(value), "get_params"):
            yield name, value, given


def _is_of(estimator: Any, module: str) -> bool:
    return any(f"{kind.__module__}.".startswith(f"{module}.") for kind in type(estimator).__mro__)


class WholeWorker(WorkerPlugin):  # type: ignore[misc]
    """Declares the resource on each worker, also on those that join later."""

    name = WHOLE_WORKER
    idempotent = True

    async def setup(self, worker: Any) -> None:
        """Declare the resource. Each worker calls it as it joins."""
        await worker.set_resources(**{WHOLE_WORKER: 1})


class WholeWorkers:
    """Reserves whole workers for tasks that use all cores."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._declared = False

    def reserved(self, calls: list[JoblibCall]) -> dict[str, int] | None:
        """Return the resource that a task of these calls reserves; None if it takes a thread like any other."""
        if not any(takes_whole_worker(call) for call in calls):
            return None
        with self._lock:
            if not self._declared:
                register_plugin(self._client, WholeWorker())
                self._declared = True
        return {WHOLE_WORKER: 1}


@contextmanager
def all_threads(calls: list[JoblibCall]) -> Iterator[None]:
    """Give the estimators in these calls all threads of this worker within the block."""
    import threadpoolctl
    from distributed import get_worker

    threads = int(get_worker().state.nthreads)
    lightgbm = any(_is_of(estimator, "lightgbm") for call in calls for estimator, _, _ in _threaded(call))
    with (
        lightgbm_counts(threads) if lightgbm else nullcontext(),
        threadpoolctl.threadpool_limits(threads, user_api="openmp"),
    ):
        yield


_LIGHTGBM_COUNTS = "_LGBMCpuCount"


@contextmanager
def lightgbm_counts(cores: int) -> Iterator[None]:
    """Let LightGBM count this many cores within the block. Its estimators keep the `n_jobs` that the user sets.

    GONE WHEN LightGBM respects OpenMP's limit, as the others do on any machine: when `LGBMClassifier().fit(X, y)`
    within `threadpoolctl.threadpool_limits(1)` computes with one thread (LightGBM 4.7: with all of the machine).
    """
    module = sys.modules.get("lightgbm.sklearn")
    count = getattr(module, _LIGHTGBM_COUNTS, None)
    if count is None:
        yield
        return
    setattr(module, _LIGHTGBM_COUNTS, lambda *_, **__: cores)
    try:
        yield
    finally:
        setattr(module, _LIGHTGBM_COUNTS, count)
