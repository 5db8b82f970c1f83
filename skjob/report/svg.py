"""Build parts of charts as SVG: the frame with its axes, points, lines and bars. The page's style sets colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skjob.report.html import Html, joined, number, tag
from skjob.report.scales import Tick
from skjob.utils.text import shortened

SHADES = 6
"""Number of shades from the worst scores, `s0`, to the best, `s5`."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The area of a chart in which values are drawn, within its margins."""

    width: float = 360
    height: float = 240
    left: float = 54
    right: float = 12
    top: float = 10
    bottom: float = 44

    def x(self, place: float) -> float:
        """Return the horizontal coordinate of a position between 0 (left) and 1 (right)."""
        return self.left + place * (self.width - self.left - self.right)

    def y(self, place: float) -> float:
        """Return the vertical coordinate of a position between 0 (bottom) and 1 (top)."""
        return self.height - self.bottom - place * (self.height - self.top - self.bottom)

    def svg(self, label: str, *parts: Html | None) -> Html:
        """Return the chart. Screen readers read out `label` instead."""
        box = f"0 0 {number(self.width)} {number(self.height)}"
        return tag("svg", *parts, viewBox=box, role="img", aria_label=label)

    def x_axis(self, ticks: Iterable[Tick], title: str, *, length: int = 9) -> Html:
        """Return the horizontal axis at the bottom, with grid lines at its ticks."""
        bottom, parts = self.y(0), []
        for tick in ticks:
            x = self.x(tick.place)
            parts.append(tag("path", class_="grid", d=f"M{number(x)} {number(self.y(1))}V{number(bottom)}"))
            parts.append(_text(x, bottom + 14, shortened(tick.label, length), "middle"))
        parts.append(tag("path", class_="axis", d=f"M{number(self.x(0))} {number(bottom)}H{number(self.x(1))}"))
        if title:
            parts.append(_text((self.x(0) + self.x(1)) / 2, bottom + 32, shortened(title, 40), "middle", "title"))
        return joined(parts)

    def y_axis(self, ticks: Iterable[Tick], *, length: int = 8) -> Html:
        """Return the vertical axis at the left, with grid lines at its ticks."""
        parts = []
        for tick in ticks:
            y = self.y(tick.place)
            parts.append(tag("path", class_="grid", d=f"M{number(self.x(0))} {number(y)}H{number(self.x(1))}"))
            parts.append(_text(self.x(0) - 6, y + 4, shortened(tick.label, length), "end"))
        parts.append(tag("path", class_="axis", d=f"M{number(self.x(0))} {number(self.y(0))}V{number(self.y(1))}"))
        return joined(parts)


def _text(x: float, y: float, content: str, anchor: str, class_: str | None = None) -> Html:
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def label(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None) -> Html:
    """Return text at a position."""
    return _text(x, y, content, anchor, class_)


def dots(points: Sequence[Point], class_: str) -> Html | None:
    """Return points as one path, ten bytes per dot."""
    if not points:
        return None
    return tag("path", class_=f"dots {class_}", d="".join(f"M{number(x)} {number(y)}h0" for x, y in points))


def mark(x: float, y: float, title: str) -> Html:
    """Return a diamond with a tooltip: its shape, not only its colour, sets it apart."""
    return tag("path", tag("title", title), class_="mark", d=f"M{number(x)} {number(y - 5)}l5 5-5 5-5-5z")


def line(points: Sequence[Point], class_: str, title: str = "") -> Html:
    """Return a line through points."""
    first, *rest = points
    path = f"M{number(first[0])} {number(first[1])}" + "".join(f"L{number(x)} {number(y)}" for x, y in rest)
    return tag("path", tag("title", title) if title else None, class_=class_, d=path)


def steps(points: Sequence[Point], until: float, class_: str) -> Html | None:
    """Return a step line that keeps each point's height until the next one, and the last until a coordinate."""
    if not points:
        return None
    first, *rest = points
    path = f"M{number(first[0])} {number(first[1])}" + "".join(f"H{number(x)}V{number(y)}" for x, y in rest)
    return tag("path", class_=class_, d=f"{path}H{number(max(until, points[-1][0]))}")


def bar(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> Html:
    """Return a rectangle."""
    content = tag("title", title) if title else None
    return tag("rect", content, x=x, y=y, width=max(width, 0.5), height=height, class_=class_)


def shade(rank: int, number_of: int) -> int:
    """Return the shade for a rank among `number_of`; rank 0 is the best."""
    return SHADES - 1 - min(SHADES - 1, rank * SHADES // max(1, number_of))
