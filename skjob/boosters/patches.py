"""Patch the calls of a program's own trainings: wait for workers, refuse LightGBM's early stopping, name a lost worker.

LightGBM's Dask estimators hang with early stopping (LightGBM issues 3712, 6351 and 7009): each worker decides by its
own part of the evaluation set, and the first to stop leaves the others waiting. A `fit` that requests it raises an
error at once. When a worker dies, the library's own error (a socket, a poll, a ring) often comes before Dask has
noticed; it becomes the cause of one that says what happened.

The public calls of `xgboost.dask` and `lightgbm.dask` are wrapped when a program imports them: an import costs a
second, and most programs need neither.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import FrameType, ModuleType
from typing import Any

from skjob.boosters.errors import TrainingLost, worker_lost_message
from skjob.boosters.scheduler_plugin import is_ending
from skjob.errors import ConfigError
from skjob.utils.dask_client import workers_of
from skjob.utils.import_hooks import when_imported

EARLY_STOPPING = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
"""LightGBM's parameter and its aliases."""

EARLY_STOPPING_HINT = (
    "train a fixed number of rounds (`n_estimators`), or use `xgboost.dask`, whose early stopping works"
)

NOTICE_TIMEOUT = 2.0
"""Seconds within which Dask notices, after a training has failed, that a worker is lost."""

PREVIOUS_END_TIMEOUT = 20.0
"""Seconds within which a failed training has ended on all workers."""

THREADS_TIMEOUT = 1.0
"""Seconds within which all idle threads of a worker start their tasks."""

_POLL_INTERVAL = 0.1


def requested_early_stopping(parameters: Mapping[str, Any], callbacks: Sequence[Any] = ()) -> str | None:
    """Return the parameter or callback of LightGBM's that requests early stopping; None if none does."""
    for name in EARLY_STOPPING:
        rounds = parameters.get(name)
        # As LightGBM reads it: None and numbers below one request none.
        if rounds is not None and not (isinstance(rounds, int | float) and rounds <= 0):
            return f"`{name}={rounds!r}`"
    for callback in callbacks:
        if type(callback).__module__.startswith("lightgbm.") and hasattr(callback, "stopping_rounds"):
            return f"the callback `early_stopping({callback.stopping_rounds})`"
    return None


def refuse_early_stopping(estimator: Any, fit_arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError if a fit of LightGBM's on Dask would hang."""
    requested = requested_early_stopping(
        {**estimator.get_params(), **fit_arguments},
        fit_arguments.get("callbacks") or estimator.get_params().get("callbacks") or (),
    )
    if requested is not None:
        raise ConfigError(
            f"`{type(estimator).__name__}` requests early stopping by {requested}{_call_site()}: "
            "LightGBM's Dask estimators hang with it (LightGBM issues 3712, 6351, 7009)",
            EARLY_STOPPING_HINT,
        )


def _call_site() -> str:
    """Return where the program calls: ` at train.py:12`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("skjob", "lightgbm"):
        frame = frame.f_back
    return f" at `{frame.f_code.co_filename}:{frame.f_lineno}`" if frame is not None else ""


# ---- workers


def on_gathered_workers(function: Callable[..., Any], library: str) -> Callable[..., Any]:
    """Wrap a function to begin when its workers are there, and to raise TrainingLost if one of them is lost."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if _is_asynchronous():
            return function(*arguments, **keywords)
        with gathered_workers():
            _wait_for_previous_training()
            before = _worker_names()
            try:
                return function(*arguments, **keywords)
            except (TrainingLost, ConfigError):
                raise
            except Exception as error:
                lost = find_lost_worker(before) if before and _may_be_lost_worker(error) else None
                if lost is None:
                    raise
                raise TrainingLost(worker_lost_message(library, lost)) from error

    return wrapped


def _wait_for_previous_training() -> None:
    """Wait for the end of a failed training, which keeps workers for some seconds, or ends them."""
    from distributed import get_client

    deadline = time.monotonic() + PREVIOUS_END_TIMEOUT
    while get_client().run_on_scheduler(is_ending) and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL)


