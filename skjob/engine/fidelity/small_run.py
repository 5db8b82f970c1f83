"""Run a call that is too small to gain from workers in the program's own process, as a worker would run it.

Its numerics use as many threads as on a worker, so that no bit of a result depends on what was measured, and
fits are looked up and stored as on workers. If it takes far longer than expected, the rest of it goes to workers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import joblib
import threadpoolctl

from skjob.engine.checkpoint.fit_cache import CallFitCache
from skjob.engine.fidelity.job_counts import as_sent
from skjob.engine.fidelity.small_calls import MAX_OVERRUN, CallKind, SmallCalls
from skjob.engine.joblib_calls import JoblibCall, strip_context
from skjob.engine.reporting.call_events import CallEvents

MIN_EXPECTED = 0.01
"""Seconds. A call that is expected to take less may take `MAX_OVERRUN` times this."""


class SmallRun:
    """One call that runs here because it is small.

    Parameters
    ----------
    known : SmallCalls
        What is known of such calls; this one is added.
    kind : CallKind
        The kind of the call, which was measured before.
    seconds : float
        How long it is expected to take.
    nested : joblib backend
        What Parallel calls inside the tasks use.
    copies : bool
        Whether tasks get copies of their arguments, as they do in processes.
    fits : CallFitCache, default=None
        Where finished fits are looked up and stored.
    """

    def __init__(
        self,
        known: SmallCalls,
        kind: CallKind,
        seconds: float,
        nested: Any,
        *,
        copies: bool,
        fits: CallFitCache | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._known = known
        self._kind = kind
        self._limit = MAX_OVERRUN * max(seconds, MIN_EXPECTED)
        self._nested = nested
        self._copies = copies
        self._fits = fits
        self._clock = clock

    def run(self, tasks: Iterable[JoblibCall], events: CallEvents | None = None) -> tuple[list[Any], bool]:
        """Run tasks sequentially. Return their results, and whether these are all: if not, the call took too long.

        Each task is reported to `events`.
        """
        results: list[Any] = []
        try:
            with (
                joblib.parallel_config(backend=self._nested, n_jobs=None),
                _thread_pools(len(sys.modules)).limit(limits=self._known.inner_threads),
            ):
                began = self._clock()  # finding the thread pools may have taken long, once
                seconds = 0.0
                for task in tasks:
                    results.append(self._result(strip_context(task), len(results), events))
                    seconds = self._clock() - began
                    if seconds > self._limit:
                        self._known.note_overrun(self._kind)
                        return results, False
        finally:
            if self._fits is not None:
                self._fits.end()
        self._known.note_seconds(self._kind, len(results), seconds)
        return results, True

    def _result(self, call: JoblibCall, task: int, events: CallEvents | None) -> Any:
        identity = self._fits.identify(call) if self._fits is not None else None
        if self._fits is not None and identity is not None and (found := self._fits.find(identity, call)) is not None:
            if events is not None:
                events.ran_here(task, call, found, 0.0, reused=True)
            return found
        function, arguments, keywords = as_sent(call) if self._copies else call
        began = self._clock()
        result = function(*arguments, **keywords)
        if events is not None:
            events.ran_here(task, call, result, self._clock() - began)
        if self._fits is not None and identity is not None:
            # What it printed is not known: if this run has it again, it is done again.
            self._fits.store(identity, result, self._clock() - began, (), shown=True)
        return result


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> threadpoolctl.ThreadpoolController:
    """Return the libraries with thread pools; they are searched again when the number of `modules` changes."""
    return threadpoolctl.ThreadpoolController()
