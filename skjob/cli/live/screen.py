"""The control sequences that keep lines at the bottom of a terminal, below its scroll region (DECSTBM). Pure.

What the program writes scrolls above the lines and does not reach them. Each sequence here is written at once and
leaves the cursor, its colours and its character set as the program had them: it saves the cursor (DECSC), moves, and
restores it (DECRC). Two things of the program are lost where a redraw comes between two of its writes: a cursor that
it has saved itself, and, in terminals that do not save it (tmux), that a line is full to its last column.
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
"""What the terminfo entry of a terminal must have."""

MIN_ROWS = 8
"""A lower terminal is left to the program."""
MIN_COLUMNS = 20
MAX_HEIGHT = 14


@dataclass(frozen=True)
class Size:
    """Rows and columns of a terminal."""

    rows: int
    columns: int

    @property
    def fits(self) -> bool:
        """Whether there is room for lines of ours."""
        return self.rows >= MIN_ROWS and self.columns >= MIN_COLUMNS

    @property
    def max_height(self) -> int:
        """How many lines may be ours: half of the rows at most."""
        return min(MAX_HEIGHT, self.rows // 2)


def enter(size: Size, lines: Sequence[str]) -> str:
    """Set the scroll region above the lines, and draw them.

    It works wherever the cursor is, and however the terminal has moved its text when its size changed: whatever is
    below the line of the cursor goes. The cursor stays on its line; if this is too low, all lines scroll up first.
    """
    height = len(lines)
    return _reset_below(height) + redraw(size, lines)


def redraw(size: Size, lines: Sequence[str]) -> str:
    """Draw the lines again. The scroll region is set again too: a program may have reset it."""
    first = size.rows - len(lines) + 1
    drawn = "".join(
        f"\x1b[{first + number};1H{RESET_STYLE}{line}{RESET_STYLE}{ERASE_REST_OF_LINE}"
        for number, line in enumerate(lines)
    )
    return f"{SAVE}\x1b[1;{first - 1}r{drawn}{RESTORE}"


def leave() -> str:
    """Give all rows back to the program, and erase what is below the line of the cursor."""
    return _reset_below(1)


def _reset_below(height: int) -> str:
    """Reset the scroll region, make room for so many lines below the cursor, and erase them.

    Nothing tells where the cursor is: an answer of the terminal would go to the program's stdin. Moving down by
    `height` lines scrolls by as many as are missing at the bottom, moving up again returns to the cursor's own line.
    """
    return (
        f"{SAVE}{RESET_REGION}{RESTORE}"
        f"{DOWN_SCROLLING * height}\x1b[{height}A"
        f"{SAVE}{RESET_STYLE}\x1b[B\r{ERASE_BELOW}{RESTORE}"
    )
