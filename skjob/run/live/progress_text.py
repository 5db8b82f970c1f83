"""Say in one line how far a run is. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from skjob.run.events.searches import CallProgress, Searches
from skjob.utils.text import counts, visible
from skjob.utils.units import format_rough_duration

if TYPE_CHECKING:
    from skjob.deploy.scaling.loop import Progress

OFTEN, SELDOM = 10.0, 60.0
"""Seconds between two lines: at first, and later."""

LATER = 300.0
"""Seconds after the first line from which the lines come seldom."""


class LineInterval:
    """When the next line is due: none at once, for short runs need none."""

    def __init__(self) -> None:
        self._first = math.inf
        self._next = math.inf

    def is_due(self, now: float) -> bool:
        """Return whether a line is due at `now`; if so, the next one is an interval later."""
        if self._first == math.inf:
            self._first, self._next = now, now + OFTEN
        if now < self._next:
            return False
        self._next = now + (OFTEN if now - self._first < LATER else SELDOM)
        return True


def describe_progress(searches: Searches, progress: Progress | None, now: float) -> str:
    """Return how far a run is: `96 of 160 fits done, 8 running, about 29 s left, best 0.9655`.

    `progress` is what the scheduler knows. If several calls run at a time, each has its name; without one, what the
    scheduler knows is all.
    """
    running = f"{progress.running} running" if progress is not None and progress.running else ""
    calls = _running(searches)
    if not calls:
        return ", ".join(filter(None, [f"{_number(progress.done, None, 'task')} done" if progress else "", running]))
    if len(calls) == 1:
        return ", ".join(filter(None, [_done(calls[0]), running, *_prospects(searches, calls[0], now)]))
    lines = [
        f"{visible(call.started.name)}: {', '.join([_done(call), *_prospects(searches, call, now)])}" for call in calls
    ]
    return "; ".join(filter(None, [*lines, running]))


def progress_numbers(searches: Searches, progress: Progress | None, now: float) -> dict[str, Any]:
    """Return the same as numbers, for `--json`. What is not known is null."""
    return {
        "done": progress.done if progress is not None else None,
        "running": progress.running if progress is not None else None,
        "waiting": progress.to_go - progress.running if progress is not None else None,
        "calls": [_numbers(searches, call, now) for call in _running(searches)],
    }


def _running(searches: Searches) -> list[CallProgress]:
    """Return the calls that run, without those that a task of another makes."""
    return [call for call in searches.running if not call.is_nested]


def _numbers(searches: Searches, call: CallProgress, now: float) -> dict[str, Any]:
    left = call.seconds_left(now)
    best = searches.best(searches.search_of(call))
    return {
        "call": call.started.call,
        "name": call.started.name,
        "done": call.done,
        "total": call.total,
        "reused": call.reused,
        "failed": call.failed,
        "seconds_left": None if left is None else round(left, 1),
        "best": None if best is None else best.mean,
    }


def _done(call: CallProgress) -> str:
    noun = "fit" if call.started.splits is not None else "task"
    extra = counts(reused=call.reused, failed=call.failed)
    iteration = f"iteration {call.started.iteration}: " if call.started.iteration is not None else ""
    return f"{iteration}{_number(call.done, call.total, noun)} done" + (f" ({', '.join(extra)})" if extra else "")


def _number(done: int, total: int | None, noun: str) -> str:
    number = done if total is None else total
    return f"{done}{'' if total is None else f' of {total}'} {noun}{'s' * (number != 1)}"


def _prospects(searches: Searches, call: CallProgress, now: float) -> list[str]:
    parts = []
    if (left := call.seconds_left(now)) is not None and left >= 1:
        parts.append(f"about {format_rough_duration(left)} left")
    if (best := searches.best(searches.search_of(call))) is not None:
        # Which of several metrics it is, if the program has not named one.
        metric = f" by {visible(call.started.metric)}" if call.started.metric_is_first else ""
        parts.append(f"best {best.mean:.4g}{metric}")
    return parts
