"""Scales of charts: where a value is between 0 and 1, and which ticks an axis has. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

DECADES_FOR_LOG = 2.0
"""An axis is logarithmic if its values span at least so many powers of ten."""

MAX_CATEGORIES = 12
MISSING = "(not set)"
OTHERS = "(others)"

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at a place between 0 and 1."""

    place: float
    label: str


@dataclass(frozen=True)
class NumericScale:
    """Numbers from one to another, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[float], *, log: bool | None = None, margin: float = 0.04) -> NumericScale:
        """Return a scale that has room for all of the values; logarithmic, unless it is said, if they span decades."""
        known = [value for value in values if math.isfinite(value)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if log is None:
            log = low > 0 and math.log10(high / low) >= DECADES_FOR_LOG
        if log:
            room = margin * math.log10(high / low) if high > low else 0.5
            return cls(low / 10**room, high * 10**room, log=True)
        room = margin * (high - low) if high > low else (abs(low) * 0.1 or 1.0)
        return cls(low - room, high + room)

    def place(self, value: float) -> float:
        """Return where a value is: 0 at the lower end, 1 at the upper one, and not beyond them."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            at = (math.log10(value) - low) / (high - low) if value > 0 else 0.0
        else:
            at = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, at))

    def ticks(self, number: int = 5) -> list[Tick]:
        """Return about so many ticks at round numbers."""
        values = _log_ticks(self.low, self.high, number) if self.log else _linear_ticks(self.low, self.high, number)
        return [Tick(self.place(value), label(value)) for value in values]


def _linear_ticks(low: float, high: float, number: int) -> list[float]:
    rough = (high - low) / max(1, number)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [each * step for each in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, number: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [10.0**each for each in range(first, last + 1)]
    if len(powers) >= 2:
        return powers[:: max(1, math.ceil(len(powers) / number))]
    # Less than two decades: 1, 2 and 5 of each, and even numbers if there are none.
    finer = [factor * 10.0**each for each in range(first - 1, last + 2) for factor in (1, 2, 5)]
    within = [value for value in finer if low <= value <= high]
    return within if len(within) >= 2 else [value for value in _linear_ticks(low, high, number) if value > 0]


def label(value: float) -> str:
    """Return a number as a tick has it."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    return f"{value:.5g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def as_number(text: str) -> float | None:
    """Return the number that a parameter's text is; None for anything else, `nan`, `inf` and `True` among it."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class ParameterAxis:
    """An axis for the texts of a parameter: numbers on a scale, whatever is none in slots after it.

    A parameter of whose values half are no numbers has slots alone; the rarest of too many share one.
    """

    name: str
    numeric: NumericScale | None
    slots: Sequence[str]
    _numbers: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, name: str, values: Sequence[str | None]) -> ParameterAxis:
        """Return the axis for these values of a parameter; None is a candidate that does not set it."""
        counts = Counter(MISSING if value is None else value for value in values)
        numbers = {text: found for text in counts if (found := as_number(text)) is not None}
        texts = [text for text in counts if text not in numbers]
        if len(texts) >= len(numbers) or len(texts) > MAX_CATEGORIES // 2:
            kept = [text for text, _ in counts.most_common(MAX_CATEGORIES)]
            if len(counts) > MAX_CATEGORIES:
                kept = [*kept[: MAX_CATEGORIES - 1], OTHERS]
            return cls(name, None, sorted(kept, key=_order))
        return cls(name, NumericScale.of(numbers.values()), sorted(texts, key=_order), frozenset(numbers))

    @property
    def _numeric_part(self) -> float:
        """How much of the axis numbers have; each slot after them has as much as a twelfth of it."""
        return 1.0 if not self.slots else max(0.4, 1.0 - 0.12 * len(self.slots))

    def slot(self, value: str | None) -> str | None:
        """Return the name of the slot that a value is in; None if it is a number on the scale."""
        text = MISSING if value is None else value
        if self.numeric is not None and text in self._numbers:
            return None
        return text if text in self.slots else OTHERS

    def place(self, value: str | None) -> float:
        """Return where a value is between 0 and 1."""
        slot = self.slot(value)
        if slot is not None:
            return self._slot_place(self.slots.index(slot))
        assert self.numeric is not None  # noqa: S101 - else each value has a slot
        return self._numeric_part * self.numeric.place(float(value or 0))

    def _slot_place(self, index: int) -> float:
        first = self._numeric_part if self.numeric is not None else 0.0
        return first + (1.0 - first) * (index + 0.5) / len(self.slots)

    def ticks(self, number: int = 5) -> list[Tick]:
        """Return the ticks of the numbers, then those of the slots."""
        part = self._numeric_part
        numbers = [] if self.numeric is None else self.numeric.ticks(number)
        slots = [Tick(self._slot_place(index), slot) for index, slot in enumerate(self.slots)]
        return [*(Tick(each.place * part, each.label) for each in numbers), *slots]


def _order(text: str) -> tuple[bool, float, str]:
    found = as_number(text)
    return (found is None, found or 0.0, text)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the seconds of the unit in which a span of time is shown, and its name."""
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def sampled(items: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the items, at even distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(each * (len(items) - 1) / (most - 1))] for each in range(most)]
