"""joblib's side of the engine: how wide the cluster is, how far to look ahead, and what comes back.

A sibling of joblib's own Dask backend, which reads its width once from the workers connected then, ships arguments
again and again, and hangs where a worker or an argument is lost (joblib 1.6.0; each is a test in
tests/integration/test_engine.py). What joblib calls, and when: `configure` and `start_call` as a Parallel call begins,
`submit` for each batch, from the caller's thread and later from the thread that runs the callbacks, `stop_call` at the
end, `abort_everything` when a batch has failed or the user has interrupted. What happens in between is in
`parallel_call.py`.
"""

from __future__ import annotations

import linecache
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
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
from skjob.engine.fidelity.done_here import DoneHere
from skjob.engine.fidelity.effects.draws import describe as describe_draw
from skjob.engine.fidelity.effects.returned import States, arguments_of
from skjob.engine.fidelity.effects.state import describe_unseen
from skjob.engine.fidelity.job_counts import (
    NOT_GIVEN,
    asked_by_parallel,
    asked_by_width_independent,
    inner_backend,
    plain_number,
)
from skjob.engine.fidelity.local_calls import install as install_choice_of_place
from skjob.engine.fidelity.local_calls import replay_of, shares_memory
from skjob.engine.fidelity.patched import patched_by_program
from skjob.engine.fidelity.placement import Place, PlaceNotes, prefers_threads, why_here
from skjob.engine.fidelity.replay import Replay
from skjob.engine.fidelity.settings.logs import log_again, write_again
from skjob.engine.fidelity.settings.snapshot import describe_difference, take, why_settings_stay
from skjob.engine.fidelity.small_calls import CallPlace, Measured, size_class
from skjob.engine.fidelity.small_run import SmallRun
from skjob.engine.joblib_calls import fit_arguments, inner_function, label, strip_context
from skjob.engine.parallel_call import Known, ParallelCall, Settled, WorkersLost, small_calls
from skjob.engine.remote_traceback import RemoteTraceback, frames_of
from skjob.engine.task import Outcome
from skjob.engine.task_warnings import warn_again
from skjob.engine.threads import takes_whole_worker
from skjob.engine.transfer.shared_data import shared_data
from skjob.utils.dask_client import call_method

__all__ = ["LOOK_AHEAD", "RemoteTraceback", "SkjobBackend", "WorkersLost"]

LOOK_AHEAD = 4
"""Tasks that are out at a time, for each thread that the cluster may come to have."""

DONE_HERE = "skjob-done-here"
"""Where a client has its `DoneHere`, if somebody asks how far the program is."""

LOOK_TIMEOUT = 10.0
"""Seconds that the scheduler gets to say how wide the cluster is: the batches wait longer, and know when it is lost."""

MOST_GROWTH = 8
"""How many times as many calls the next batch may have: calls that come later may take longer."""

_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)')


def with_source(text: str) -> str:
    """A traceback from a worker, with the lines of those source files that only this machine has."""
    lines = text.splitlines(keepends=True)
    told = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        told.append(line)
        frame = _FRAME.match(line)
        if frame and not following.startswith("    "):
            source = linecache.getline(frame["file"], int(frame["line"])).strip()
            told += [f"    {source}\n"] * bool(source)
    return "".join(told)


def in_a_task() -> bool:
    """Whether this thread runs a task of Dask's.

    All of the worker's cores are taken there; waiting for other tasks would keep them from running.
    """
    return hasattr(thread_state, "execution_state")


class SkjobBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on the workers of a Dask client.

    `LOOK_AHEAD` tasks for each thread that may come are out at a time, whatever `pre_dispatch` an estimator or a user
    says: joblib's usual two a worker, of those workers that happen to be there, would keep a cluster from growing, and
    `pre_dispatch="all"` would have memory grow with the number of tasks. An estimator that cuts its work into as many
    parts as there are jobs (bagging) gets a part for each thread that may come.

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
    checkpoint : FinishedFits or str, default=None
        Where finished fits of searches and cross-validations are kept and looked up: a folder, or an address that
        fsspec knows. None keeps nothing.
    notify : callable, default=None
        Called with a line about calls that run in the program's own process. None prints it to stderr.
    notify_at_end : callable, default=None
        Called with a line that is to be told at the end of the run. None takes `notify`, at once.
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
        notify: Callable[[str], None] | None = None,
        notify_at_end: Callable[[str], None] | None = None,
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
        self._own_parallel = False
        self._call: ParallelCall | None = None
        self._pre_dispatch: Any = None
        self._measured = threading.local()
        self._measured_call: Measured | None = None
        self._warned: dict[Any, Any] = {}
        self._caller = threading.current_thread()
        install_choice_of_place()

    def __reduce__(self) -> Any:
        return SequentialBackend, (1,)

    def get_nested_backend(self) -> Any:
        """Inside a task all of a worker's cores are taken, by this task and its siblings: nested calls run in it."""
        return inner_backend(self.parallel.n_jobs, self.nesting_level or 0), None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return joblib's own number to an estimator whose results depend on it, and else the width of the cluster."""
        if asked_by_parallel() or asked_by_width_independent():
            return self._width(n_jobs)
        return plain_number(n_jobs, self.nesting_level or 0)

    def _width(self, n_jobs: int | None) -> int:
        """Return 1 for 1; any other number means the cluster, as wide as it may become."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        connected = 0
        with suppress(Exception):  # the batches wait for a connection that comes back, and say if none does
            connected = sum(call_method(self.client, self.client.ncores, LOOK_TIMEOUT).values())
        # joblib runs a width of 1 in the caller's own process, which is not what a cluster of one worker is for.
        return max(connected, self.width or 0, 2)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Called as a Parallel object is entered; returns its width.

        Each Parallel object gets a backend of its own: the one that `parallel_config` holds serves nested and
        concurrent calls, whose batches must not mix.
        """
        if in_a_task():
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if not self._own_parallel:
            own = SkjobBackend(
                self.client,
                self.width,
                self.root,
                self.wait_for_workers,
                self.checkpoint,
                self.notify,
                self.notify_at_end,
            )
            own.nesting_level = self.nesting_level
            own._own_parallel = True
            raise FallbackToBackend(own)
        self.parallel = parallel
        self._pre_dispatch = parallel.pre_dispatch
        return self._width(n_jobs)

    def why_here(self, parallel: Any, first: Any, place: Place) -> str | None:
        """Return why the call with this first task runs in the program's own process; None if it goes to workers.

        Tell it, once for each line of the program.
        """
        known = self._places.here.get(place)
        if known is not None:
            return known
        threads = prefers_threads(parallel._backend_kwargs)
        why = why_here(first, shares_memory=shares_memory(parallel), threads=threads) or why_settings_stay()
        if why is None and place not in self._places.looked_at:
            self._places.looked_at.add(place)
            if patched := patched_by_program(self.root):
                why = f"the program has replaced `{patched}`, which workers have as it is installed"
        if why is not None:
            self.note_here(first, place, why)
        return why

    def small_call(
        self, parallel: Any, first: Any, place: Place, tasks: int | None
    ) -> tuple[CallPlace, SmallRun | None]:
        """Return what calls like this one have in common, and the call if it is too small to gain from workers."""
        where = call_place(first, str(place), tasks)
        known = small_calls(self.client)
        seconds = known.seconds_here(where)
        # What shows its progress or has a time limit is joblib's own.
        if seconds is None or parallel.verbose or parallel.timeout is not None:
            return where, None
        nested = inner_backend(parallel.n_jobs, self.nesting_level or 0)
        fits = None
        if self.checkpoint is not None and fit_arguments(first) is not None:
            data = shared_data(self.client, self.wait_for_workers).begin_call()
            fits = self.checkpoint.begin_call(self.root, data.key, take(self.root).in_key(), nested.in_key)
        return where, SmallRun(known, where, seconds, nested, copies=not shares_memory(parallel), fits=fits)

    def note_measured(self, where: CallPlace, first: Any) -> None:
        """Note what the last call has taken on workers. What uses all cores is never small: it has them there."""
        if self._measured_call is not None and not takes_whole_worker(strip_context(first)):
            small_calls(self.client).note_call(where, self._measured_call)

    def note_here(self, first: Any, place: Place, why: str) -> None:
        """Tell, once a line of the program, that a call runs here; later calls of that line do so at once."""
        if place not in self._places.here:
            where = f" ({place})" if place.file else ""
            self.notify(f"the parallel call of `{label([first])}`{where} runs in this process: {why}")
        self._places.here[place] = why

    def note_done_here(self, number: int) -> None:
        """Note that so many tasks were done in the program's process."""
        counter: DoneHere | None = self.client.extensions.get(DONE_HERE)
        if counter is not None:
            counter.add(number)

    def note_unseen(self, first: Any, place: Place, unseen: Iterable[str]) -> None:
        """Tell at the end of the run what tasks may have changed without being seen, once a line of the program."""
        if unseen and place not in self._places.unseen_told:
            self._places.unseen_told.add(place)
            self.notify_at_end(describe_unseen(label([first]), str(place) if place.file else "", unseen))

    @property
    def _places(self) -> PlaceNotes:
        """What is known of lines of the program; the same for all calls of a client."""
        notes: PlaceNotes = self.client.extensions.setdefault("skjob-places", PlaceNotes())
        return notes

    def start_call(self) -> None:
        """Called as a Parallel call begins, before joblib reads how much it is to dispatch ahead."""
        self.stop_call()
        self._caller = threading.current_thread()
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
        """Called as a Parallel call ends, however it ends. What is submitted later still goes to it, and nowhere."""
        if self._call is not None:
            self._measured_call = self._call.measured
            self._call.close()
            self.parallel.pre_dispatch = self._pre_dispatch

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Settled:
        """Dispatch one batch. Never raises: what goes wrong is the outcome of this batch, which joblib hears of."""
        assert self._call is not None  # noqa: S101 - joblib submits after start_call only
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, settled: Settled) -> list[Any]:
        """Return the results of a batch, or raise what the call in it has raised that failed.

        What the calls have printed is printed here, as soon as their results count.
        """
        self._measured.seconds = None
        results = settled.result()
        ran = [result for result in results if isinstance(result, Outcome)]
        if ran and not ran[-1].ok:
            self._show(ran)
            raise self._error(ran[-1])
        values, states = [], []
        for call, result in zip(settled.calls, results, strict=True):
            if isinstance(result, Known):
                values.append(result.value)
                continue
            with arguments_of(call) as changed:
                values.append(pickle.loads(result.content))  # noqa: S301 - from our own workers, over mutual TLS
            states.append(changed)
        self._measured.seconds = sum(result.seconds for result in ran) if len(ran) == len(results) else None
        replay: Replay | None = replay_of(self.parallel)
        if replay is None:
            self._show(ran, states)
        else:
            replay.unseen.update(dict.fromkeys(name for result in ran for name in result.unseen))
            replay.finished(settled.start, values, partial(self._show, ran, states))
        return values

    def compute_batch_size(self) -> int:
        """joblib's own rule, which only doubles a batch that is too short, takes thousands of calls to get there."""
        size, seconds = int(self._effective_batch_size), float(self._smoothed_batch_duration)
        if 0 < seconds < self.MIN_IDEAL_BATCH_DURATION:
            ideal = 2 * int(size * self.MIN_IDEAL_BATCH_DURATION / seconds)  # twice, so that it does not swing
            size = max(1, min(MOST_GROWTH * size, ideal))
            self._effective_batch_size: int = size
            self._smoothed_batch_duration: float = self._DEFAULT_SMOOTHED_BATCH_DURATION
            return size
        return int(super().compute_batch_size())

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """joblib's duration counts waiting in line too; what decides the batch size is the time on the worker.

        Of a batch with calls that did not have to run, nothing is learnt.
        """
        if self._measured.seconds is not None:
            super().batch_completed(batch_size, self._measured.seconds)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Called when a batch has failed or the user has interrupted: nothing dispatched is wanted any more.

        Nor what a callback is about to dispatch: there is no new call for it until joblib begins one.
        """
        if self._call is not None:
            self._call.cancel()

    def terminate(self) -> None:
        """Called as a Parallel object is left."""
        self.stop_call()
        self.reset_batch_stats()

    def _show(self, outcomes: list[Outcome], states: Sequence[States] = ()) -> None:
        """Let the program have what comes with results that count."""
        for changed in states:
            changed.apply()
        again = partial(log_again, complete=with_source, thread=self._caller)
        for outcome in outcomes:
            write_again(outcome.stdout, outcome.stderr, outcome.logged, again)
            for warned in outcome.warnings:
                warn_again(warned, self._warned)
            for module in outcome.drawn:
                self._notify_once(describe_draw(module))
            for name in outcome.own_variables:
                self._notify_once(describe_difference(name))

    def _notify_once(self, line: str) -> None:
        told: dict[str, None] = self.client.extensions.setdefault("skjob-told", {})
        if line not in told:
            told[line] = None
            self.notify(line)

    def _error(self, outcome: Outcome) -> BaseException:
        error: BaseException = pickle.loads(outcome.content)  # noqa: S301 - from our own workers, over mutual TLS
        error.__cause__ = RemoteTraceback(frames_of(with_source(outcome.traceback), error))
        return error


def call_place(first: Any, line: str, tasks: int | None) -> CallPlace:
    """Return what a call has in common with others that take about the same time."""
    function, arguments, keywords = first
    inner = inner_function(function)
    values = [*arguments, *keywords.values()]
    estimator = next((type(value).__qualname__ for value in values if hasattr(value, "get_params")), "")
    name = f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    return CallPlace(line, name, estimator, tasks, size_class(sum(map(number_of_items, values))))


def number_of_items(value: Any) -> int:
    """Return how many numbers or objects a value holds, as far as that is known at once."""
    size = getattr(value, "size", None)
    if isinstance(size, int):
        return size
    return len(value) if isinstance(value, list | tuple | dict | str) else 0


def print_line(line: str) -> None:
    """Print a line of skjob's own."""
    print(f"skjob: {line}", file=sys.stderr)
