"""A cluster shown as lines on stderr: in a script, and in an interpreter, which has no place that could change."""

from __future__ import annotations

import sys

from skjob.engine.events import Event
from skjob.interactive.html import card_text
from skjob.interactive.observer import ClusterState


class LinesView:
    """Writes what the user should read, and nothing else (`View`)."""

    wants_events = False
    cell_has_calls = False

    def __init__(self, state: ClusterState) -> None:
        self._state = state

    def note(self, line: str) -> None:
        """Write a line."""
        write(line)

    def changed(self) -> None:
        """Write nothing."""

    def event(self, event: Event) -> None:
        """Write nothing."""

    def begin_cell(self) -> None:
        """Write nothing."""

    def refresh(self) -> None:
        """Write nothing."""

    def show_card(self) -> None:
        """Write the cluster as an interpreter shows a value."""
        print(card_text(self._state))

    def close(self) -> None:
        """Write nothing."""


def write(line: str) -> None:
    """Write a line of skjob's own."""
    print(f"skjob: {line}", file=sys.stderr)
