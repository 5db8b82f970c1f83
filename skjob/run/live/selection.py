"""Which calls and candidates of a run are shown while it goes on, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skjob.run.events.searches import CallProgress, Candidate
from skjob.run.live.state import RunState
from skjob.run.live.wording import cost_in_words, name_of, number, spread_of, unit, workers_in_words
from skjob.utils.text import counts, visible
from skjob.utils.units import format_rough_duration

MAX_CANDIDATES = 5
"""How many candidates are shown."""

MIN_AGO = 10.0
"""Seconds after the end of a call from which on it is shown how long ago that was."""


def facts_of(state: RunState, now: float, *, short: bool = False) -> list[str]:
    """Return workers, time since the beginning, cost, and how many fits were reused or have failed; what is known."""
    calls = state.searches.outermost
    facts = []
    if state.workers is not None:
        facts.append(workers_in_words(state.workers, short=short))
    facts.append(format_rough_duration(now - state.began))
    if state.cost is not None:
        facts.append(cost_in_words(state.cost))
    return facts + counts(reused=sum(call.reused for call in calls), failed=sum(call.failed for call in calls))


def running_calls(state: RunState) -> list[tuple[int, CallProgress]]:
    """Return the running calls with their depth, in tree order."""
    running = state.searches.running
    numbers = {call.started.call for call in running}
    shown: list[tuple[int, CallProgress]] = []

    def add(call: CallProgress, depth: int) -> None:
        shown.append((depth, call))
        for nested in running:
            if nested.started.parent == call.started.call and nested is not call:
                add(nested, depth + 1)

    for call in running:
        if call.started.parent not in numbers:
            add(call, 0)
    return shown


def calls_to_show(state: RunState) -> list[tuple[int, CallProgress]]:
    """Return the running calls with their depth, in tree order; if none is running, the one that ended last."""
    if running := running_calls(state):
        return running
    ended = [call for call in state.searches.calls.values() if call.finished is not None]
    return [(0, max(ended, key=lambda call: call.finished.at if call.finished else 0.0))] if ended else []


def search_to_show(state: RunState, calls: Sequence[CallProgress]) -> CallProgress | None:
    """Return the first of these calls whose candidates have scores; of a halving search, its latest such iteration."""
    for call in calls:
        if call.started.candidates is None or not call.started.metric:
            continue
        if call.leading(1):
            return call
        if before := [each for each in state.searches.search_of(call) if each.leading(1)]:
            return before[-1]
    return None


def count_of(call: CallProgress, *, short: bool = False) -> str:
    """Return `97 of 160 fits`, without a total `97 tasks`; where it must be short, `97/160`."""
    if call.total is None:
        return f"{call.done} {unit(call)}"
    return f"{call.done}/{call.total}" if short else f"{call.done} of {call.total} {unit(call)}"


def end_or_now(call: CallProgress, now: float) -> float:
    """Return when a call ended; `now` if it runs."""
    return now if call.finished is None else call.finished.at


def time_left(call: CallProgress, now: float, *, short: bool = False) -> str:
    """Return `about 29 s left`, or how the call ended and how long ago; empty if nothing is known."""
    if call.finished is not None:
        ended = "ended" if call.finished.ok else "stopped"
        ago = now - call.finished.at  # what follows a search, such as its refit, may take long and report nothing
        return ended if ago < MIN_AGO else f"{ended} {format_rough_duration(ago)} ago"
    seconds = call.seconds_left(now)
    if seconds is None:
        return ""
    return f"{'' if short else 'about '}{format_rough_duration(seconds)} left"


def caption_of(call: CallProgress) -> str:
    """Return what stands above the best candidates of a search."""
    first = f" by {visible(call.started.metric)}, the first of its metrics" if call.started.metric_is_first else ""
    return f"best of {name_of(call)}{first}:"


def fits_of(candidate: Candidate) -> str:
    """Return how many of a candidate's splits have a score: `3/5`."""
    return f"{len(candidate.scores)}/{candidate.splits}" if candidate.splits else str(len(candidate.scores))


def row_of(rank: int, candidate: Candidate) -> list[str]:
    """Return a candidate's rank, its score, the spread of that and its number of fits."""
    return [str(rank), number(candidate.mean), spread_of(candidate), fits_of(candidate)]


def parameter_names(candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of all parameters of these candidates, in their order."""
    return list(dict.fromkeys(visible(name) for each in candidates for name in each.parameters))


def values_of(candidate: Candidate, names: Sequence[str]) -> list[str]:
    """Return the values of the parameters of these names, empty for one that a candidate does not have."""
    values = {visible(name): visible(value) for name, value in candidate.parameters.items()}
    return [values.get(name, "") for name in names]
