"""Build the control sequences that keep lines at the bottom of a terminal, below its scroll region (DECSTBM). Pure.

The program's output scrolls above the lines and does not reach them. Each sequence here is written at once and leaves
the cursor, its colours and its character set as the program had them: it saves the cursor (DECSC), moves, and restores
it (DECRC). If a redraw comes between two of the program's writes, two things are lost: a cursor that the program has
saved itself, and, in terminals that do not save it (tmux), the state of a line that is full to its last column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAVE = "\x1b7"
RESTORE = "\x1b8"
RESET_REGION = "\x1b[r"
RESET_STYLE = "\x1b[0m"
DOWN_SCROLLING = "\x1bD"
ERASE_REST_OF_LINE = "\x1b[K"
ERASE_BELOW = "\x1b[J"

REQUIRED = ("csr", "sc", "rc", "cup", "el", "ed", "ind")
"""Capabilities that the terminfo entry of a terminal must have."""

MIN_ROWS = 8
"""A terminal with fewer rows is left to the program."""
MIN_COLUMNS = 20
MAX_HEIGHT = 14


@dataclass(frozen=True)
class Size:
    """Rows and columns of a terminal."""

    rows: int
    columns: int

    @property
    def fits(self) -> bool:
        """Whether there is space for the view's lines."""
        return self.rows >= MIN_ROWS and self.columns >= MIN_COLUMNS

    @property
    def max_height(self) -> int:
        """Maximum number of the view's lines: at most half of the rows."""
        return min(MAX_HEIGHT, self.rows // 2)


def enter(size: Size, lines: Sequence[str]) -> str:
    """Set the scroll region above the lines, and draw them.

    This works wherever the cursor is, and however the terminal has moved its text when its size changed: everything
    below the cursor's line is erased. The cursor stays on its line; if that is too low, all lines scroll up first.
    """
    height = len(lines)
    return _reset_below(height) + redraw(size, lines)


def redraw(size: Size, lines: Sequence[str]) -> str:
    """Draw the lines again, and set the scroll region again: a program may have reset it."""
    first = size.rows - len(lines) + 1
    drawn = "".join(
        f"\x1b[{first + number};1H{RESET_STYLE}{line}{RESET_STYLE}{ERASE_REST_OF_LINE}"
        for number, line in enumerate(lines)
    )
    return f"{SAVE}\x1b[1;{first - 1}r{drawn}{RESTORE}"


def leave() -> str:
    """Give all rows back to the program, and erase everything below the cursor's line."""
    return _reset_below(1)


def _reset_below(height: int) -> str:
    """Reset the scroll region, make space for `height` lines below the cursor, and erase them.

    The cursor's position is unknown: the terminal's answer to a query would go to the program's stdin. Moving down by
    `height` lines scrolls by as many as are missing at the bottom; moving up again returns to the cursor's own line.
    """
    return (
        f"{SAVE}{RESET_REGION}{RESTORE}"
        f"{DOWN_SCROLLING * height}\x1b[{height}A"
        f"{SAVE}{RESET_STYLE}\x1b[B\r{ERASE_BELOW}{RESTORE}"
    )
