"""Run Parallel calls in the program's own process: those that workers cannot do as plain Python does them.

joblib lets a backend refuse a call only before it has seen a task. So `Parallel.__call__` is replaced: it looks at the
first task of each call for the cluster, and where the call runs here, it does so as without skjob: in the thread that
made it, with the backend and the number of jobs that joblib would have chosen.

GONE WHEN a joblib backend can raise `FallbackToBackend` from `submit` and joblib runs the call from its first task on
(joblib 1.6.0: `FallbackToBackend` is caught around `configure` only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial, wraps
from typing import Any, Protocol

from joblib._parallel_backends import ParallelBackendBase
from joblib.parallel import BACKENDS, Parallel

from skjob.engine.fidelity.job_counts import NOT_GIVEN, PLAIN_BACKEND
from skjob.engine.fidelity.placement import Place, is_of_program, place_of, prefers_threads
from skjob.engine.fidelity.replay import Replay, TakenBack
from skjob.engine.fidelity.small_calls import CallPlace
from skjob.engine.joblib_calls import JoblibCall

THREAD_BACKEND = "threading"
"""joblib's own for calls that ask for threads (joblib 1.6.0)."""

_SHOW = "print_progress"
"""The method that a Parallel object calls for each batch that is done (joblib 1.6.0)."""

_REPLAY = "skjob_replay"
"""The attribute of a Parallel object that holds the replay of its call on workers."""


class ClusterBackend(Protocol):
    """What `Parallel.__call__` asks a backend that sends calls to a cluster."""

    def why_here(self, parallel: Parallel, first: JoblibCall, place: Place) -> str | None:
        """Return why the call with this first task runs in the program's process; None if it goes to workers."""

    def small_call(
        self, parallel: Parallel, first: JoblibCall, place: Place, tasks: int | None
    ) -> tuple[CallPlace, SmallCall | None]:
        """Return what calls like this one have in common, and the call if it is too small to gain from workers."""

    def note_measured(self, where: CallPlace, first: JoblibCall) -> None:
        """Note what the last call, with this first task, has taken on workers."""

    def note_here(self, first: JoblibCall, place: Place, why: str) -> None:
        """Note that calls that come from this line of the program run in its process."""

    def note_done_here(self, number: int) -> None:
        """Note that so many tasks were done in the program's process."""

    def note_unseen(self, first: JoblibCall, place: Place, unseen: Iterable[str]) -> None:
        """Note what the tasks of a call on workers may have changed without being seen."""


class SmallCall(Protocol):
    """A call that is too small to gain from workers."""

    def run(self, tasks: Iterable[JoblibCall]) -> tuple[list[Any], bool]:
        """Run tasks one after the other; return their results, and whether these are all: if not, it takes too long."""


def shares_memory(parallel: Parallel) -> bool:
    """Return whether plain Python runs the tasks in the program's process: one after the other, or in threads."""
    return parallel.n_jobs == NOT_GIVEN or prefers_threads(parallel._backend_kwargs)


def replay_of(parallel: Parallel) -> Replay | None:
    """Return what a Parallel object has consumed in its call on workers."""
    replay: Replay | None = getattr(parallel, _REPLAY, None)
    return replay


def install() -> None:
    """Replace `Parallel.__call__`, once a process."""
    if not hasattr(Parallel.__call__, "__wrapped__"):
        Parallel.__call__ = _with_choice_of_place(Parallel.__call__)


