"""joblib's side of the engine: how wide the cluster is, how far to look ahead, and what joblib gets back.

A sibling of joblib's own Dask backend, which reads its width once from the workers connected then, ships arguments
again and again, and hangs if a worker or an argument is lost (joblib 1.6.0; each is a test in
tests/integration/test_engine.py). What joblib calls, and when: `configure` and `start_call` as a Parallel call begins,
`submit` for each batch, from the caller's thread and later from the thread that runs the callbacks, `stop_call` at the
end, `abort_everything` when a batch has failed or the user has interrupted. What happens in between is in
`parallel_call.py`.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, get_client
from distributed.worker import thread_state
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.dispatch.batch import BatchFuture, KnownResult, WorkersLost
from skjob.engine.dispatch.output_relay import OutputRelay
from skjob.engine.events import Report
from skjob.engine.fidelity.call_router import CallRouter
from skjob.engine.fidelity.effects.returned_arguments import arguments_of
from skjob.engine.fidelity.job_counts import (
    NOT_GIVEN,
    called_by_parallel,
    called_by_width_independent,
    inner_backend,
    plain_number,
)
from skjob.engine.fidelity.local_calls import patch_parallel, replay_of
from skjob.engine.fidelity.placement import shares_memory
from skjob.engine.fidelity.replay import Replay
from skjob.engine.fidelity.small_calls import Measured
from skjob.engine.parallel_call import ParallelCall
from skjob.engine.remote_traceback import RemoteTraceback, load_error
from skjob.engine.reporting.call_events import CallEvents, RunEvents, as_run_events
from skjob.engine.task import Outcome
from skjob.utils.dask_client import call_method
from skjob.utils.notify import Notify

__all__ = ["LOOK_AHEAD", "RemoteTraceback", "SkjobBackend", "WorkersLost"]

LOOK_AHEAD = 4
"""Tasks that are out at a time, for each thread that the cluster may come to have."""

WIDTH_TIMEOUT = 10.0
"""Seconds that the scheduler gets to answer how wide the cluster is: the batches wait longer, and notice its loss."""

MAX_GROWTH = 8
"""How many times as many calls the next batch may have: later calls may take longer."""


def in_a_task() -> bool:
    """Return whether this thread runs a task of Dask's.

    All of the worker's cores are taken there; waiting for other tasks would keep them from running.
    """
    return hasattr(thread_state, "execution_state")


class SkjobBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on the workers of a Dask client.

    `LOOK_AHEAD` tasks for each thread that the cluster may come to have are out at a time, whatever `pre_dispatch` an
    estimator or a user sets: joblib's usual two a worker, for the workers that happen to be there, would keep a cluster
    from growing, and with `pre_dispatch="all"` memory would grow with the number of tasks. An estimator that cuts its
    work into as many parts as there are jobs (bagging) gets a part for each of these threads.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client to use; None takes the current one.
    width : int, default=None
        How many tasks the cluster will be able to run at once when it has all the workers that may come. None takes
        the threads of the workers connected at the beginning of each call.
    root : path, default=None
        The folder of the user's script. Modules from there travel with the tasks.
    wait_for_workers : float, default=300
        Seconds without any worker after which the call ends in an error.
    checkpoint : FitCache or str, default=None
        Where finished fits of searches and cross-validations are stored and looked up: a folder, or an address that
        fsspec knows. None stores nothing.
    notify : callable, default=None
        Reports a line about calls that run in the program's own process. None prints it to stderr.
    notify_at_end : callable, default=None
        Reports a line at the end of the run. None takes `notify`, at once.
    report : RunEvents or callable, default=None
        Gets the events of Parallel calls and their fits (`skjob.engine.events`). None reports none.
    """

    supports_retrieve_callback = True
    supports_timeout = True
    default_n_jobs = NOT_GIVEN
    sends_calls = True
    # Batches pay off only where a call is short against the 2 to 5 ms that a task costs.
    MIN_IDEAL_BATCH_DURATION = 0.05
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(
        self,
        client: Client | None = None,
        width: int | None = None,
        root: Path | None = None,
        wait_for_workers: float = 300.0,
        checkpoint: FitCache | str | None = None,
        notify: Notify | None = None,
        notify_at_end: Notify | None = None,
        report: RunEvents | Report | None = None,
        *,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        try:
            self.client = client or get_client()
        except ValueError as error:
            raise ValueError(
                'the joblib backend "skjob" needs a Dask client: use `with skjob.cluster(): …`, or '
                "create a Dask client first, with `dask.distributed.Client(…)`"
            ) from error
        self.width = width
        self.root = Path(root).resolve() if root else None
        self.wait_for_workers = wait_for_workers
        self.checkpoint = FitCache(str(checkpoint)) if isinstance(checkpoint, str | Path) else checkpoint
        self.notify = notify or print_line
        self.notify_at_end = notify_at_end or self.notify
        self.events = as_run_events(report)
        self.measured_call: Measured | None = None
        """What the last call took on workers; None if not all of it ran there."""
        self._has_own_parallel = False
        self._call: ParallelCall | None = None
        self._pre_dispatch: Any = None
        self._last_batch = threading.local()
        self._relay = OutputRelay(self.client, self.notify)
        patch_parallel()

    def __reduce__(self) -> Any:
        return SequentialBackend, (1,)

    def get_nested_backend(self) -> Any:
        """Return what runs nested calls: the task itself, as its siblings take the other cores of the worker."""
        return inner_backend(self.parallel.n_jobs, self.nesting_level or 0), None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return joblib's own number to an estimator whose results depend on it, otherwise the width of the cluster."""
        if called_by_parallel() or called_by_width_independent():
            return self._width(n_jobs)
        return plain_number(n_jobs, self.nesting_level or 0)

    def _width(self, n_jobs: int | None) -> int:
        """Return 1 for 1; any other number means the cluster, as wide as it may become."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        connected = 0
        with suppress(Exception):  # the batches wait for the connection to come back, and fail if it does not
            connected = sum(call_method(self.client, self.client.ncores, WIDTH_TIMEOUT).values())
        # joblib runs a width of 1 in the caller's own process, which is not what a cluster of one worker is for.
        return max(connected, self.width or 0, 2)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Return the width of a Parallel object. joblib calls it as the object is entered.

        Each Parallel object gets a backend of its own: the one that `parallel_config` holds serves nested and
        concurrent calls, whose batches must not mix.
        """
        if in_a_task():
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if not self._has_own_parallel:
            own = SkjobBackend(
                self.client,
                self.width,
                self.root,
                self.wait_for_workers,
                self.checkpoint,
                self.notify,
                self.notify_at_end,
                self.events,
            )
            own.nesting_level = self.nesting_level
            own._has_own_parallel = True
            raise FallbackToBackend(own)
        self.parallel = parallel
        self._pre_dispatch = parallel.pre_dispatch
        return self._width(n_jobs)

    @property
    def router(self) -> CallRouter:
        """What decides where calls of this backend run."""
        return CallRouter(
            self.client,
            self.root,
            self.wait_for_workers,
            self.checkpoint,
            self.notify,
            self.notify_at_end,
            self.nesting_level or 0,
            self.events,
        )

    def start_call(self) -> None:
        """Start a call. joblib calls it as a Parallel call begins, before it reads how much to dispatch ahead."""
        self.stop_call()
        self._relay.caller = threading.current_thread()
        nested, _ = self.get_nested_backend()
        width = getattr(self.parallel, "_cached_effective_n_jobs", None) or self._width(-1)
        ahead = LOOK_AHEAD * width
        replay = replay_of(self.parallel)
        self._call = ParallelCall(
            self.client,
            nested,
            self.root,
            self.wait_for_workers,
            ahead,
            self.checkpoint,
            shares_memory=shares_memory(self.parallel),
            of_program=replay is not None and replay.of_program,
        )
        fixed = self.parallel.batch_size if isinstance(self.parallel.batch_size, int) else 1
        self.parallel.pre_dispatch = ahead * fixed

    def stop_call(self) -> None:
        """End the call. joblib calls it however a Parallel call ends; batches submitted later settle nothing."""
        if self._call is not None:
            self.measured_call = self._call.measured
            self._call.close()
            self.parallel.pre_dispatch = self._pre_dispatch

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> BatchFuture:
        """Dispatch one batch. Never raises: what goes wrong is the outcome of this batch, which joblib gets."""
        assert self._call is not None  # noqa: S101 - joblib submits after start_call only
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, future: BatchFuture) -> list[Any]:
        """Return the results of a batch, or raise what its failed call raised.

        What the calls printed is printed here, as soon as their results count.
        """
        self._last_batch.seconds = None
        results = future.result()
        ran = [result for result in results if isinstance(result, Outcome)]
        if ran and not ran[-1].ok:
            self._relay.show(ran)
            raise load_error(ran[-1].content, ran[-1].traceback, ran[-1].causes)
        values, states = [], []
        for call, result in zip(future.calls, results, strict=True):
            if isinstance(result, KnownResult):
                values.append(result.value)
                continue
            with arguments_of(call) as changed:
                values.append(pickle.loads(result.content))  # noqa: S301 - from our own workers, over mutual TLS
            states.append(changed)
        self._last_batch.seconds = sum(result.seconds for result in ran) if len(ran) == len(results) else None
        replay: Replay | None = replay_of(self.parallel)
        if replay is None:
            self._relay.show(ran, states)
        else:
            replay.unseen.update(dict.fromkeys(name for result in ran for name in result.unseen))
            report = partial(_report, replay.events, future, values, results)
            created = tuple(path for result in ran for path in result.created)
            if replay.shows_as_yielded:
                _finish_each(self._relay, replay, future.start, values, results, states, report, created)
            else:
                replay.finished(future.start, values, partial(self._relay.show, ran, states), report, created)
        return values

    def compute_batch_size(self) -> int:
        """Return the size of the next batch. joblib's own rule only doubles one that is too short, which takes long."""
        size, seconds = int(self._effective_batch_size), float(self._smoothed_batch_duration)
        if 0 < seconds < self.MIN_IDEAL_BATCH_DURATION:
            ideal = 2 * int(size * self.MIN_IDEAL_BATCH_DURATION / seconds)  # twice, so that it does not swing
            size = max(1, min(MAX_GROWTH * size, ideal))
            self._effective_batch_size: int = size
            self._smoothed_batch_duration: float = self._DEFAULT_SMOOTHED_BATCH_DURATION
            return size
        return int(super().compute_batch_size())

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Adapt the batch size to the time on the worker: joblib's `duration` includes waiting in line.

        A batch with calls that did not have to run changes nothing.
        """
        if self._last_batch.seconds is not None:
            super().batch_completed(batch_size, self._last_batch.seconds)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the call. joblib calls it when a batch has failed or the user has interrupted.

        What a callback is about to dispatch is not sent either: there is no new call for it until joblib begins one.
        """
        if self._call is not None:
            self._call.cancel()

    def terminate(self) -> None:
        """End the call. joblib calls it as a Parallel object is left."""
        self.stop_call()
        self.reset_batch_stats()


def _finish_each(
    relay: OutputRelay,
    replay: Replay,
    start: int,
    values: list[Any],
    results: list[Any],
    states: list[Any],
    report: Callable[[], None],
    created: tuple[str, ...],
) -> None:
    """Note the results of a batch one by one, each with what its task printed."""
    changed = iter(states)
    for index, (value, result) in enumerate(zip(values, results, strict=True)):
        ran = [] if isinstance(result, KnownResult) else [result]
        show = partial(relay.show, ran, [next(changed) for _ in ran])
        if index:
            replay.finished(start + index, [value], show)
        else:
            replay.finished(start, [value], show, report, created)


def _report(events: CallEvents | None, future: BatchFuture, values: list[Any], results: list[Any]) -> None:
    if events is not None:
        events.batch(future.start, future.calls, values, results)


def print_line(line: str) -> None:
    """Print a line of skjob's own."""
    print(f"skjob: {line}", file=sys.stderr)
