"""Draw the charts of a search: best so far, scores against parameters, parallel coordinates, spread over splits.

The charts are static. If there are too many candidates to draw, a chart shows the best ones and an even sample of the
others, and says so; its table still counts all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skjob.report.html import Html, table
from skjob.report.scales import NumericScale, ParameterAxis, Tick, label, sampled, time_unit
from skjob.report.svg import SHADES, Frame, Point, dots, line, mark, shade, steps
from skjob.report.svg import label as text
from skjob.run.history.details import CandidateDetails, RunDetails, SearchDetails
from skjob.utils.text import shortened
from skjob.utils.units import format_duration

MAX_POINTS = 1500
MAX_LINES = 300
MAX_HIGHLIGHTED = 10
"""Maximum number of best candidates that are highlighted and described on hover."""

MAX_SPREAD_ROWS = 15
MAX_AXES = 12
BINS = 10


@dataclass(frozen=True)
class Chart:
    """A chart, its description, and its data as a table."""

    title: str
    text: str
    svg: Html
    table: Html | None = None
    width: float | None = None
    """Minimum width in pixels, below which the chart scrolls; None if it has none."""


@dataclass(frozen=True)
class Scored:
    """The scored candidates of a search, best first, and the scale of their scores."""

    search: SearchDetails
    candidates: Sequence[CandidateDetails]
    scale: NumericScale
    below: int
    """Number of scores so far below the others that they are drawn at the edge."""

    @classmethod
    def of(cls, search: SearchDetails) -> Scored:
        """Return the scored candidates of a search."""
        scored = [each for each in search.candidates if math.isfinite(each.candidate.mean)]
        scores = sorted(each.candidate.mean for each in scored)
        low = scores[0] if scores else 0.0
        if len(scores) >= 20:
            usual = scores[len(scores) // 20]
            if scores[-1] - usual < 0.25 * (scores[-1] - low):
                low = next(score for score in scores if score >= usual - (scores[-1] - usual))
        below = sum(score < low for score in scores)
        return cls(search, scored, NumericScale.of([low, *scores[-1:]], log=False), below)

    @property
    def name(self) -> str:
        """Name of the scores."""
        return "mean score" if self.search.metric in ("", "score") else f"mean {self.search.metric}"

    @property
    def edge_note(self) -> str:
        """Note about scores that are drawn at the edge; empty if there are none."""
        return f" {self.below} far lower scores are drawn at the edge." if self.below else ""

    def drawn(self, maximum: int) -> list[int]:
        """Return the ranks of at most `maximum` candidates to draw, the worst first."""
        best = min(len(self.candidates), maximum // 4)
        others = sampled(range(best, len(self.candidates)), maximum - best)
        return [*reversed(others), *reversed(range(best))]

    @property
    def highlighted(self) -> int:
        """Number of best candidates that are highlighted."""
        return min(MAX_HIGHLIGHTED, math.ceil(len(self.candidates) / 4))

    def sample_note(self, drawn: Sequence[int]) -> str:
        """Return a note if not all candidates are drawn."""
        if len(drawn) == len(self.candidates):
            return ""
        best = f"the best {len(drawn) // 4} and an even sample of the others"
        return f" {len(drawn)} of {len(self.candidates)} candidates are drawn: {best}."

    def dots(self, ranks: Sequence[int], points: Sequence[Point], titles: bool = True) -> list[Html | None]:
        """Return candidates as dots, darker the better they are, with the best as diamonds on top."""
        by_shade: dict[int, list[Point]] = {each: [] for each in range(SHADES)}
        marks: list[Html | None] = []
        for rank, point in zip(ranks, points, strict=True):
            if titles and rank < self.highlighted:
                marks.append(mark(*point, self.describe(rank)))
            else:
                by_shade[shade(rank, len(self.candidates))].append(point)
        return [*(dots(group, f"s{each}") for each, group in by_shade.items()), *marks]

    def describe(self, rank: int) -> str:
        """Describe a candidate in one line."""
        each = self.candidates[rank]
        values = ", ".join(f"{name}={shortened(value, 60)}" for name, value in each.candidate.parameters.items())
        return f"#{rank + 1}: {self.name} {label(each.candidate.mean)}; {values}"


def best_so_far(scored: Scored, details: RunDetails) -> Chart:
    """Return a chart of the best score over time; for a halving search, of each iteration separately."""
    first = min((call.started.at for call in scored.search.calls), default=details.began)
    last = max((each.ended for each in scored.candidates), default=first)
    unit, name = time_unit(last - details.began)
    times = NumericScale.of([(first - details.began) / unit, (last - details.began) / unit], log=False)
    frame = Frame()

    def point(moment: float, score: float) -> Point:
        return frame.x(times.place((moment - details.began) / unit)), frame.y(scored.scale.place(score))

    lines: list[Html | None] = []
    rows = []
    for iteration in dict.fromkeys(each.iteration for each in reversed(scored.candidates)):
        in_iteration = [each for each in scored.candidates if each.iteration == iteration]
        best, improvements = -math.inf, list[CandidateDetails]()
        for each in sorted((each for each in in_iteration if each.candidate.complete), key=lambda each: each.ended):
            if each.candidate.mean > best:
                best = each.candidate.mean
                improvements.append(each)
        end = max(each.ended for each in in_iteration)
        lines.append(
            steps([point(each.ended, each.candidate.mean) for each in improvements], point(end, 0.0)[0], "line-best")
        )
        rows += [_improvement_row(each, details, iteration) for each in improvements]
    ranks = scored.drawn(MAX_POINTS)
    points = [point(scored.candidates[rank].ended, scored.candidates[rank].candidate.mean) for rank in ranks]
    heading = ["after", "best so far", "candidate"]
    title = "Best so far"
    shown = f"The line is the best {scored.name} so far, each dot a candidate at the time its last split was done."
    if scored.search.halving:
        heading.insert(1, "iteration")
        shown += " Each iteration has its own line, because it scores on more data."
    svg = frame.svg(
        f"{title}: {scored.name} over time; {len(rows)} improvements",
        frame.y_axis(scored.scale.ticks()),
        frame.x_axis(times.ticks(), f"{name} since the run began"),
        *scored.dots(ranks, points, titles=False),
        *lines,
    )
    return Chart(title, shown + scored.edge_note + scored.sample_note(ranks), svg, table(heading, rows[-50:], title))


def _improvement_row(each: CandidateDetails, details: RunDetails, iteration: int | None) -> list[str]:
    after = format_duration(max(0.0, each.ended - details.began))
    row = [after, label(each.candidate.mean), str(each.candidate.number)]
    return row if iteration is None else [after, str(iteration), *row[1:]]


def against(scored: Scored, name: str) -> Chart:
    """Return a chart of the scores against one parameter: numbers on the horizontal axis, names on the vertical one."""
    values = [each.candidate.parameters.get(name) for each in scored.candidates]
    axis = ParameterAxis.of(name, values)
    ranks = scored.drawn(MAX_POINTS)
    if axis.numeric is not None:
        frame, shown = Frame(), "The horizontal axis is logarithmic." if axis.numeric.log else ""
        points = [
            (frame.x(axis.place(values[rank])), frame.y(scored.scale.place(scored.candidates[rank].candidate.mean)))
            for rank in ranks
        ]
        axes = [frame.y_axis(scored.scale.ticks()), frame.x_axis(axis.ticks(), name)]
    else:
        frame, shown = Frame(height=54 + 24 * len(axis.slots), left=112), ""
        points = [
            (
                frame.x(scored.scale.place(scored.candidates[rank].candidate.mean)),
                frame.y(axis.place(values[rank])) + (rank * 0.618 % 1 - 0.5) * 10,
            )
            for rank in ranks
        ]
        axes = [frame.y_axis(axis.ticks(), length=16), frame.x_axis(scored.scale.ticks(4), scored.name)]
    svg = frame.svg(f"{scored.name} against {name}", *axes, *scored.dots(ranks, points))
    rows = _groups(scored, axis, values)
    heading = [name, "candidates", "best", "median"]
    return Chart(
        name,
        (shown + scored.edge_note + scored.sample_note(ranks)).strip(),
        svg,
        table(heading, rows, f"{scored.name} by {name}"),
    )


def _groups(scored: Scored, axis: ParameterAxis, values: Sequence[str | None]) -> list[list[str]]:
    """Return table rows that group the candidates by ranges of a number, or by name."""
    groups: dict[str, list[float]] = {}
    ranges: dict[int, list[tuple[float, float]]] = {}
    for each, value in zip(scored.candidates, values, strict=True):
        slot = axis.slot(value)
        if slot is not None:
            groups.setdefault(slot, []).append(each.candidate.mean)
        elif axis.numeric is not None and value is not None:
            index = min(BINS - 1, int(axis.numeric.place(float(value)) * BINS))
            ranges.setdefault(index, []).append((float(value), each.candidate.mean))
    rows = []
    for _, group in sorted(ranges.items()):
        low, high = min(group)[0], max(group)[0]
        named = label(low) if low == high else f"{label(low)} to {label(high)}"
        rows.append([named, *_best_and_median([score for _, score in group])])
    return rows + [[slot, *_best_and_median(groups[slot])] for slot in axis.slots if slot in groups]


def _best_and_median(scores: Sequence[float]) -> list[str]:
    ordered = sorted(scores)
    return [str(len(ordered)), label(ordered[-1]), label(ordered[len(ordered) // 2])]


def parallel_coordinates(scored: Scored) -> Chart | None:
    """Return a chart with each candidate as a line through one axis per parameter, the score last."""
    names = scored.search.varying[: MAX_AXES - 1]
    if len(names) < 2 or len(scored.candidates) < 3:
        return None
    axes = {
        name: ParameterAxis.of(name, [each.candidate.parameters.get(name) for each in scored.candidates])
        for name in names
    }
    width = max(760.0, 120.0 * (len(names) + 1))
    frame = Frame(width=width, height=320, left=70, right=40, top=36, bottom=14)
    places = [frame.x(index / len(names)) for index in range(len(names) + 1)]
    parts: list[Html | None] = []
    ranks = scored.drawn(MAX_LINES)
    for rank in ranks:
        each = scored.candidates[rank]
        points = [
            (x, frame.y(axis.place(each.candidate.parameters.get(name))))
            for x, (name, axis) in zip(places, axes.items(), strict=False)
        ]
        points.append((places[-1], frame.y(scored.scale.place(each.candidate.mean))))
        best = rank < scored.highlighted
        class_ = "line-mark" if best else f"line s{shade(rank, len(scored.candidates))}"
        parts.append(line(points, class_, scored.describe(rank) if best else ""))
    ticks = [axis.ticks() for axis in axes.values()] + [scored.scale.ticks()]
    for x, title, marks in zip(places, [*names, scored.name], ticks, strict=True):
        parts.append(_vertical_axis(frame, x, title, marks))
    shown = (
        f"Each line is a candidate; the {scored.highlighted} best are thick; hover over one for its details."
        f" The last axis is the {scored.name}."
    )
    hidden = len(scored.search.varying) - len(names)
    shown += f" {hidden} more parameters are not shown." if hidden else ""
    svg = frame.svg(f"Parallel coordinates of {len(names)} parameters and the {scored.name}", *parts)
    return Chart("Parallel coordinates", shown + scored.edge_note + scored.sample_note(ranks), svg, width=width)


def _vertical_axis(frame: Frame, x: float, title: str, ticks: Sequence[Tick]) -> Html:
    parts = [
        line([(x, frame.y(0)), (x, frame.y(1))], "axis"),
        text(x, 18, shortened(title, 17), anchor="middle", class_="title"),
    ]
    parts += [
        text(x - 5, frame.y(tick.place) + 4, shortened(tick.label, 10), anchor="end", class_="halo") for tick in ticks
    ]
    return Html("".join(parts))


def spread(scored: Scored) -> Chart | None:
    """Return a chart of the scores of each split for the best candidates."""
    best = [each for each in scored.candidates if len(each.candidate.scores) > 1][:MAX_SPREAD_ROWS]
    if not best:
        return None
    frame = Frame(height=58 + 20 * len(best), left=44)
    finite = [score for each in best for score in each.candidate.scores.values() if math.isfinite(score)]
    scale = NumericScale.of(finite, log=False)
    parts: list[Html | None] = [frame.x_axis(scale.ticks(4), scored.name.removeprefix("mean ") + " of a split")]
    rows = []
    for rank, each in enumerate(best):
        y = frame.y(1 - (rank + 0.5) / len(best))
        scores = [score for score in each.candidate.scores.values() if math.isfinite(score)]
        low, high = frame.x(scale.place(min(scores))), frame.x(scale.place(max(scores)))
        mean = frame.x(scale.place(each.candidate.mean))
        parts += [
            text(frame.left - 6, y + 4, f"#{rank + 1}", anchor="end"),
            line([(low, y), (high, y)], "range"),
            dots([(frame.x(scale.place(score)), y) for score in scores], "s3"),
            line([(mean, y - 7), (mean, y + 7)], "line-best", f"#{rank + 1}: mean {label(each.candidate.mean)}"),
        ]
        row = [f"#{rank + 1}", label(each.candidate.mean), label(min(scores)), label(max(scores))]
        rows.append([*row, f"{each.candidate.spread:.2g}", str(each.candidate.number)])
    title = f"Spread over the splits of the best {len(best)}"
    shown = "Dots are splits, the vertical line is their mean. If ranges overlap, the order is not clear."
    svg = frame.svg(title, *parts)
    return Chart(title, shown, svg, table(["rank", "mean", "lowest", "highest", "±", "candidate"], rows, title))
