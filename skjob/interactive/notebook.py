"""A cluster and the work on it shown in a notebook, as outputs that change in their place.

A card shows the cluster, from its start to its end. A cell that makes Parallel calls gets an output with their
progress. Both are updated by a thread, as `update_display_data` messages, which need neither widgets nor comms; where a
frontend has no HTML it shows their text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from skjob.engine.events import CallFinished, CallStarted, Event
from skjob.interactive.html import card, card_text, progress, progress_text
from skjob.interactive.observer import ClusterState
from skjob.run.live.state import RunState
from skjob.utils.periodic import PeriodicThread

DRAW_SECONDS = 0.5
MAX_DRAW_SECONDS = 5.0
MAX_DRAWING_SHARE = 0.05
"""The share of one core that drawing may take: with many candidates it is drawn less often."""

Bundle = dict[str, str]


def is_kernel(shell: Any) -> bool:
    """Return whether a shell of IPython's is the kernel of a notebook."""
    return getattr(shell, "kernel", None) is not None


@dataclass
class _Cell:
    """What the calls of one cell have done, and lines that came meanwhile."""

    state: RunState = field(default_factory=RunState)
    notes: list[str] = field(default_factory=list)

    def bundle(self) -> Bundle:
        """Return the progress of the cell as it is now."""
        now = time.time()
        return {
            "text/html": progress(self.state, now, self.notes),
            "text/plain": progress_text(self.state, now, self.notes),
        }


class _Output:
    """An output of the notebook that shows what `draw` returns."""

    def __init__(self, draw: Callable[[], Bundle], cell: _Cell | None = None) -> None:
        from IPython.display import display

        self.cell = cell
        self._draw = draw
        self._shown = draw()
        self._handle = display(self._shown, raw=True, display_id=True)

    def refresh(self) -> None:
        """Show what has changed."""
        content = self._draw()
        if content != self._shown:
            self._shown = content
            self._handle.update(content, raw=True)


class NotebookView:
    """Shows a cluster in the notebook whose kernel this process is (`View`)."""

    wants_events = True

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._lock = threading.RLock()
        self._cards: list[_Output] = []
        self._progress: list[_Output] = []
        self._cell: _Cell | None = None
        self._cell_of: dict[int, _Cell] = {}
        self._is_due = False
        self._next = 0.0
        self._thread = PeriodicThread("skjob-notebook", self._refresh_if_due)
        self.show_card()
        self._thread.start(DRAW_SECONDS)

    @property
    def cell_has_calls(self) -> bool:
        """Whether the current cell has made calls."""
        return self._cell is not None

    def show_card(self) -> None:
        """Show the cluster below the current cell, from now on as it changes."""
        with self._lock:
            self._cards.append(_Output(self.bundle))

    def bundle(self) -> Bundle:
        """Return the cluster as it is now."""
        return {"text/html": card(self._state), "text/plain": card_text(self._state)}

    def note(self, line: str) -> None:
        """Show a line with the progress of the current cell; the card has it too."""
        with self._lock:
            if self._cell is not None:
                self._cell.notes.append(line)
            self._is_due = True

    def changed(self) -> None:
        """Take over what the progress of a cell shows of its cluster."""
        with self._lock:
            if self._cell is not None:
                self._take_over(self._cell)
            self._is_due = True

    def event(self, event: Event) -> None:
        """Add an event to the progress of the cell that has made the call; the first one shows that."""
        with self._lock:
            cell = self._cell_of.get(event.call) or self._cell
            if cell is None:
                cell = self._cell = _Cell()
                self._take_over(cell)
            if isinstance(event, CallStarted):
                self._cell_of[event.call] = cell
            elif isinstance(event, CallFinished):
                self._cell_of.pop(event.call, None)
            is_new = not cell.state.searches.calls
            cell.state.add(event)
            if is_new and cell.state.searches.calls:
                self._progress.append(_Output(cell.bundle, cell))
            self._is_due = True

    def begin_cell(self) -> None:
        """Give the calls of the next cell an output of their own. What goes on from earlier cells is still updated."""
        with self._lock:
            self._cell = None
            going_on = [*self._cell_of.values()]
            self._progress = [each for each in self._progress if any(each.cell is cell for cell in going_on)]

    def refresh(self) -> None:
        """Show what has changed."""
        with self._lock, suppress(Exception):  # the kernel may be ending
            self._is_due = False
            for output in (*self._cards, *self._progress):
                output.refresh()

    def close(self) -> None:
        """Show the last state, and change nothing from then on."""
        self._thread.stop()
        self.refresh()

    def _refresh_if_due(self) -> None:
        began = time.monotonic()
        if began < self._next or not (self._is_due or self._cell_of):
            return
        self.refresh()
        spent = time.monotonic() - began
        self._next = began + min(spent / MAX_DRAWING_SHARE, MAX_DRAW_SECONDS)

    def _take_over(self, cell: _Cell) -> None:
        if self._state.workers is not None:
            cell.state.set_workers(self._state.workers)
        if self._state.cost is not None:
            cell.state.set_cost(self._state.cost)
