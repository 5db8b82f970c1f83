"""Build the closing lines of a run: how long it took, what it did, what it cost, and the best candidates. Pure."""

from __future__ import annotations

from skjob.run.events.searches import CallProgress
from skjob.run.live.state import CostSoFar, RunState
from skjob.run.live.wording import cost_in_words, name_of, parameters_of, score_of, unit
from skjob.run.record import Record
from skjob.utils.text import visible
from skjob.utils.units import format_duration

MAX_SEARCHES = 3


def summary(state: RunState, record: Record) -> list[str]:
    """Return the lines, except for how the run ended and where its record is."""
    with state.lock:
        lines = [] if record.seconds is None else [f"time: {format_duration(record.seconds)}"]
        lines += _counts(state)
        lines += _workers(state)
        if "amount" in record.cost:
            cost = CostSoFar(record.cost["amount"], record.cost["currency"], record.cost.get("most"))
            lines.append(f"cost: {cost_in_words(cost)}")
        searches = [search for search in state.searches.searches if state.searches.best(search) is not None]
        if len(searches) > MAX_SEARCHES:
            lines.append(f"searches: {len(searches)}, the {MAX_SEARCHES} with the most fits:")
            largest = sorted(searches, key=_fits, reverse=True)[:MAX_SEARCHES]
            searches = [search for search in searches if search in largest]
        for search in searches:
            lines += _best(state, search)
    return lines


def _counts(state: RunState) -> list[str]:
    parts = []
    for kind in ("fits", "tasks"):
        calls = [call for call in state.searches.outermost if unit(call) == kind]
        if done := sum(call.done for call in calls):
            parts.append(f"{done} {kind if done > 1 else kind[:-1]}")
            if reused := sum(call.reused for call in calls):
                parts.append(f"{reused} of them reused")
            if failed := sum(call.failed for call in calls):
                parts.append(f"{failed} failed (`skjob show` says why)")
    return [f"done: {', '.join(parts)}"] if parts else []


def _workers(state: RunState) -> list[str]:
    if not state.max_workers:
        return []
    return [f"workers: {state.max_workers} at most" if state.max_workers > 1 else "workers: 1"]


def _fits(search: list[CallProgress]) -> int:
    return sum(call.done for call in search)


def _best(state: RunState, search: list[CallProgress]) -> list[str]:
    name = name_of(search[-1]).partition(", iteration")[0]
    best = state.searches.best(search)
    if best is None:  # excluded by the caller
        return []
    metric = visible(search[-1].started.metric)
    note = ", the first of its metrics" if search[-1].started.metric_is_first else ""
    lines = [f"best of {name}: {metric} {score_of(best)}{note}"]
    if best.parameters:
        lines.append(f"  with {parameters_of(best)}")
    return lines
