"""Fits that were finished before: found instead of done again, and kept the moment they are done.

Between a Parallel call and the store: which calls are fits of a kind that is kept, under which identity, and what is
told of it. What can't be identified is done as if there were no store.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class FinishedFits:
    """The fits of one run, in one store."""

    def __init__(self, address: str) -> None:
        self.address = address

    def begin_call(self, root: Path | None, data_key: Callable[[Any], str]) -> Any:
        """The fits of one Parallel call."""
        raise NotImplementedError
