"""Show text that a program, a worker or another user wrote, so that nothing acts on it: no terminal, no browser.
Lists and counts within a sentence.

Parameters, error messages, names and logs are text everywhere. A terminal acts on control characters (colours, the
cursor, its title, the clipboard), and characters that turn the direction of writing make a line read as another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import category, east_asian_width

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return the text with each character that cannot be seen in its place as Python writes it: `\x1b`, `\u202e`.

    `lines` keeps line breaks and tabs, and drops colours, for text of several lines.
    """
    if text.isprintable():
        return text
    if lines:
        text = _COLOURS.sub("", text).replace("\r\n", "\n")
    kept = "\n\t" if lines else ""
    return "".join(
        sign if sign.isprintable() or sign in kept or category(sign) == "Zs" else _as_python_writes_it(sign)
        for sign in text
    )


def _as_python_writes_it(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def shortened(text: str, length: int) -> str:
    """Return the text with at most so many characters, the last of them `…` if some are missing."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(sign) in ("Mn", "Me") else 2 if east_asian_width(sign) in ("W", "F") else 1 for sign in text
    )


def listed(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: `a, b and c`. There must be one."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def counts(**numbers: int | None) -> list[str]:
    """Return each number that is not 0 with its word: `40 reused`, `2 failed`."""
    return [f"{number} {word}" for word, number in numbers.items() if number]
