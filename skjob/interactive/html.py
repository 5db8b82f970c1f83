"""A cluster, and the progress of a cell, as HTML and as plain text. Pure.

The colours are those of the notebook, light or dark: what is not its text is a transparent grey or blue above its
background. Every text is escaped (`report/html.py`). A notebook that is opened again and not trusted has no styles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skjob.interactive.observer import ClusterState, Status
from skjob.report.html import Html, tag
from skjob.run.events.searches import CallProgress
from skjob.run.live.selection import (
    MAX_CANDIDATES,
    caption_of,
    count_of,
    end_or_now,
    facts_of,
    fits_of,
    parameter_names,
    row_of,
    running_calls,
    search_to_show,
    time_left,
    values_of,
)
from skjob.run.live.state import RunState
from skjob.run.live.wording import cost_in_words, name_of, parameters_of, rate, score_of, workers_in_words
from skjob.utils.text import shortened, visible
from skjob.utils.units import format_rough_duration

MAX_ENDED = 5
"""How many calls of a cell that have ended are shown."""
MAX_NOTES = 5
MAX_COLUMNS = 4
"""So many parameters have a column each; more are listed in one."""
MAX_VALUE_LENGTH = 60

STYLE = Html(
    ".skjob{font:13px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;color:inherit;"
    "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.5em .75em;margin:.25em 0;max-width:60em;"
    "box-sizing:border-box;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}"
    ".skjob .sj-head{display:flex;flex-wrap:wrap;gap:0 .9em;align-items:baseline}"
    ".skjob .sj-soft{opacity:.75}"
    ".skjob .sj-state{border-radius:9px;padding:0 .6em;background:rgba(128,128,128,.22)}"
    ".skjob .sj-ready{background:rgba(40,160,80,.28)}.skjob .sj-lost{background:rgba(220,50,50,.3)}"
    ".skjob .sj-starting,.skjob .sj-closing{background:rgba(60,130,230,.28)}"
    ".skjob ul{margin:.35em 0 0;padding:0 0 0 1.2em}.skjob li{margin:0;white-space:pre-wrap}"
    ".skjob table{border-collapse:collapse;margin:.35em 0 0;border:0;font-size:13px;color:inherit;"
    "table-layout:auto;width:auto}"
    ".skjob tr,.skjob tr:nth-child(even),.skjob tr:hover{background:none!important}"
    ".skjob th,.skjob td{text-align:left!important;padding:.1em 1.1em .1em 0!important;border:0;"
    "vertical-align:middle;font-weight:400;color:inherit;white-space:nowrap;max-width:none}"
    ".skjob thead th{opacity:.75;border-bottom:1px solid rgba(128,128,128,.35)}"
    ".skjob tbody th{opacity:.75;vertical-align:top}"
    ".skjob tbody tr.sj-best td{font-weight:600}"
    ".skjob td.sj-long{white-space:normal;overflow-wrap:anywhere}.skjob .sj-scroll td.sj-long{min-width:12em}"
    ".skjob .sj-scroll{overflow-x:auto}"
    ".skjob .sj-bar{width:11em;min-width:4em;height:.55em;border-radius:.3em;background:rgba(128,128,128,.28);"
    "overflow:hidden}"
    ".skjob .sj-bar div{height:100%;background:#3b82f6}.skjob .sj-done div{background:#28a050}"
    ".skjob a{color:inherit;text-decoration:underline}"
    # On a narrow screen what does not fit goes to the next line.
    "@media (max-width:800px){.skjob .sj-calls td{display:inline-block}.skjob .sj-calls .sj-bar{width:8em}}"
)


def _framed(label: str, *parts: Html | None) -> Html:
    return tag("div", tag("style", STYLE), *parts, class_="skjob", role="group", aria_label=label)


# ---- the cluster


def card(state: ClusterState) -> Html:
    """Return a cluster as a card: state, workers, cost, dashboard, and what its user should read."""
    head = tag(
        "div",
        tag("b", "skjob"),
        tag("span", state.name) if state.name else None,
        tag("span", _status(state), class_=f"sj-state sj-{state.status.value.replace(' ', '-')}"),
        class_="sj-head",
    )
    facts = _facts(state)
    if state.link:
        link = tag("a", state.link, href=state.link, target="_blank", rel="noopener noreferrer")
        facts.append(("dashboard", link))
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value, class_="sj-long")) for name, value in facts]
    return _framed("skjob cluster", head, tag("table", tag("tbody", *rows)) if rows else None, notes(state.notes))


def card_text(state: ClusterState) -> str:
    """Return a cluster as plain text."""
    lines = [f"{visible(f'skjob cluster {state.name}'.rstrip())}: {visible(_status(state))}"]
    facts = _facts(state) + ([("dashboard", state.link)] if state.link else [])
    lines += [f"  {name}: {visible(value)}" for name, value in facts]
    return "\n".join([*lines, *(f"  {visible(note)}" for note in state.notes[-MAX_NOTES:])])


def _status(state: ClusterState) -> str:
    if state.status is Status.STARTING and state.step:
        return f"starting: {state.step}"
    if state.status is Status.CLOSED and state.ended is not None:
        return f"closed after {format_rough_duration(state.ended - state.began)}"
    return state.status.value


def _facts(state: ClusterState) -> list[tuple[str, str]]:
    facts = [("place", state.place)] if state.place else []
    if state.workers is not None and state.status is not Status.CLOSED:
        each = f", each with {state.size}" if state.size else ""
        facts.append(("workers", workers_in_words(state.workers).replace(" workers", "", 1) + each))
    if state.cost is not None:
        facts.append(("cost", cost_in_words(state.cost)))
    return facts


def notes(lines: Sequence[str]) -> Html | None:
    """Return the last of these lines as a list; None without any."""
    if not lines:
        return None
    return tag("ul", *(tag("li", line) for line in lines[-MAX_NOTES:]))


# ---- what a cell does on it


def progress(state: RunState, now: float, lines: Sequence[str] = ()) -> Html:
    """Return how far the calls of a cell are, and the best candidates so far."""
    with state.lock:
        now = _until(state, now)
        calls, hidden = _calls(state)
        head = tag("div", tag("b", "skjob"), *(tag("span", fact) for fact in facts_of(state, now)), class_="sj-head")
        more = tag("div", f"and {hidden} more calls before", class_="sj-soft") if hidden else None
        return _framed("skjob progress", head, more, _table_of_calls(calls, now), *_best(state, calls), notes(lines))


def progress_text(state: RunState, now: float, lines: Sequence[str] = ()) -> str:
    """Return the same as plain text."""
    with state.lock:
        now = _until(state, now)
        calls, _ = _calls(state)
        text = [f"skjob: {', '.join(facts_of(state, now))}"]
        for _, call in calls:
            text.append("  ".join(filter(None, [name_of(call), count_of(call), time_left(call, now)])))
        if (search := _search(state, calls)) is not None and (ranked := search.leading(1)):
            [best] = ranked
            text.append(f"{caption_of(search)} {score_of(best)} ({fits_of(best)} fits) {parameters_of(best)}")
        return "\n".join(map(visible, [*text, *lines[-MAX_NOTES:]]))


def _until(state: RunState, now: float) -> float:
    """Return the moment that is shown: the end of the last call if none goes on."""
    ended = [call.finished.at for call in state.searches.outermost if call.finished is not None]
    return now if state.searches.running or not ended else max(ended)


def _calls(state: RunState) -> tuple[list[tuple[int, CallProgress]], int]:
    """Return the last calls that have ended, then those that run, each with its depth; and how many are left out."""
    ended = [call for call in state.searches.outermost if call.finished is not None]
    shown = [(0, call) for call in ended[-MAX_ENDED:]]
    return shown + running_calls(state), len(ended) - len(shown)


def _table_of_calls(calls: Sequence[tuple[int, CallProgress]], now: float) -> Html | None:
    rows = [
        tag(
            "tr",
            tag("td", "\u00a0" * 4 * (depth - 1) + ("└ " if depth else "") + name_of(call)),
            tag("td", _bar(call)),
            *(tag("td", fact) for fact in (count_of(call), rate(call, end_or_now(call, now)), time_left(call, now))),
        )
        for depth, call in calls
    ]
    return tag("table", tag("tbody", *rows), class_="sj-calls") if rows else None


def _bar(call: CallProgress) -> Html | None:
    """Return a bar for a call whose total is known."""
    if call.total is None:
        return None
    percent = 100 * call.done / max(1, call.total)
    done = " sj-done" if call.finished is not None and call.finished.ok else ""
    return tag(
        "div", tag("div", style=f"width:{percent:.1f}%"), class_=f"sj-bar{done}", role="progressbar",
        aria_valuenow=f"{call.done}", aria_valuemax=f"{call.total}", aria_label=name_of(call),
    )  # fmt: skip


def _search(state: RunState, calls: Sequence[tuple[int, CallProgress]]) -> CallProgress | None:
    """Return the search whose candidates are shown: one that runs, else the last of those that have ended."""
    running = [call for _, call in calls if call.finished is None]
    return search_to_show(state, [*running, *(call for _, call in reversed(calls) if call.finished is not None)])


def _best(state: RunState, calls: Sequence[tuple[int, CallProgress]]) -> Iterator[Html]:
    search = _search(state, calls)
    if search is None:
        return
    if len(calls) > 1 or search.started.metric_is_first:
        yield tag("div", caption_of(search), class_="sj-soft")
    ranked = search.leading(MAX_CANDIDATES)
    names = parameter_names(ranked)
    together = len(names) > MAX_COLUMNS
    metric = shortened(visible(search.started.metric), MAX_VALUE_LENGTH)
    head = ["#", metric, "±", "fits", *(["parameters"] if together else names)]
    rows = []
    for place, candidate in enumerate(ranked, 1):
        cells = [tag("td", cell) for cell in row_of(place, candidate)]
        if together:
            cells.append(tag("td", parameters_of(candidate), class_="sj-long"))
        else:
            cells += [tag("td", shortened(value, MAX_VALUE_LENGTH)) for value in values_of(candidate, names)]
        rows.append(tag("tr", *cells, class_="sj-best" if place == 1 else None))
    heading = tag("thead", tag("tr", *(tag("th", each, scope="col") for each in head)))
    table = tag("table", heading, tag("tbody", *rows))
    yield tag("div", table, class_="sj-scroll", tabindex="0", role="region", aria_label="best candidates")
