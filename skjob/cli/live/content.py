"""Build the content of the live view: a run's state as rich renderables. Pure.

From the top: a rule with workers, time and cost; a line per running call, nested ones below the call that makes them;
the best candidates of a search. What does not fit into the height is omitted from the end, candidates first.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from skjob.cli.live.state import RunState
from skjob.cli.live.wording import (
    cost_in_words,
    name_of,
    number,
    parameters_of,
    rate,
    spread_of,
    unit,
    workers_in_words,
)
from skjob.run.events.searches import CallProgress, Candidate
from skjob.utils.text import counts, shortened, visible
from skjob.utils.units import format_rough_duration

MAX_CANDIDATES = 5
MAX_CALLS = 4
WIDE = 72
"""Number of columns from which there is space for a bar and a rate."""
MEDIUM = 40
"""Number of columns from which a candidate's spread and number of fits are shown."""
GAP = 2
MIN_BAR, MAX_BAR = 8, 40
MAX_METRIC_LENGTH = 16
MAX_VALUE_LENGTH = 12
"""Maximum characters of a parameter's value if each parameter has a column."""


def view(state: RunState, now: float, width: int, height: int) -> Group:
    """Return the content at `now`, in seconds since the epoch, for `width` columns and `height` lines."""
    with state.lock:
        parts: list[RenderableType] = [_heading(state, now, width)]
        lines_left = height - 1
        calls = _calls_to_show(state)
        shown = calls[: min(MAX_CALLS, lines_left)]
        if len(calls) > len(shown) and len(shown) > 1:
            shown = shown[:-1]
        if shown:
            parts.append(_progress(shown, now, width))
            lines_left -= len(shown)
        if hidden := len(calls) - len(shown):
            parts.append(Text(f"and {hidden} more calls", style="dim"))
            lines_left -= 1
        if lines_left >= 3 and (search := _search_to_show(state, [call for _, call in calls])) is not None:
            if len(calls) > 1 or search.started.metric_is_first:
                parts.append(Text(_caption(search), style="dim"))
                lines_left -= 1
            parts.append(_candidates(search, width, lines_left - 1))
    return Group(*parts)


def _heading(state: RunState, now: float, width: int) -> RenderableType:
    calls = state.searches.outermost
    facts = []
    if state.workers is not None:
        facts.append(workers_in_words(state.workers, short=width < WIDE))
    facts.append(format_rough_duration(now - state.began))
    if state.cost is not None:
        facts.append(cost_in_words(state.cost))
    facts += counts(reused=sum(call.reused for call in calls), failed=sum(call.failed for call in calls))
    title = Text("skjob", style="bold")
    for fact in facts:
        if len(title) + len(fact) + 5 > width:
            break
        title.append(f"  {fact}", style="red" if fact.endswith("failed") else "not bold")
    return Rule(title, align="left", style="dim")


# ---- calls


def _calls_to_show(state: RunState) -> list[tuple[int, CallProgress]]:
    """Return the running calls with their depth, in tree order; if none is running, the one that ended last."""
    running = state.searches.running
    if not running:
        ended = [call for call in state.searches.calls.values() if call.finished is not None]
        return [(0, max(ended, key=lambda call: call.finished.at if call.finished else 0.0))] if ended else []
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


def _progress(calls: Sequence[tuple[int, CallProgress]], now: float, width: int) -> Table:
    wide = width >= WIDE
    facts = [_facts(call, now, wide=wide) for _, call in calls]
    names = ["  " * (depth - 1) + ("└ " if depth else "") + name_of(call) for depth, call in calls]
    longest = max(map(len, names))
    available = width - sum(max(map(len, column)) + GAP for column in zip(*facts, strict=True))
    bar = min(MAX_BAR, available - longest - GAP)
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True)
    if bar >= MIN_BAR:
        table.add_column(width=bar)
    for _ in facts[0]:
        table.add_column(no_wrap=True, justify="right")
    for name, (_, call), row in zip(names, calls, facts, strict=True):
        bars = [_bar(call, bar)] if bar >= MIN_BAR else []
        table.add_row(Text(shortened(name, max(1, available))), *bars, *map(Text, row))
    return table


