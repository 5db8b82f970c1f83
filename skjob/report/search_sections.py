"""Build the report's sections about searches and other parallel calls: best candidates, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from skjob.report.charts import MAX_AXES, Chart, Scored, against, best_so_far, parallel_coordinates, spread
from skjob.report.html import Html, folded, joined, scrollable, table, tag
from skjob.report.scales import label
from skjob.run.events.searches import float_sum
from skjob.run.history.details import CallGroup, CandidateDetails, RunDetails, SearchDetails
from skjob.utils.text import counts, shortened
from skjob.utils.units import format_duration, format_score

MAX_SEARCHES = 6
"""Number of searches with charts: of more, only the largest are drawn, but all are in a table."""

MAX_CALLS = 100
TOP = 15


def figure(chart: Chart | None) -> Html | None:
    """Return a chart with its description and table."""
    if chart is None:
        return None
    drawn: Html = chart.svg
    if chart.width is not None:
        drawn = scrollable(tag("div", drawn, style=f"min-width:{chart.width:.0f}px"), chart.title)
    inner = [tag("figcaption", tag("h3", chart.title), tag("p", chart.text) if chart.text else None), drawn]
    if chart.table is not None:
        inner.append(folded("Show as a table", chart.table))
    return tag("figure", *inner, class_="wide" if chart.width is not None else None)


def searches(details: RunDetails) -> Iterator[tuple[str, str, Html]]:
    """Yield a section per search, after an overview if there are several."""
    searches_of_run = details.searches
    if len(searches_of_run) > 1:
        yield "searches", "Searches", _overview(searches_of_run)
    largest = sorted(range(len(searches_of_run)), key=lambda index: -searches_of_run[index].done)[:MAX_SEARCHES]
    for index in sorted(largest):
        search = searches_of_run[index]
        number = f"Search {index + 1}: " if len(searches_of_run) > 1 else ""
        yield f"search-{index + 1}", f"{number}{search.title}", _search(search, details)


def _overview(searches_of_run: list[SearchDetails]) -> Html:
    rows = []
    for index, search in enumerate(searches_of_run[:MAX_CALLS], 1):
        best = "-" if search.best is None else label(search.best.candidate.mean)
        counts = [str(search.done), str(search.total), str(search.reused), str(search.failed)]
        rows.append([str(index), search.title, *counts, best, search.metric or "-"])
    heading = ["search", "what", "fits done", "of", "reused", "failed", "best", "metric"]
    words = (
        ""
        if len(searches_of_run) <= MAX_SEARCHES
        else f"The {MAX_SEARCHES} with the most fits are shown in detail below."
    )
    hidden = len(searches_of_run) - len(rows)
    words += f" {hidden} more searches are not listed." if hidden else ""
    return joined([tag("p", words) if words else None, table(heading, rows, "All searches of the run")])


def _search(search: SearchDetails, details: RunDetails) -> Html:
    scored = Scored.of(search)
    if not scored.candidates:
        return joined([tag("p", _words(search)), tag("p", "No candidate has a score.")])
    charts = [
        best_so_far(scored, details),
        spread(scored),
        *(against(scored, name) for name in search.varying[:MAX_AXES]),
        parallel_coordinates(scored),
    ]
    hidden = search.varying[MAX_AXES:]
    fixed = search.fixed
    return joined([
        tag("p", _words(search)),
        _best(search),
        _top(search),
        tag("p", f"The same in all candidates: {_assigned(fixed)}", class_="soft") if fixed else None,
        tag("p", f"Too many parameters to draw all; not drawn: {', '.join(hidden)}", class_="soft") if hidden else None,
        tag("p", _how_to_read(scored), class_="soft"),
        tag("div", *(figure(chart) for chart in charts), class_="charts"),
    ])  # fmt: skip


def _words(search: SearchDetails) -> str:
    parts = [f"{search.done} of {search.total} fits done"]
    parts += counts(reused=search.reused, failed=search.failed)
    if search.halving:
        sizes = ", ".join(str(call.started.candidates or len(call.candidates)) for call in search.calls)
        parts.append(f"{len(search.calls)} iterations with {sizes} candidates; the last iteration comes first")
    else:
        parts.append(f"{len(search.candidates)} candidates")
    return "; ".join(filter(None, [*parts, search.ordering])) + "."


def _how_to_read(scored: Scored) -> str:
    return (
        "In the charts each dot or line is a candidate; the better it ranks, the darker (on a dark page, the lighter)."
        f" Diamonds and thick lines are the best {scored.highlighted}; hover over one for its details."
        " Tables count all candidates that have a score."
    )


def _best(search: SearchDetails) -> Html | None:
    if search.best is None:
        return None
    candidate = search.best.candidate
    score = f"{label(candidate.mean)} ± {candidate.spread:.2g}"
    return tag("p", tag("strong", f"Best: {score}"), f" with {_assigned(candidate.parameters)}")


def _assigned(values: dict[str, str]) -> str:
    return ", ".join(f"{name}={shortened(value, 80)}" for name, value in values.items()) or "no parameters"


def _top(search: SearchDetails) -> Html:
    names = search.varying
    best = search.candidates[:TOP]
    others = [metric for metric in dict.fromkeys(m for each in best for m in each.scores) if metric != search.metric]
    trained = any(each.train_scores for each in best)
    heading = ["rank", "score", "±", "splits", "fit time", *(["train score"] if trained else [])]
    heading += [*others, *names]
    rows = [_row(rank, each, search, others, trained, names) for rank, each in enumerate(best, 1)]
    if search.halving:
        heading.insert(1, "iteration")
        for row, each in zip(rows, best, strict=True):
            row.insert(1, str(each.iteration))
    return table(heading, rows, f"The best {len(rows)} of {len(search.candidates)} candidates")


def _row(
    rank: int, each: CandidateDetails, search: SearchDetails, others: list[str], trained: bool, names: list[str]
) -> list[str]:
    candidate = each.candidate
    splits = str(len(candidate.scores)) + (f" ({candidate.failed} failed)" if candidate.failed else "")
    seconds = "reused" if each.mean_seconds is None else format_duration(each.mean_seconds)
    row = [f"#{rank}", format_score(candidate.mean), format_score(candidate.spread, 2), splits, seconds]
    row += [format_score(each.mean(search.metric, train=True))] if trained else []
    row += [format_score(each.mean(metric)) for metric in others]
    return row + [candidate.parameters.get(name, "-") for name in names]


def others(details: RunDetails) -> Html | None:
    """Return a table of the parallel calls that belong to no search."""
    if not details.others:
        return None
    rows = [
        [group.title, str(group.calls), str(group.done), format_duration(group.seconds), _means(group)]
        for group in details.others
    ]
    heading = ["call", "calls", "fits or tasks", "total time", "scores"]
    return table(heading, rows[:MAX_CALLS], "Calls that belong to no search, grouped")


def _means(group: CallGroup) -> str:
    parts = []
    for metric, scores in group.scores.items():
        known = [score for score in scores if math.isfinite(score)]
        if known:
            mean = float_sum(known) / len(known)
            parts.append(f"{metric} {label(mean)} (from {label(min(known))} to {label(max(known))})")
    return "; ".join(parts) or "-"
