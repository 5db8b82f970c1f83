"""Render rich renderables into lines of text with escape sequences for their styles."""

from __future__ import annotations

import io
from typing import Literal

from rich.console import Console, RenderableType

COLOURS: Literal["standard"] = "standard"
"""The 16 colours that every terminal has and each user's theme defines."""

_ASCII = str.maketrans({"±": "~", "…": "~", "└": "`", "─": "-", "━": "=", "╸": "-", "╺": "-"})


class _Output(io.StringIO):
    """Text in memory for a terminal with some encoding, so that rich uses only characters that it has."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def to_lines(content: RenderableType, width: int, height: int, *, colour: bool, encoding: str = "utf-8") -> list[str]:
    """Return at most `height` lines of at most `width` columns."""
    output = _Output(encoding)
    console = Console(
        file=output, width=width, height=height, force_terminal=True, color_system=COLOURS if colour else None,
        no_color=not colour, legacy_windows=False, highlight=False, markup=False, emoji=False, _environ={},
    )  # fmt: skip
    console.print(content, crop=True, no_wrap=True, overflow="crop")
    lines = output.getvalue().splitlines()[:height]
    if not encoding.lower().startswith("utf"):
        lines = [line.translate(_ASCII) for line in lines]
    return lines