def _bar(call: CallProgress, width: int) -> RenderableType:
    """Return a bar for a call whose total is known, otherwise nothing."""
    if call.total is None:
        return ""
    return ProgressBar(
        max(1, call.total), call.done, width, style="bright_black", complete_style="cyan", finished_style="green"
    )


def _facts(call: CallProgress, now: float, *, wide: bool) -> list[str]:
    count, time_left = _count(call, wide=wide), _time_left(call, now, wide=wide)
    return [count, rate(call, _end_or_now(call, now)), time_left] if wide else [count, time_left]


def _count(call: CallProgress, *, wide: bool) -> str:
    if call.total is None:
        return f"{call.done} {unit(call)}"
    return f"{call.done} of {call.total} {unit(call)}" if wide else f"{call.done}/{call.total}"


def _end_or_now(call: CallProgress, now: float) -> float:
    return now if call.finished is None else call.finished.at


def _time_left(call: CallProgress, now: float, *, wide: bool) -> str:
    if call.finished is not None:
        return "ended" if call.finished.ok else "stopped"
    seconds = call.seconds_left(now)
    if seconds is None:
        return ""
    return f"about {format_rough_duration(seconds)} left" if wide else f"{format_rough_duration(seconds)} left"


# ---- candidates


def _search_to_show(state: RunState, calls: Sequence[CallProgress]) -> CallProgress | None:
    """Return the first of these calls whose candidates have scores; for a halving search, or its latest such
    iteration."""
    for call in calls:
        if call.started.candidates is None or not call.started.metric:
            continue
        if call.ranked(1):
            return call
        if before := [each for each in state.searches.search_of(call) if each.ranked(1)]:
            return before[-1]
    return None


def _caption(call: CallProgress) -> str:
    first = f" by {visible(call.started.metric)}, the first of its metrics" if call.started.metric_is_first else ""
    return f"best of {name_of(call)}{first}:"


def _candidates(call: CallProgress, width: int, maximum: int) -> Table:
    ranked = call.ranked(min(MAX_CANDIDATES, maximum))
    metric = shortened(visible(call.started.metric), MAX_METRIC_LENGTH)
    headers = ["#", metric, "±", "fits"] if width >= MEDIUM else ["#", metric]
    rows = [_row(rank, candidate)[: len(headers)] for rank, candidate in enumerate(ranked, 1)]
    available = width - sum(max(map(len, column)) + GAP for column in zip(headers, *rows, strict=True))
    columns = _parameter_columns(ranked, available)
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in (*headers, *(columns or ["parameters"])):
        table.add_column(no_wrap=True)
    table.add_row(*map(Text, (*headers, *(columns or ["parameters"]))), style="dim")
    for row, candidate in zip(rows, ranked, strict=True):
        if columns is not None:
            values = [shortened(value, MAX_VALUE_LENGTH) for value in _values(candidate, columns)]
        else:
            values = [shortened(parameters_of(candidate), max(1, available))]
        table.add_row(*map(Text, (*row, *values)), style="bold" if candidate is ranked[0] else None)
    return table


def _row(rank: int, candidate: Candidate) -> list[str]:
    fits = f"{len(candidate.scores)}/{candidate.splits}" if candidate.splits else str(len(candidate.scores))
    return [str(rank), number(candidate.mean), spread_of(candidate), fits]


def _values(candidate: Candidate, columns: Sequence[str]) -> list[str]:
    values = {visible(name): visible(value) for name, value in candidate.parameters.items()}
    return [values.get(name, "") for name in columns]


def _parameter_columns(candidates: Sequence[Candidate], available: int) -> list[str] | None:
    """Return the names of the parameters if a column for each fits into the available characters; None if not."""
    columns = list(dict.fromkeys(visible(name) for each in candidates for name in each.parameters))
    total_width = -GAP
    for name in columns:
        longest = max(len(shortened(_values(each, [name])[0], MAX_VALUE_LENGTH)) for each in candidates)
        total_width += max(len(name), longest) + GAP
    return columns if columns and total_width <= available else None
