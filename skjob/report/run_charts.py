"""Draw the charts of a whole run: how long fits took, what each worker did and when, and the number of workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from skjob.report.charts import Chart
from skjob.report.html import Html, number, table, tag
from skjob.report.scales import NumericScale, Tick, time_unit
from skjob.report.svg import Frame, bar, mark, steps
from skjob.report.svg import label as text
from skjob.run.history.details import RunDetails, Span, WorkerDetails
from skjob.run.record import WorkersAt
from skjob.utils.text import shortened
from skjob.utils.units import format_bytes, format_duration

BARS = 24
MAX_SPANS = 600
"""Above this number of fits, the timeline shows how busy a worker was instead of each fit."""

MAX_LANES = 40
LANE = 20
COLUMNS = 560
"""Number of time slots per worker if fits are not drawn one by one."""

CROSS_COLUMNS = 14
"""Number of slots that share a cross for failed fits: closer crosses would hide the lane."""

BUSY_LEVELS = 4
"""Number of levels of how busy a worker was."""

PROGRAM = "(program)"


def fit_times(details: RunDetails) -> Chart | None:
    """Return a histogram of fit times, without reused fits."""
    times = sorted(details.fit_seconds)
    if len(times) < 2:
        return None
    shown = [max(each, 1e-4) for each in times]
    scale = NumericScale.of(shown)
    counts = [0] * BARS
    for each in shown:
        counts[min(BARS - 1, int(scale.place(each) * BARS))] += 1
    frame = Frame()
    heights = NumericScale(0.0, max(counts) * 1.05)
    bars = [
        bar(
            frame.x(index / BARS) + 0.5,
            frame.y(heights.place(count)),
            frame.x(1 / BARS) - frame.x(0) - 1,
            frame.y(0) - frame.y(heights.place(count)),
            "bar",
            f"{count} fits",
        )
        for index, count in enumerate(counts)
        if count
    ]
    quantiles = {"shortest": 0.0, "median": 0.5, "90 % within": 0.9, "longest": 1.0}
    rows = [[name, format_duration(times[int(each * (len(times) - 1))])] for name, each in quantiles.items()]
    rows.append(["in total", format_duration(math.fsum(times))])
    title = "Fit times"
    svg = frame.svg(
        f"Histogram of {len(times)} fit times",
        frame.y_axis(whole(heights.ticks(4))),
        frame.x_axis(scale.ticks(), "seconds of a fit" + (", logarithmic" if scale.log else "")),
        *bars,
    )
    what = f"Times of {len(times)} fits on their workers, without reused fits."
    return Chart(title, what, svg, table(["", "fit time"], rows, title))


def timeline(details: RunDetails) -> Chart | None:
    """Return a chart with a lane per worker: gaps are idle time, and the lane of a lost worker ends early."""
    if not details.workers:
        return None
    shown = details.workers[:MAX_LANES]
    span = details.ended - details.began
    unit, name = time_unit(span)
    times = NumericScale(0.0, max(span, 0.001) / unit)
    frame = Frame(width=760, height=50 + LANE * len(shown), left=100, right=14, top=6)

    def x(moment: float) -> float:
        return frame.x(times.place((moment - details.began) / unit))

    parts: list[Html | None] = [
        bar(x(start), frame.y(1), x(end) - x(start), frame.y(0) - frame.y(1), "calls")
        for start, end in details.busy_times[:200]
    ]
    parts.append(frame.x_axis(times.ticks(8), f"{name} since the run began"))
    each_fit = sum(len(worker.spans) for worker in shown) <= MAX_SPANS
    rows = []
    for index, worker in enumerate(shown):
        top = frame.y(1) + LANE * index
        parts.append(text(frame.left - 6, top + 14, shortened(worker.name or PROGRAM, 14), anchor="end"))
        if each_fit:
            parts += [_span(each, x(each.started), x(each.ended), top, details.began) for each in worker.spans]
        else:
            parts += _lane(worker, details, top, frame)
        rows.append(_worker_row(worker, details))
    title = "What each worker did"
    words = (
        "Each bar is a fit or a batch of tasks; a cross marks a failed one."
        if each_fit
        else "The darker the colour, the busier a worker was at that time; a cross marks failed fits."
    )
    words += " Times with parallel work are shaded in the background: gaps in a shaded time are idle workers."
    words += " The last column shows when a worker finished its last fit: a lost worker stops before the others."
    hidden = len(details.workers) - len(shown)
    words += f" {hidden} more workers are not drawn." if hidden else ""
    heading = ["worker", "fits", "failed", "busy", "idle", "peak memory", "last fit ended after"]
    rows += [_worker_row(worker, details) for worker in details.workers[MAX_LANES:200]]
    svg = frame.svg(f"Timeline of {len(shown)} workers", *parts)
    return Chart(title, words, svg, table(heading, rows, title), width=frame.width)


def _span(span: Span, left: float, right: float, top: float, began: float) -> Html:
    title = f"{format_duration(span.seconds)}, starting after {format_duration(max(0.0, span.started - began))}"
    width = max(0.5, right - left - 0.5)
    if not span.failed:
        return bar(left, top + 3, width, LANE - 6, "fit", title)
    drawn = bar(left, top + 3, width, LANE - 6, "fit-failed", f"{title}, failed")
    return Html(drawn + _cross((left + right) / 2, top + LANE / 2))


def _worker_row(worker: WorkerDetails, details: RunDetails) -> list[str]:
    peak = details.record.peak_memory.get(worker.name)
    return [
        worker.name or PROGRAM,
        str(worker.done),
        str(worker.failed),
        format_duration(worker.busy),
        format_duration(details.idle(worker)),
        "-" if peak is None else format_bytes(peak),
        format_duration(max(0.0, worker.last - details.began)),
    ]


def _lane(worker: WorkerDetails, details: RunDetails, top: float, frame: Frame) -> list[Html | None]:
    """Return how busy a worker was, as one path per level, so that a hundred thousand fits stay small."""
    span = details.ended - details.began
    width = span / COLUMNS or 1.0
    busy, failed = [0.0] * COLUMNS, set[int]()
    for each in worker.spans:
        start, end = (each.started - details.began) / width, (each.ended - details.began) / width
        first, last = max(0, min(COLUMNS - 1, int(start))), max(0, min(COLUMNS - 1, int(end)))
        for column in range(first, last + 1):
            busy[column] += max(0.0, min(end, column + 1) - max(start, column))
        if each.failed:
            failed.add(last)
    levels = [min(BUSY_LEVELS, math.ceil(each / details.threads * BUSY_LEVELS - 0.02)) for each in busy]
    paths: dict[int, list[str]] = {}
    start = 0
    for column in range(1, COLUMNS + 1):
        if column == COLUMNS or levels[column] != levels[start]:
            if levels[start]:
                place = f"M{number(frame.x(start / COLUMNS))} {number(top + LANE / 2)}"
                paths.setdefault(levels[start], []).append(f"{place}H{number(frame.x(column / COLUMNS))}")
            start = column
    parts: list[Html | None] = [
        tag("path", class_=f"lane b{level}", d="".join(segments)) for level, segments in paths.items()
    ]
    crosses = sorted({column // CROSS_COLUMNS for column in failed})
    parts += [_cross(frame.x((each + 0.5) * CROSS_COLUMNS / COLUMNS), top + LANE / 2) for each in crosses]
    return parts


def _cross(x: float, y: float) -> Html:
    path = f"M{number(x - 4)} {number(y - 4)}l8 8m0-8l-8 8"
    return Html(tag("path", class_="cross-back", d=path) + tag("path", class_="cross", d=path))


def workers_over_time(details: RunDetails) -> Chart | None:
    """Return a chart of requested and connected workers over time, with losses marked."""
    counts = details.record.workers
    if not counts:
        return None
    span = max(details.ended - details.began, counts[-1].seconds)
    unit, name = time_unit(span)
    times = NumericScale(0.0, max(span, 0.001) / unit)
    heights = NumericScale(0.0, max(1, *(max(each.asked, each.connected) for each in counts)) * 1.15)
    frame = Frame(width=760, height=180, left=100, right=14)

    def at(each: WorkersAt, value: int) -> tuple[float, float]:
        return frame.x(times.place(each.seconds / unit)), frame.y(heights.place(value))

    lost = losses(counts)
    svg = frame.svg(
        "Workers over time",
        frame.y_axis(whole(heights.ticks(4))),
        frame.x_axis(times.ticks(8), f"{name} since the run began"),
        steps([at(each, each.asked) for each in counts], frame.x(1), "line-asked"),
        steps([at(each, each.connected) for each in counts], frame.x(1), "line-best"),
        *(
            mark(*at(each, each.connected), f"{number} lost after {format_duration(each.seconds)}")
            for number, each in lost[:50]
        ),
    )
    rows = [[format_duration(each.seconds), str(each.asked), str(each.connected)] for each in counts[:200]]
    words = "The solid line shows connected workers, the dashed line requested ones."
    if lost:
        where = ", ".join(f"{number} after {format_duration(each.seconds)}" for number, each in lost[:10])
        words += f" Lost, or released while still requested (diamonds): {where}."
    return Chart(
        "Workers over time", words, svg, table(["after", "requested", "connected"], rows, "Workers"), width=frame.width
    )


def whole(ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ticks that are whole numbers: there is no half fit."""
    return [tick for tick in ticks if "." not in tick.label]


