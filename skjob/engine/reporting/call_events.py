"""Report one Parallel call: its start, each fit or batch of tasks whose results count, and its end.

Fits are reported wherever they run: on workers, in the program's own process, or not at all because a stored result is
reused. Very short calls without fits in the program's own process are left out: a program may make thousands a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import wraps
from itertools import count
from operator import itemgetter
from types import FrameType
from typing import Any, ParamSpec
from weakref import WeakKeyDictionary

from joblib._parallel_backends import ParallelBackendBase
from joblib.parallel import Parallel

from skjob.engine.events import (
    CallFinished,
    CallStarted,
    FitFinished,
    FitStatus,
    Report,
    ResultsDropped,
    TasksFinished,
)
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.reporting.fits import Fit, describe_parameters, is_scored_fit, last_line, read_fit, read_scores
from skjob.engine.reporting.origin import CallOrigin, find_origin
from skjob.engine.reporting.worker_clocks import WorkerClocks
from skjob.engine.task import Outcome

MIN_SECONDS = 0.1
"""Seconds from which a call without fits in the program's process is reported, and between two reports of it."""

_enclosing: ContextVar[CallEvents | None] = ContextVar("skjob_enclosing_call", default=None)
"""The call whose task this thread of the program's process is running."""

P = ParamSpec("P")


class RunEvents:
    """Numbers the calls and searches of a run, whose events are passed to `report`. Thread-safe."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.clocks = WorkerClocks()
        self._lock = threading.RLock()  # while it is held, a signal handler or a finalizer may make a call
        self._calls = count(1)
        self._searches: WeakKeyDictionary[Parallel, int] = WeakKeyDictionary()
        self._next_search = count(1)

    def begin_call(
        self, parallel: Parallel, first: JoblibCall, tasks: int | None, frame: FrameType | None
    ) -> CallEvents:
        """Return an object that reports a call with this first task; nothing is reported before its `begin`.

        `tasks` is how many tasks it has, if known; `frame` is the one that calls the Parallel object.
        """
        return CallEvents(self, parallel, first, tasks, frame)

    def next_call_number(self) -> int:
        """Return the number for the next call."""
        with self._lock:
            return next(self._calls)

    def search_number(self, parallel: Parallel) -> int:
        """Return the number of the search that calls this Parallel object: each search's fit creates its own."""
        with self._lock:
            if parallel not in self._searches:
                self._searches[parallel] = next(self._next_search)
            return self._searches[parallel]


def is_within_task() -> bool:
    """Return whether this thread is running a task of a reported call."""
    return _enclosing.get() is not None