async def _forget_peers(dask_worker: Any = None) -> None:
    """Close LightGBM's connections, which it does itself only if a training succeeds (lightgbm 4.7). Runs on a worker.

    The next training there would talk to peers that are gone: "Socket send error, Broken pipe", or an endless wait.
    Each thread has its own connections, so each closes them, between two tasks.
    """
    basic = sys.modules.get("lightgbm.basic")
    if basic is None:
        return
    threads = dask_worker.state.nthreads
    all_there = threading.Barrier(threads)

    def close() -> None:
        with suppress(threading.BrokenBarrierError):  # a busy thread closes them when it is free
            all_there.wait(THREADS_TIMEOUT)
        basic._LIB.LGBM_NetworkFree()

    executor = dask_worker.executors["default"]
    closing = [asyncio.wrap_future(executor.submit(close)) for _ in range(threads)]
    await asyncio.wait(closing, timeout=2 * THREADS_TIMEOUT)


def _is_asynchronous() -> bool:
    """Return whether the call must not block: in a coroutine, or without a client."""
    from distributed import get_client

    try:
        return bool(get_client().asynchronous)
    except ValueError:
        return True


def _may_be_lost_worker(error: Exception) -> bool:
    """Return whether a lost worker can cause this error. The libraries' errors for wrong parameters look the same."""
    library = type(error).__module__.partition(".")[0]
    return library in ("xgboost", "lightgbm", "distributed") or "worker" in str(error)


def _worker_names(client: Any = None) -> dict[str, str] | None:
    """Return the workers' names by address; None if the scheduler does not answer."""
    from distributed import get_client

    with suppress(Exception):
        workers = workers_of(client or get_client())
        return {address: str(worker["name"]) for address, worker in workers.items()}
    return None


def find_lost_worker(before: Mapping[str, str], client: Any = None) -> str | None:
    """Return the name of the first of these workers that is lost, within the time that Dask needs to notice it."""
    deadline = time.monotonic() + NOTICE_TIMEOUT
    while time.monotonic() < deadline:
        now = _worker_names(client)
        lost = next((name for address, name in before.items() if now is not None and address not in now), None)
        if lost is not None:
            return lost
        time.sleep(_POLL_INTERVAL)
    return None


# ---- where it is put in place


def patch_lightgbm(module: ModuleType) -> None:
    """Wrap the estimators of `lightgbm.dask`."""
    for estimator in _public(module, "fit"):
        estimator.fit = _patched_fit(estimator.fit, module.__name__)


def _patched_fit(original: Callable[..., Any], library: str) -> Callable[..., Any]:
    def with_fresh_workers(self: Any, *arguments: Any, **keywords: Any) -> Any:
        from distributed import get_client

        get_client().run(_forget_peers, on_error="ignore")
        return original(self, *arguments, **keywords)

    inner = on_gathered_workers(with_fresh_workers, library)

    @functools.wraps(original)
    def fit(self: Any, *arguments: Any, **keywords: Any) -> Any:
        refuse_early_stopping(self, keywords)  # before waiting for workers
        return inner(self, *arguments, **keywords)

    return fit


def patch_xgboost(module: ModuleType) -> None:
    """Wrap `train`, the estimators, and the classes of `xgboost.dask` that place data on the connected workers."""
    module.train = on_gathered_workers(module.train, module.__name__)  # type: ignore[attr-defined]
    for estimator in _public(module, "fit"):
        estimator.fit = on_gathered_workers(estimator.fit, module.__name__)
    for matrix in (module.DaskDMatrix, module.DaskQuantileDMatrix):
        matrix.__init__ = on_gathered_workers(matrix.__init__, module.__name__)


LIBRARY_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "lightgbm.dask": patch_lightgbm,
    "xgboost.dask": patch_xgboost,
}


_gather: Callable[[], AbstractContextManager[None]] = nullcontext


def gathered_workers() -> AbstractContextManager[None]:
    """Return a context that begins when a training's workers are connected, and keeps them until it ends."""
    return _gather()


def patch_libraries(gather: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """Patch both libraries' Dask modules: now if they are imported, else as soon as they are.

    Each call runs within a context of `gather`, which waits for the workers.
    """
    global _gather
    _gather = gather
    for name, wrap in LIBRARY_PATCHES.items():
        when_imported(name, wrap)


def _public(module: ModuleType, method: str) -> list[Any]:
    """Return the module's own public classes that have this method."""
    named = (getattr(module, name, None) for name in getattr(module, "__all__", ()))
    return [thing for thing in named if isinstance(thing, type) and hasattr(thing, method) and method in vars(thing)]
