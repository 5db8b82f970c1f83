"""Draws a run's state at the bottom of the terminal, twice a second, for as long as the program leaves that to it.

The view steps aside while a full-screen program, a debugger's prompt or a question for a password has the terminal,
and while the run is stopped by Ctrl-Z or in the background.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

from skjob.cli.live import screen
from skjob.cli.live.pauses import ChildrenOutput, OutputPauses
from skjob.cli.live.screen import Size
from skjob.cli.live.state import RunState
from skjob.cli.live.terminal import Terminal
from skjob.cli.live.watchdog import Watchdog
from skjob.utils.periodic import PeriodicThread

LOOK_SECONDS = 0.05
"""How soon the view steps aside."""
DRAW_SECONDS = 0.5
MAX_DRAW_SECONDS = 5.0
REPAINT_SECONDS = 2.0
"""After this time lines are drawn even if they are the same: the program may have cleared the screen."""
RETURN_SECONDS = 1.0
"""For how long the terminal must be free again before the view returns: a debugger's prompt comes back at once."""
MAX_SKIP_SECONDS = 3.0
"""For how long a program that writes without a pause delays a redraw."""
MAX_DRAWING_SHARE = 0.05
"""The share of one core that drawing may take: with many candidates it is drawn less often."""
ENDING_TIMEOUT = 5.0

Render = Callable[[Size], Sequence[str]]


class Surface(Protocol):
    """What the view needs of a `Terminal`."""

    @property
    def size(self) -> Size: ...

    @property
    def is_ours(self) -> bool: ...

    def write(self, text: str) -> bool: ...

    def ask_to_redraw(self) -> None: ...


class Drawing:
    """Decides at each look whether to draw, to step aside or to return. `now` is of a monotonic clock. Thread-safe."""

    def __init__(self, surface: Surface, render: Render, pause: Callable[[], bool]) -> None:
        self._surface = surface
        self._render = render
        self._pause = pause
        self._lock = threading.RLock()  # the handler of Ctrl-Z may interrupt whoever holds it
        self._open = True
        self._shown: Size | None = None
        self._lines: list[str] = []
        self._height = 0
        self._free_since: float | None = None
        self._next = -1.0
        self._drawn = -1.0
        self._was_aside = False

    def look(self, now: float) -> None:
        """Do what is due."""
        with self._lock:
            if not self._open:
                return
            size = self._surface.size
            if not (size.fits and self._surface.is_ours):
                self._step_aside()
                return
            if self._free_since is None:
                self._free_since = now
            if self._was_aside and now - self._free_since < RETURN_SECONDS:
                return
            if size == self._shown and now < self._next:
                return
            self._draw(size, now)

    def hide(self) -> None:
        """Give the terminal back until `show`."""
        with self._lock:
            self._open = False
            if self._was_aside and self._surface.is_ours:
                # The lines were erased on the other screen of a full-screen program, not on the one that is back.
                self._surface.write(screen.leave())
            self._erase()

    def show(self) -> None:
        """Draw at the next look."""
        with self._lock:
            self._open, self._was_aside, self._free_since = True, False, None

    def _step_aside(self) -> None:
        self._free_since = None
        if self._shown is not None:
            self._was_aside = True
            self._erase()
            # What has taken the terminal may have drawn while the region was still set.
            self._surface.ask_to_redraw()

    def _erase(self) -> None:
        if self._shown is not None:
            self._surface.write(screen.leave())
            self._shown, self._height = None, 0

    def _draw(self, size: Size, now: float) -> None:
        began = time.monotonic()
        lines = [*self._render(size)][: size.max_height]
        spent = time.monotonic() - began
        self._next = now + min(max(DRAW_SECONDS, spent / MAX_DRAWING_SHARE), MAX_DRAW_SECONDS)
        # It only grows: each change scrolls what the program has written.
        height = min(max(len(lines), self._height), size.max_height)
        lines += [""] * (height - len(lines))
        stays = size == self._shown and height == self._height
        if stays and lines == self._lines and now - self._drawn < REPAINT_SECONDS:
            return
        if not self._pause() and self._shown is not None and now - self._drawn < MAX_SKIP_SECONDS:
            self._next = now
            return
        if not self._surface.is_ours:
            return
        if self._surface.write(screen.redraw(size, lines) if stays else screen.enter(size, lines)):
            self._shown, self._lines, self._height, self._drawn = size, lines, height, now
            self._was_aside = False


class LiveView:
    """The view of a run on a terminal, from `start` to `close`."""

    def __init__(self, name: str, state: RunState, *, colour: bool) -> None:
        self._terminal = Terminal(name)
        self._state = state
        self._colour = colour
        pauses = OutputPauses(ChildrenOutput())
        self._drawing = Drawing(self._terminal, self._render, pauses.wait)
        self._watchdog = Watchdog(self._terminal.descriptor)
        self._thread = PeriodicThread("skjob-live-view", self._look, first=self._prepare)
        self._handles_stop = False

    def start(self) -> None:
        """Begin to draw."""
        # What is ignored stays so, as in a shell without job control.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._stop_process)
            self._handles_stop = True
        self._thread.start(LOOK_SECONDS)

    def close(self) -> None:
        """Give the terminal back, for good."""
        self._thread.stop()
        self._drawing.hide()
        self._thread.join(ENDING_TIMEOUT)
        if self._handles_stop:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self._watchdog.close()
        self._terminal.close()

    def _prepare(self) -> None:
        # In the background a terminal may stop whoever writes to it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        # rich takes a tenth of a second, for which the program does not wait.
        import skjob.cli.live.content
        import skjob.cli.live.render  # noqa: F401

    def _look(self) -> None:
        try:
            self._drawing.look(time.monotonic())
        except BaseException:  # ends the thread, which shows it
            self._drawing.hide()
            raise

    def _render(self, size: Size) -> list[str]:
        from skjob.cli.live.content import view
        from skjob.cli.live.render import to_lines

        height = size.max_height
        content = view(self._state, time.time(), size.columns, height)
        encoding = sys.stderr.encoding or "utf-8"
        return to_lines(content, size.columns, height, colour=self._colour, encoding=encoding)

    def _stop_process(self, number: int, _: FrameType | None) -> None:
        """Give the terminal back and stop, as Ctrl-Z asks; draw again once the process goes on in the foreground."""
        self._drawing.hide()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(signal.SIGTSTP, self._stop_process)
        if not self._thread.stopped:
            self._drawing.show()
