"""Tables on stdout: aligned columns under a heading; plain text, so that other programs can read it too."""

from __future__ import annotations

from collections.abc import Sequence

from skjob.utils.text import columns, visible


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its heading first.

    Control characters, which a terminal would act on, are made visible: other users may have written the cells.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
