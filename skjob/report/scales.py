"""Scales for charts: the position of a value between 0 and 1, and the ticks of an axis. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

DECADES_FOR_LOG = 2.0
"""Powers of ten that values must span for an axis to be logarithmic."""

MAX_CATEGORIES = 12
MISSING = "(not set)"
OTHERS = "(others)"

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at a position between 0 and 1."""

    place: float
    label: str


@dataclass(frozen=True)
class NumericScale:
    """A range of numbers, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[float], *, log: bool | None = None, margin: float = 0.04) -> NumericScale:
        """Return a scale with room for all of the values; by default it is logarithmic if they span decades."""
        known = [value for value in values if math.isfinite(value)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if log is None:
            log = low > 0 and math.log10(high / low) >= DECADES_FOR_LOG
        if log:
            space = margin * math.log10(high / low) if high > low else 0.5
            return cls(low / 10**space, high * 10**space, log=True)
        space = margin * (high - low) if high > low else (abs(low) * 0.1 or 1.0)
        return cls(low - space, high + space)

    def place(self, value: float) -> float:
        """Return the position of a value: 0 at the lower end, 1 at the upper one, never outside."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            position = (math.log10(value) - low) / (high - low) if value > 0 else 0.0
        else:
            position = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, position))

    def ticks(self, number: int = 5) -> list[Tick]:
        """Return about `number` ticks at round numbers."""
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
    """Format a number for a tick."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    return f"{value:.5g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def as_number(text: str) -> float | None:
    """Parse the text of a parameter as a number; None for anything else, including `nan`, `inf` and `True`."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class ParameterAxis:
    """An axis for the values of a parameter: numbers on a scale, other texts in slots after it.

    If at least half of the values are not numbers, there are only slots; if there are too many, the rarest share one.
    """

    name: str
    numeric: NumericScale | None
    slots: Sequence[str]
    _numbers: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, name: str, values: Sequence[str | None]) -> ParameterAxis:
        """Return the axis for a parameter's values; None stands for a candidate that does not set it."""
        counts = Counter(MISSING if value is None else value for value in values)
        numbers = {text: value for text in counts if (value := as_number(text)) is not None}
        texts = [text for text in counts if text not in numbers]
        if len(texts) >= len(numbers) or len(texts) > MAX_CATEGORIES // 2:
            names = [text for text, _ in counts.most_common(MAX_CATEGORIES)]
            if len(counts) > MAX_CATEGORIES:
                names = [*names[: MAX_CATEGORIES - 1], OTHERS]
            return cls(name, None, sorted(names, key=_order))
        return cls(name, NumericScale.of(numbers.values()), sorted(texts, key=_order), frozenset(numbers))

    @property
    def _numeric_part(self) -> float:
        """Share of the axis for numbers; each slot after them has about a twelfth."""
        return 1.0 if not self.slots else max(0.4, 1.0 - 0.12 * len(self.slots))

    def slot(self, value: str | None) -> str | None:
        """Return the name of the slot for a value; None if it is a number on the scale."""
        text = MISSING if value is None else value
        if self.numeric is not None and text in self._numbers:
            return None
        return text if text in self.slots else OTHERS

    def place(self, value: str | None) -> float:
        """Return the position of a value between 0 and 1."""
        slot = self.slot(value)
        if slot is not None:
            return self._slot_place(self.slots.index(slot))
        assert self.numeric is not None  # noqa: S101 - otherwise each value has a slot
        return self._numeric_part * self.numeric.place(float(value or 0))

    def _slot_place(self, index: int) -> float:
        first = self._numeric_part if self.numeric is not None else 0.0
        return first + (1.0 - first) * (index + 0.5) / len(self.slots)

    def ticks(self, number: int = 5) -> list[Tick]:
        """Return the ticks for numbers, then those for slots."""
        part = self._numeric_part
        numbers = [] if self.numeric is None else self.numeric.ticks(number)
        slots = [Tick(self._slot_place(index), slot) for index, slot in enumerate(self.slots)]
        return [*(Tick(each.place * part, each.label) for each in numbers), *slots]


def _order(text: str) -> tuple[bool, float, str]:
    value = as_number(text)
    return (value is None, value or 0.0, text)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit in which a time span is shown: its seconds and its name."""
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def sampled(items: Sequence[int], maximum: int) -> list[int]:
    """Return at most `maximum` items at even distances."""
    if len(items) <= maximum:
        return list(items)
    return [items[round(each * (len(items) - 1) / (maximum - 1))] for each in range(maximum)]