def losses(counts: Sequence[WorkersAt]) -> list[tuple[int, WorkersAt]]:
    """Return when fewer workers were connected than before and than requested, and by how many."""
    pairs = pairwise(counts)
    return [
        (before.connected - each.connected, each)
        for before, each in pairs
        if each.connected < before.connected and each.connected < each.asked
    ]


def cost_words(details: RunDetails) -> list[list[str]]:
    """Return table rows of a run's cost."""
    from skjob.deploy.kubernetes.costs.prices import money
    from skjob.run.history.summary import cost_of

    amount, currency = cost_of(details.record.cost)
    if amount is None:
        return []
    rows = [["the run", money(amount, currency)]]
    ran = len(details.fit_seconds)
    if ran:
        rows.append(["per fit that ran", money(amount / ran, currency)])
    if details.reused and ran:
        rows.append(
            [f"saved by {details.reused} reused fits (estimate)", money(amount / ran * details.reused, currency)]
        )
    maximum = details.record.cost.get("most")
    if isinstance(maximum, int | float):
        rows.append(["limit of the run", money(float(maximum), currency)])
    gpu_hours = details.record.cost.get("gpu_hours")
    if isinstance(gpu_hours, int | float):
        rows.append(["GPU hours", f"{gpu_hours:.3g}"])
    return rows
