"""What a program's own trainings get: their workers first, LightGBM's early stopping refused, a lost worker named.

LightGBM's Dask estimators hang with early stopping (LightGBM issues 3712, 6351 and 7009): each worker judges by its own
part of the evaluation set, and the first to stop leaves the others waiting. A `fit` that asks for it raises at once.
And where a worker dies, the library's own error (a socket, a poll, a ring) often comes before Dask has noticed; it
becomes the cause of one that says what happened.

The public calls of `xgboost.dask` and `lightgbm.dask` are wrapped, when a program imports them: an import costs a
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

from skjob.boosters.errors import TrainingLost, worker_gone
from skjob.boosters.scheduler_plugin import is_ending
from skjob.errors import ConfigError
from skjob.utils.dask_client import workers_of
from skjob.utils.import_hooks import when_imported

EARLY_STOPPING = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
"""LightGBM's parameter and its aliases."""

INSTEAD = "train a fixed number of rounds (`n_estimators`), or use `xgboost.dask`, whose early stopping works"

NOTICED = 2.0
"""Seconds after a training has failed within which Dask has noticed that a worker is gone."""

LAST_ENDS = 20.0
"""Seconds after which nothing is left of a training that was lost."""

THREADS_MEET = 1.0
"""Seconds within which all threads of a worker that have nothing to do begin what is theirs."""

LOOK_AGAIN = 0.1


def early_stopping_asked(parameters: Mapping[str, Any], callbacks: Sequence[Any] = ()) -> str | None:
    """How these parameters and callbacks of LightGBM's ask for early stopping; None where they don't."""
    for name in EARLY_STOPPING:
        rounds = parameters.get(name)
        # As LightGBM reads it: nothing and numbers below one mean none.
        if rounds is not None and not (isinstance(rounds, int | float) and rounds <= 0):
            return f"`{name}={rounds!r}`"
    for callback in callbacks:
        if type(callback).__module__.startswith("lightgbm.") and hasattr(callback, "stopping_rounds"):
            return f"the callback `early_stopping({callback.stopping_rounds})`"
    return None


def refuse_early_stopping(estimator: Any, fit_arguments: Mapping[str, Any]) -> None:
    """Raises ConfigError where a fit of LightGBM's on Dask would hang."""
    asked = early_stopping_asked(
        {**estimator.get_params(), **fit_arguments},
        fit_arguments.get("callbacks") or estimator.get_params().get("callbacks") or (),
    )
    if asked is not None:
        raise ConfigError(
            f"`{type(estimator).__name__}` is asked for early stopping, by {asked}{_place()}: "
            "LightGBM's Dask estimators hang with it (LightGBM issues 3712, 6351, 7009)",
            INSTEAD,
        )


def _place() -> str:
    """Where the program calls: ` at train.py:12`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("skjob", "lightgbm"):
        frame = frame.f_back
    return f" at `{frame.f_code.co_filename}:{frame.f_lineno}`" if frame is not None else ""


# ---- workers


def with_workers(function: Callable[..., Any], library: str) -> Callable[..., Any]:
    """`function`, which begins when its workers are there, and whose error tells of one that went away meanwhile."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if _asynchronous():
            return function(*arguments, **keywords)
        with mustered():
            _wait_for_the_last()
            before = _workers()
            try:
                return function(*arguments, **keywords)
            except (TrainingLost, ConfigError):
                raise
            except Exception as error:
                gone = gone_of(before) if before and _may_be_loss(error) else None
                if gone is None:
                    raise
                raise TrainingLost(worker_gone(library, gone)) from error

    return wrapped


def _wait_for_the_last() -> None:
    """What is left of a training that was lost keeps workers for some seconds, or takes them along."""
    from distributed import get_client

    deadline = time.monotonic() + LAST_ENDS
    while get_client().run_on_scheduler(is_ending) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN)