def as_run_events(report: RunEvents | Report | None) -> RunEvents | None:
    """Return `report` as RunEvents, which it may be already."""
    return report if report is None or isinstance(report, RunEvents) else RunEvents(report)


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Make a method never raise: what it would report is left out instead."""

    @wraps(method)
    def call(*arguments: P.args, **keywords: P.kwargs) -> None:
        with suppress(Exception):  # the user's own objects are called
            method(*arguments, **keywords)

    return call


class CallEvents:
    """Reports one call. Thread-safe; no method raises.

    Attributes
    ----------
    first_task : int
        Index in the call of the first task that the engine sent to workers: earlier ones ran in this process.
    """

    def __init__(
        self, run: RunEvents, parallel: Parallel, first: JoblibCall, tasks: int | None, frame: FrameType | None
    ) -> None:
        self.fits = is_scored_fit(first)
        self.first_task = 0
        self._run = run
        self._lock = threading.RLock()
        self._at = round(time.time(), 4)
        self._source: tuple[Parallel, JoblibCall, int | None, FrameType | None] | None = (parallel, first, tasks, frame)
        self._origin: CallOrigin | None = None
        self._parallel: Parallel | None = None
        self._parent = _enclosing.get()
        self._number: int | None = None
        self._splits_are_tasks = False
        self._described: set[int] = set()
        """The candidates whose parameters were reported."""
        self._tasks_here = 0
        self._reported_here = self._at

    @_harmless
    def find_origin(self) -> None:
        """Find out what makes the call; its frame and first task are not needed after that. Report nothing."""
        with self._lock:
            if self._source is None:
                return
            self._parallel, first, tasks, frame = self._source
            self._source = None  # the program's own objects
            try:
                self._origin = find_origin(first, tasks, frame)
            except Exception:  # the user's own objects are called
                self._origin = CallOrigin("tasks", tasks=tasks)

    @_harmless
    def begin(self) -> None:
        """Report the start, once."""
        with self._lock:
            self.find_origin()
            origin, parallel = self._origin, self._parallel
            if origin is None or parallel is None:
                return
            self._origin = self._parallel = None
            if self._parent is not None:
                self._parent.begin()
            self._number = self._run.next_call_number()
            self._splits_are_tasks = not origin.is_search and origin.splits is not None
            self._run.report(
                CallStarted(
                    self._number,
                    self._at,
                    search=self._run.search_number(parallel) if origin.is_search else None,
                    parent=self._parent._number if self._parent is not None else None,
                    **vars(origin),
                )
            )

    @_harmless
    def end(self, *, ok: bool) -> None:
        """Report the end, if the start was reported."""
        self._report_here(force=self._number is not None)
        with self._lock:
            self._source = self._origin = self._parallel = None
            if self._number is not None:
                self._run.report(CallFinished(self._number, round(time.time(), 4), ok))

    # ------------------------------------------------------------------------------------------------ on workers

    @_harmless
    def batch(self, start: int, calls: Sequence[JoblibCall], values: Sequence[Any], results: Sequence[Any]) -> None:
        """Report a batch: the values that its calls returned, and the results that came from workers or the cache."""
        arrived = time.time()
        outcomes = [result if isinstance(result, Outcome) else None for result in results]
        begun = [self._began(outcome, arrived) if outcome is not None else arrived for outcome in outcomes]
        if self.fits:
            for index, (call, value, outcome, at) in enumerate(zip(calls, values, outcomes, begun, strict=True)):
                ran = (outcome.worker, at, outcome.seconds) if outcome is not None else None
                self._fit(self.first_task + start + index, read_fit(call), value, ran)
            return
        ran_on = [outcome for outcome in outcomes if outcome is not None]
        if self._number is not None:
            worker, seconds = (ran_on[0].worker if ran_on else ""), sum(each.seconds for each in ran_on)
            self._run.report(TasksFinished(self._number, len(calls), worker, round(min(begun), 4), round(seconds, 6)))

    def _began(self, outcome: Outcome, arrived: float) -> float:
        if not outcome.ended:
            return arrived - outcome.seconds
        return self._run.clocks.on_client(outcome.worker, outcome.ended, arrived) - outcome.seconds

    @_harmless
    def drop_results(self, kept: int) -> None:
        """Report that results from the `kept`-th sent task on do not count."""
        with self._lock:
            self._described.clear()
            if self._number is not None:
                self._run.report(ResultsDropped(self._number, self.first_task + kept))

    # ------------------------------------------------------------------------------------------------ in this process

    @_harmless
    def ran_here(self, task: int, call: JoblibCall, value: Any, seconds: float, *, reused: bool = False) -> None:
        """Report a task that ran in this process, or whose stored result is reused."""
        if self.fits:
            self._fit(task, read_fit(call), value, None if reused else ("", time.time() - seconds, seconds))
        else:
            self._tasks_here += 1

    @_harmless
    def begin_on_workers(self, done: int) -> None:
        """Report the start of a call on workers, after `done` tasks that ran in this process."""
        self.begin()
        self.first_task = done
        if done:
            self._report_here(force=True)

    @_harmless
    def count_here(self, number: int) -> None:
        """Report tasks that ran in this process; those that are fits are reported one by one."""
        if not self.fits:
            with self._lock:
                self._tasks_here += number
            self._report_here()

    def _report_here(self, *, force: bool = False) -> None:
        """Report the tasks that ran in this process, unless the last report is very recent."""
        with self._lock:
            now = time.time()
            if now - self._reported_here < MIN_SECONDS and not force:
                return
            number, self._tasks_here = self._tasks_here, 0
            if number:
                self.begin()
            if number and self._number is not None:
                self._run.report(
                    TasksFinished(self._number, number, "", self._reported_here, now - self._reported_here)
                )
            self._reported_here = now

    def reporting(self, tasks: Iterable[JoblibCall], indices: Iterable[int]) -> Iterator[JoblibCall]:
        """Yield tasks for joblib's own backend, with fits that report themselves. `indices` are those of the sent
        tasks."""
        for index, call in zip(indices, tasks, strict=False):
            function, arguments, keywords = call
            if self.fits:
                with suppress(Exception):  # the user's own objects are called
                    function = _ReportingFunction(function, self, self.first_task + index, read_fit(call))
            yield function, arguments, keywords

    @_harmless
    def report_processes(self, backend: ParallelBackendBase) -> None:
        """Report the fits that joblib's own backend sends to its processes."""
        if not self.fits:
            return
        submit = backend.submit

        def reporting_submit(batch: Any, callback: Callable[[Any], None]) -> Any:
            def done(future: Any) -> None:
                try:
                    self._ran_in_processes(batch, future)
                finally:  # joblib waits for it, whatever happened
                    callback(future)

            return submit(batch, done)

        backend.submit = reporting_submit

    @_harmless
    def _ran_in_processes(self, batch: Any, future: Any) -> None:
        if not isinstance(future, Future):
            return  # threads: their fits report themselves
        if future.cancelled() or future.exception() is not None:  # `result` would raise it, even a SystemExit
            return
        for (function, _, _), value in zip(batch.items, future.result(), strict=True):
            seconds = float(value.get("fit_time", 0.0)) + float(value.get("score_time", 0.0))
            self.fit_ended(function.task, function.fit, value, seconds)

    @_harmless
    def fit_ended(self, task: int, fit: Fit, value: Any, seconds: float) -> None:
        """Report a fit from `reporting` that has just ended."""
        self._fit(task, fit, value, ("", time.time() - seconds, seconds))

    @contextmanager
    def enclosing(self) -> Iterator[None]:
        """Mark calls that this thread makes within the block as made by a task of this call."""
        token = _enclosing.set(self)
        try:
            yield
        finally:
            _enclosing.reset(token)

    # ------------------------------------------------------------------------------------------------ events

    @_harmless
    def _fit(self, task: int, fit: Fit, result: Any, ran: tuple[str, float, float] | None) -> None:
        """Report a fit. `ran` has its worker, when it began and how many seconds it took; None if it did not run."""
        with self._lock:
            self.begin()
            if self._number is None:
                return
            error = result.get("fit_error")
            worker, started, seconds = ran or ("", time.time(), 0.0)
            status = FitStatus.FAILED if error else FitStatus.DONE if ran else FitStatus.REUSED
            event = FitFinished(
                self._number,
                task,
                fit.candidate,
                task if self._splits_are_tasks else fit.split,
                None,
                read_scores(result["test_scores"]),
                read_scores(result["train_scores"]) if "train_scores" in result else {},
                _seconds(result.get("fit_time")),
                _seconds(result.get("score_time")),
                worker,
                round(started, 4),
                round(seconds, 6),
                status,
                last_line(error) if error else "",
            )
            if fit.parameters is not None and fit.candidate not in self._described:
                event = replace(event, parameters=describe_parameters(fit.parameters))
                if fit.candidate is not None:
                    self._described.add(fit.candidate)
            self._run.report(event)


class _ReportingFunction:
    """A fit's function that reports what it returns. Pickled for another process, it is the plain function."""

    def __init__(self, function: Any, events: CallEvents, task: int, fit: Fit) -> None:
        self.function = function
        self.task = task
        self.fit = fit
        self._events = events

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        with self._events.enclosing():
            result = self.function(*arguments, **keywords)
        self._events.fit_ended(self.task, self.fit, result, time.perf_counter() - began)
        return result

    def __reduce__(self) -> Any:
        return itemgetter(0), ((self.function,),)


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)
