"""Measure the tasks of one Parallel call: to send long fits first, and to know which calls are too small to send."""

from __future__ import annotations

import math
import time

from skjob.engine.dispatch.batch import BatchTask, CallResult
from skjob.engine.fidelity.small_calls import Measured, SmallCalls
from skjob.engine.priorities import DurationModel, WorkEstimate
from skjob.engine.task import Outcome


class CallMeasurements:
    """The durations of the tasks of one call. `small_calls` is what is known of the client's calls."""

    def __init__(self, small_calls: SmallCalls) -> None:
        self._small_calls = small_calls
        self._durations = DurationModel()
        self._seconds = 0.0
        """The time that all tasks took on workers together; NaN if some did not have to run."""
        self._has_effects = False

    def expected(self, task: BatchTask) -> float | None:
        """Return how many seconds a task is expected to take; None if nothing is known of its calls."""
        estimates = [found for index in task.indices if (found := task.batch.estimates[index]) is not None]
        return sum(self._durations.expected(estimate) for estimate in estimates) if estimates else None

    def note_task(self, task: BatchTask, results: list[CallResult]) -> None:
        """Note how long the calls of a task took, and how long it took beside that."""
        ran = [result for result in results if isinstance(result, Outcome)]
        if len(ran) < len(task.batch.calls):
            self._seconds = math.nan
        if ran:
            seconds = sum(outcome.seconds for outcome in ran)
            self._seconds += seconds
            self._has_effects = self._has_effects or any(
                outcome.effects or outcome.read or outcome.refused for outcome in ran
            )
            self._small_calls.note_round_trip(time.perf_counter() - task.sent_at - seconds)
            self._small_calls.inner_threads = ran[-1].inner_threads

    def note_fit(self, estimate: WorkEstimate, seconds: float) -> None:
        """Note how long a fit took."""
        self._durations.learn(estimate, seconds)

    def total(self, tasks: int) -> Measured | None:
        """Return what the call's `tasks` took on workers; None if some did not run, or did more than return results."""
        if not math.isfinite(self._seconds) or self._has_effects:
            return None
        return Measured(tasks, self._seconds)
