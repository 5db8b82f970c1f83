"""Run Parallel calls in the program's own process if workers cannot run them as plain Python does.

joblib lets a backend refuse a call only before it has seen a task. So `Parallel.__call__` is replaced: it looks at the
first task of each call for the cluster. A call that must stay runs as without skjob: in the thread that made it, with
the backend and the number of jobs that joblib would have chosen.

GONE WHEN a joblib backend can raise `FallbackToBackend` from `submit` and joblib runs the call from its first task on
(joblib 1.6.0: `FallbackToBackend` is caught around `configure` only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import FrameType
from typing import Any

from joblib._parallel_backends import ParallelBackendBase
from joblib.parallel import BACKENDS, Parallel

from skjob.engine.fidelity.call_router import CallRouter
from skjob.engine.fidelity.job_counts import NOT_GIVEN, PLAIN_BACKEND
from skjob.engine.fidelity.placement import (
    CallSite,
    call_site,
    is_of_program,
    prefers_threads,
    shares_memory,
    why_in_order,
)
from skjob.engine.fidelity.replay import CallRefused, Replay
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.reporting.call_events import CallEvents, is_within_task
from skjob.engine.reporting.origin import calls_scored_fits

THREAD_BACKEND = "threading"
"""joblib's own backend for calls that ask for threads (joblib 1.6.0)."""

_SHOW = "print_progress"
"""The method that a Parallel object calls for each batch that is done (joblib 1.6.0)."""

_REPLAY = "skjob_replay"
"""The attribute of a Parallel object that holds the replay of its call on workers."""


def replay_of(parallel: Parallel) -> Replay | None:
    """Return what a Parallel object has consumed in its call on workers."""
    replay: Replay | None = getattr(parallel, _REPLAY, None)
    return replay


def patch_parallel() -> None:
    """Replace `Parallel.__call__`, once a process."""
    if not hasattr(Parallel.__call__, "__wrapped__"):
        Parallel.__call__ = _with_routing(Parallel.__call__)


def _with_routing(call: Any) -> Any:
    @wraps(call)
    def route(parallel: Parallel, iterable: Iterable[JoblibCall]) -> Any:
        # With one job, or a backend that sends nothing, there is nothing to choose.
        if not getattr(parallel._backend, "sends_calls", False):
            return call(parallel, iterable)
        router: CallRouter = parallel._backend.router
        caller = sys._getframe().f_back  # None if C calls: `atexit`, or a new thread
        if parallel.n_jobs == 1:
            return _call_sequentially(call, parallel, iterable, router, caller)
        of_program = is_of_program(caller)
        replay = Replay(
            iterable,
            in_order=shares_memory(parallel),
            of_program=of_program,
            shows_as_yielded=bool(parallel.return_generator),
        )
        first = replay.peek()
        if first is None:
            return call(parallel, replay.tasks())
        site = call_site(caller)
        replay.events = router.begin_events(parallel, first, replay.length, caller)
        why = router.why_local(parallel, first, site)
        if why is None and of_program and shares_memory(parallel):
            why = why_in_order(parallel, iterable)
            if why is not None:
                router.note_local(first, site, why)
        if parallel.return_generator:
            why = why or router.why_patched(first, site)
            generate = _generate if why is None else _generate_locally
            return _started(generate(call, parallel, replay, router, first, site))
        with _reported(replay.events):
            if why is not None:
                return _call_locally(call, parallel, replay, router)
            return _call(call, parallel, replay, router, first, site)

    return route


def _end(parallel: Parallel, replay: Replay) -> None:
    replay.end()
    if replay_of(parallel) is replay:
        delattr(parallel, _REPLAY)


@contextmanager
def _reported(events: CallEvents | None) -> Iterator[None]:
    """Report the end of a call, however it ends."""
    ok = False
    try:
        yield
        ok = True
    finally:
        if events is not None:
            events.end(ok=ok)


def _call(
    call: Any, parallel: Parallel, replay: Replay, router: CallRouter, first: JoblibCall, site: CallSite
) -> list[Any]:
    """Call a Parallel object: on workers, or here if it is too small for them, and its rest here if they refuse it."""
    done: list[Any] = []
    events = replay.events
    kind, small = router.small_call(parallel, first, site, replay.length)
    if small is not None:
        tasks = replay.remaining()
        done, ended = small.run(tasks, events)
        router.count_local(len(done))
        parallel.n_completed_tasks = parallel.n_dispatched_tasks = len(done)
        if ended:
            return done
        replay = Replay(tasks, in_order=shares_memory(parallel), of_program=replay.of_program, events=events)
    patched = router.why_patched(first, site) is not None
    if events is not None and (done or not patched):
        events.begin_on_workers(len(done))
    if patched:
        return done + list(_call_locally(call, parallel, replay, router))
    try:
        setattr(parallel, _REPLAY, replay)
        results: list[Any] = call(parallel, replay.tasks())
        replay.raise_error()
        # The backend that made the call, which may be another than the one that the call began with.
        router.note_measured(kind, first, parallel._backend.measured_call)
        router.note_unseen(first, site, replay.unseen)
        return done + results
    except CallRefused as refusal:
        router.note_local(first, site, str(refusal))
        replay.take_back()
        return done + list(replay.merged(iter(_call_locally(call, parallel, replay, router))))
    except BaseException:
        replay.remove_uncounted_files()
        raise
    finally:
        _end(parallel, replay)


