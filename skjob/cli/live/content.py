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

from skjob.run.events.searches import CallProgress, Candidate
from skjob.run.live.selection import (
    MAX_CANDIDATES,
    calls_to_show,
    caption_of,
    count_of,
    end_or_now,
    facts_of,
    parameter_names,
    row_of,
    search_to_show,
    time_left,
    values_of,
)
from skjob.run.live.state import RunState
from skjob.run.live.wording import name_of, parameters_of, rate
from skjob.utils.text import shortened, visible

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
        calls = calls_to_show(state)
        shown = calls[: min(MAX_CALLS, lines_left)]
        if len(calls) > len(shown) and len(shown) > 1:
            shown = shown[:-1]
        if shown:
            parts.append(_progress(shown, now, width))
            lines_left -= len(shown)
        if hidden := len(calls) - len(shown):
            parts.append(Text(f"and {hidden} more calls", style="dim"))
            lines_left -= 1
        if lines_left >= 3 and (search := search_to_show(state, [call for _, call in calls])) is not None:
            if len(calls) > 1 or search.started.metric_is_first:
                parts.append(Text(caption_of(search), style="dim"))
                lines_left -= 1
            parts.append(_candidates(search, width, lines_left - 1))
    return Group(*parts)


def _heading(state: RunState, now: float, width: int) -> RenderableType:
    title = Text("skjob", style="bold")
    for fact in facts_of(state, now, short=width < WIDE):
        if len(title) + len(fact) + 5 > width:
            break
        title.append(f"  {fact}", style="red" if fact.endswith("failed") else "not bold")
    return Rule(title, align="left", style="dim")


# ---- calls


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
    count, left = count_of(call, short=not wide), time_left(call, now, short=not wide)
    return [count, rate(call, end_or_now(call, now)), left] if wide else [count, left]


# ---- candidates


def _candidates(call: CallProgress, width: int, maximum: int) -> Table:
    ranked = call.leading(min(MAX_CANDIDATES, maximum))
    metric = shortened(visible(call.started.metric), MAX_METRIC_LENGTH)
    headers = ["#", metric, "±", "fits"] if width >= MEDIUM else ["#", metric]
    rows = [row_of(rank, candidate)[: len(headers)] for rank, candidate in enumerate(ranked, 1)]
    available = width - sum(max(map(len, column)) + GAP for column in zip(headers, *rows, strict=True))
    columns = _parameter_columns(ranked, available)
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in (*headers, *(columns or ["parameters"])):
        table.add_column(no_wrap=True)
    table.add_row(*map(Text, (*headers, *(columns or ["parameters"]))), style="dim")
    for row, candidate in zip(rows, ranked, strict=True):
        if columns is not None:
            values = [shortened(value, MAX_VALUE_LENGTH) for value in values_of(candidate, columns)]
        else:
            values = [shortened(parameters_of(candidate), max(1, available))]
        table.add_row(*map(Text, (*row, *values)), style="bold" if candidate is ranked[0] else None)
    return table


def _parameter_columns(candidates: Sequence[Candidate], available: int) -> list[str] | None:
    """Return the names of the parameters if a column for each fits into the available characters; None if not."""
    columns = parameter_names(candidates)
    total_width = -GAP
    for name in columns:
        longest = max(len(shortened(values_of(each, [name])[0], MAX_VALUE_LENGTH)) for each in candidates)
        total_width += max(len(name), longest) + GAP
    return columns if columns and total_width <= available else None