def _with_choice_of_place(call: Any) -> Any:
    @wraps(call)
    def choose(parallel: Parallel, iterable: Iterable[JoblibCall]) -> Any:
        backend = parallel._backend
        # One job, and a backend that sends nothing: nothing is to be chosen.
        if parallel.n_jobs == 1 or not getattr(backend, "sends_calls", False):
            return call(parallel, iterable)
        of_program = is_of_program(sys._getframe(1))
        replay = Replay(iterable, in_order=shares_memory(parallel), of_program=of_program)
        first = replay.peek()
        if first is None:
            return call(parallel, replay.tasks())
        place = place_of(sys._getframe(1))
        if backend.why_here(parallel, first, place) is not None:
            return _call_here(call, parallel, replay.remaining())
        if parallel.return_generator:
            return _started(_generate(call, parallel, replay, backend, first, place))
        done: list[Any] = []
        where, small = backend.small_call(parallel, first, place, replay.length)
        if small is not None:
            tasks = replay.remaining()
            done, ended = small.run(tasks)
            backend.note_done_here(len(done))
            if ended:
                return done
            replay = Replay(tasks, in_order=shares_memory(parallel), of_program=of_program)
        try:
            setattr(parallel, _REPLAY, replay)
            results = call(parallel, replay.tasks())
            parallel._backend.note_measured(where, first)
            backend.note_unseen(first, place, replay.unseen)
            return done + results
        except TakenBack as refusal:
            backend.note_here(first, place, str(refusal))
            return done + list(replay.merged(iter(_call_here(call, parallel, replay.remaining()))))
        finally:
            _end(parallel, replay)

    return choose


def _end(parallel: Parallel, replay: Replay) -> None:
    replay.end()
    if replay_of(parallel) is replay:
        delattr(parallel, _REPLAY)


def _call_here(call: Any, parallel: Parallel, tasks: Iterable[JoblibCall]) -> Any:
    """Call a Parallel object with the backend that joblib takes without skjob."""
    before = parallel._backend, parallel.n_jobs, parallel._managed_backend
    _count_done(parallel, parallel._backend.note_done_here)
    parallel._backend = _plain_backend(parallel)
    parallel.n_jobs = 1 if parallel.n_jobs == NOT_GIVEN else parallel.n_jobs
    parallel._managed_backend = False
    restore = partial(_restore, parallel, *before)
    if not parallel.return_generator:
        try:
            return call(parallel, tasks)
        finally:
            restore()
    return _started(_restoring(call(parallel, tasks), restore))


def _plain_backend(parallel: Parallel) -> ParallelBackendBase:
    name = THREAD_BACKEND if prefers_threads(parallel._backend_kwargs) else PLAIN_BACKEND
    return BACKENDS[name](nesting_level=parallel._backend.nesting_level or 0)


def _count_done(parallel: Parallel, note: Callable[[int], None]) -> None:
    """Have the tasks of the next call counted as they are done: joblib then shows its progress."""
    counted = 0
    show = parallel.print_progress

    def count_and_show() -> None:
        nonlocal counted
        done = parallel.n_completed_tasks
        note(max(0, done - counted))
        counted = done
        show()

    setattr(parallel, _SHOW, count_and_show)


def _restore(parallel: Parallel, backend: Any, n_jobs: int, managed: bool) -> None:
    vars(parallel).pop(_SHOW, None)
    parallel._backend, parallel.n_jobs, parallel._managed_backend = backend, n_jobs, managed


def _restoring(results: Iterator[Any], restore: Any) -> Generator[Any, None, None]:
    try:
        yield None
        yield from results
    finally:
        restore()


def _generate(
    call: Any, parallel: Parallel, replay: Replay, backend: ClusterBackend, first: JoblibCall, place: Place
) -> Generator[Any, None, None]:
    """Yield None, then the results of a call on workers, and, if it is taken back, of what is then done here."""
    began = False
    setattr(parallel, _REPLAY, replay)
    try:
        results = call(parallel, replay.tasks())
        began = True
        yield None
        for result in results:
            replay.note_yielded()
            yield result
        backend.note_unseen(first, place, replay.unseen)
    except TakenBack as refusal:
        backend.note_here(first, place, str(refusal))
        results = iter(_call_here(call, parallel, replay.remaining()))
        if not began:
            yield None
        yield from replay.merged(results)
    finally:
        _end(parallel, replay)


def _started(generator: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Return a generator that has reached its first `yield`: dispatch begins with the call, as joblib's does."""
    next(generator)
    return generator