def _call_sequentially(
    call: Any, parallel: Parallel, iterable: Iterable[JoblibCall], router: CallRouter, frame: FrameType | None
) -> Any:
    """Call a Parallel object that has one job. Fits are reported, unless they belong to a fit that runs here."""
    if router.events is None or is_within_task() or not calls_scored_fits(frame):
        return call(parallel, iterable)
    replay = Replay(iterable, in_order=True)
    first = replay.peek()
    if first is None:
        return call(parallel, replay.tasks())
    events = router.events.begin_call(parallel, first, replay.length, frame)
    del first  # with the estimator, which has its fitted model from then on
    with _reported(events), events.enclosing():
        return call(parallel, replay.remaining(events.reporting))


def _call_locally(call: Any, parallel: Parallel, replay: Replay, router: CallRouter) -> Any:
    """Run the tasks of a call that remain with the backend that joblib takes without skjob."""
    events = replay.events
    before = parallel._backend, parallel.n_jobs, parallel._managed_backend
    _count_tasks(parallel, router.count_local if events is None else partial(_count_and_report, router, events))
    parallel._backend = _plain_backend(parallel)
    parallel.n_jobs = 1 if parallel.n_jobs == NOT_GIVEN else parallel.n_jobs
    parallel._managed_backend = False
    restore = partial(_restore, parallel, *before)
    if parallel.return_generator:
        return _started(_restoring(call(parallel, replay.remaining()), restore))
    try:
        if events is None:
            return call(parallel, replay.remaining())
        events.report_processes(parallel._backend)
        with events.enclosing():
            return call(parallel, replay.remaining(events.reporting))
    finally:
        restore()


def _count_and_report(router: CallRouter, events: CallEvents, number: int) -> None:
    router.count_local(number)
    events.count_here(number)


def _plain_backend(parallel: Parallel) -> ParallelBackendBase:
    name = THREAD_BACKEND if prefers_threads(parallel._backend_kwargs) else PLAIN_BACKEND
    return BACKENDS[name](nesting_level=parallel._backend.nesting_level or 0)


def _count_tasks(parallel: Parallel, count: Callable[[int], None]) -> None:
    """Count the tasks of the next call as they finish, when joblib shows its progress."""
    counted = 0
    show = parallel.print_progress

    def count_and_show() -> None:
        nonlocal counted
        done = parallel.n_completed_tasks
        count(max(0, done - counted))
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
    call: Any, parallel: Parallel, replay: Replay, router: CallRouter, first: JoblibCall, site: CallSite
) -> Generator[Any, None, None]:
    """Yield None, then the results of a call on workers, and, if it is taken back, of what is then done here."""
    began = False
    ahead = replay.of_program and shares_memory(parallel)
    setattr(parallel, _REPLAY, replay)
    with _reported(replay.events):
        try:
            if replay.events is not None:
                replay.events.begin()
            if shares_memory(parallel):
                parallel.return_ordered = True  # one after the other, they end in the order in which they begin
            results = call(parallel, replay.tasks())
            began = True
            yield None
            for result in results:
                replay.note_yielded()
                yield result
            replay.raise_error()
            router.note_unseen(first, site, replay.unseen)
        except CallRefused as refusal:
            ahead = False
            router.note_local(first, site, str(refusal))
            replay.take_back()
            results = iter(_call_locally(call, parallel, replay, router))
            if not began:
                yield None
            yield from replay.merged(results)
        except BaseException:  # also if the program stops reading
            replay.remove_uncounted_files()
            raise
        finally:
            if ahead:
                router.note_ahead(first, site)
            _end(parallel, replay)


def _generate_locally(
    call: Any, parallel: Parallel, replay: Replay, router: CallRouter, *_: Any
) -> Generator[Any, None, None]:
    """Yield None, then the results of a call that runs here."""
    with _reported(replay.events):
        if replay.events is not None:
            replay.events.find_origin()  # it may outlive the frame that makes it
        results = _call_locally(call, parallel, replay, router)
        yield None
        yield from results


def _started(generator: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Return a generator that has reached its first `yield`: dispatch begins with the call, as joblib's does."""
    next(generator)
    return generator