async def _forget_peers(dask_worker: Any = None) -> None:
    """Runs on a worker: LightGBM closes its connections when a training succeeds, and only then (lightgbm 4.7).

    The next one there would talk to peers that are gone: "Socket send error, Broken pipe", or a wait for ever. Each
    thread has its own connections, so each closes them, between two tasks.
    """
    basic = sys.modules.get("lightgbm.basic")
    if basic is None:
        return
    threads = dask_worker.state.nthreads
    all_there = threading.Barrier(threads)

    def close() -> None:
        with suppress(threading.BrokenBarrierError):  # a thread that is busy closes them when it is free
            all_there.wait(THREADS_MEET)
        basic._LIB.LGBM_NetworkFree()

    executor = dask_worker.executors["default"]
    closing = [asyncio.wrap_future(executor.submit(close)) for _ in range(threads)]
    await asyncio.wait(closing, timeout=2 * THREADS_MEET)


def _asynchronous() -> bool:
    """Whether nothing may wait here: in a coroutine, the client's own above all; or where there is no client."""
    from distributed import get_client

    try:
        return bool(get_client().asynchronous)
    except ValueError:
        return True


def _may_be_loss(error: Exception) -> bool:
    """Whether a lost worker can look like this. The libraries' own errors for a wrong parameter look no different."""
    library = type(error).__module__.partition(".")[0]
    return library in ("xgboost", "lightgbm", "distributed") or "worker" in str(error)


def _workers(client: Any = None) -> dict[str, str] | None:
    """Names by address; None where the scheduler does not tell."""
    from distributed import get_client

    with suppress(Exception):
        workers = workers_of(client or get_client())
        return {address: str(worker["name"]) for address, worker in workers.items()}
    return None


def gone_of(before: Mapping[str, str], client: Any = None) -> str | None:
    """The name of the first of these workers that has gone, or goes within the time that Dask needs to notice it."""
    deadline = time.monotonic() + NOTICED
    while time.monotonic() < deadline:
        now = _workers(client)
        gone = next((name for address, name in before.items() if now is not None and address not in now), None)
        if gone is not None:
            return gone
        time.sleep(LOOK_AGAIN)
    return None


# ---- where it is put in place


def guard_lightgbm(module: ModuleType) -> None:
    """Wrap the estimators of `lightgbm.dask`."""
    for estimator in _public(module, "fit"):
        estimator.fit = _guarded_fit(estimator.fit, module.__name__)


def _guarded_fit(original: Callable[..., Any], library: str) -> Callable[..., Any]:
    def with_fresh_workers(self: Any, *arguments: Any, **keywords: Any) -> Any:
        from distributed import get_client

        get_client().run(_forget_peers, on_error="ignore")
        return original(self, *arguments, **keywords)

    inner = with_workers(with_fresh_workers, library)

    @functools.wraps(original)
    def fit(self: Any, *arguments: Any, **keywords: Any) -> Any:
        refuse_early_stopping(self, keywords)  # before anything is waited for
        return inner(self, *arguments, **keywords)

    return fit


def guard_xgboost(module: ModuleType) -> None:
    """Wrap `train`, the estimators, and the classes of `xgboost.dask` that lay out data on the workers there are."""
    module.train = with_workers(module.train, module.__name__)  # type: ignore[attr-defined]
    for estimator in _public(module, "fit"):
        estimator.fit = with_workers(estimator.fit, module.__name__)
    for matrix in (module.DaskDMatrix, module.DaskQuantileDMatrix):
        matrix.__init__ = with_workers(matrix.__init__, module.__name__)


GUARDS: dict[str, Callable[[ModuleType], None]] = {"lightgbm.dask": guard_lightgbm, "xgboost.dask": guard_xgboost}


_muster: Callable[[], AbstractContextManager[None]] = nullcontext


def mustered() -> AbstractContextManager[None]:
    """A block that begins when the workers are there that a training may have, and in which none goes."""
    return _muster()


def guard(muster: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """Guard these modules: now where they are imported, else as soon as they are.

    Each call is made within a `muster`, which gets the workers together.
    """
    global _muster
    _muster = muster
    for name, wrap in GUARDS.items():
        when_imported(name, wrap)


def _public(module: ModuleType, method: str) -> list[Any]:
    """Classes of the module's own that have this method."""
    named = (getattr(module, name, None) for name in getattr(module, "__all__", ()))
    return [thing for thing in named if isinstance(thing, type) and hasattr(thing, method) and method in vars(thing)]
