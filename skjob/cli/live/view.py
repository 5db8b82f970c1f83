"""Draw a run's state at the bottom of the terminal, twice a second, while the program leaves the terminal free.

The view steps aside while a full-screen program, a debugger's prompt or a password prompt uses the terminal, and while
the run is stopped by Ctrl-Z or in the background.
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
from skjob.cli.live.terminal import Terminal
from skjob.cli.live.watchdog import Watchdog
from skjob.run.live.state import RunState
from skjob.utils.periodic import PeriodicThread

CHECK_SECONDS = 0.05
"""Seconds between two checks of the terminal, within which the view steps aside."""
DRAW_SECONDS = 0.5
MAX_DRAW_SECONDS = 5.0
REPAINT_SECONDS = 2.0
"""Seconds after which unchanged lines are drawn again: the program may have cleared the screen."""
RETURN_SECONDS = 1.0
"""Seconds that the terminal must be free before the view returns: a debugger's prompt may come back at once."""
MAX_SKIP_SECONDS = 3.0
"""Maximum seconds by which a program that writes without pauses delays a redraw."""
MAX_DRAWING_SHARE = 0.05
"""Maximum share of one core for drawing: with many candidates, drawing is less frequent."""
ENDING_TIMEOUT = 5.0

Render = Callable[[Size], Sequence[str]]


class Surface(Protocol):
    """What the view needs of a `Terminal`."""

    @property
    def size(self) -> Size: ...

    @property
    def is_free(self) -> bool: ...

    def write(self, text: str) -> bool: ...

    def request_redraw(self) -> None: ...


class Drawing:
    """Decides at each check whether to draw, to step aside or to return. `now` is monotonic time. Thread-safe."""

    def __init__(self, surface: Surface, render: Render, pause: Callable[[], bool]) -> None:
        self._surface = surface
        self._render = render
        self._pause = pause
        self._lock = threading.RLock()  # the handler of Ctrl-Z may interrupt a thread that holds it
        self._open = True
        self._shown: Size | None = None
        self._lines: list[str] = []
        self._height = 0
        self._free_since: float | None = None
        self._next = -1.0
        self._drawn = -1.0
        self._was_aside = False

    def check(self, now: float) -> None:
        """Draw, step aside or return, whichever is due."""
        with self._lock:
            if not self._open:
                return
            size = self._surface.size
            if not (size.fits and self._surface.is_free):
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
            if self._was_aside and self._surface.is_free:
                # The lines were erased on a full-screen program's alternate screen, not on the one that is visible
                # again.
                self._surface.write(screen.leave())
            self._erase()

    def show(self) -> None:
        """Draw at the next check."""
        with self._lock:
            self._open, self._was_aside, self._free_since = True, False, None

    def _step_aside(self) -> None:
        self._free_since = None
        if self._shown is not None:
            self._was_aside = True
            self._erase()
            # The program that took the terminal may have drawn while the scroll region was still set.
            self._surface.request_redraw()

    def _erase(self) -> None:
        if self._shown is not None:
            self._surface.write(screen.leave())
            self._shown, self._height = None, 0

    def _draw(self, size: Size, now: float) -> None:
        began = time.monotonic()
        lines = [*self._render(size)][: size.max_height]
        render_seconds = time.monotonic() - began
        self._next = now + min(max(DRAW_SECONDS, render_seconds / MAX_DRAWING_SHARE), MAX_DRAW_SECONDS)
        # The height only grows: each change scrolls the program's output.
        height = min(max(len(lines), self._height), size.max_height)
        lines += [""] * (height - len(lines))
        same_place = size == self._shown and height == self._height
        if same_place and lines == self._lines and now - self._drawn < REPAINT_SECONDS:
            return
        if not self._pause() and self._shown is not None and now - self._drawn < MAX_SKIP_SECONDS:
            self._next = now
            return
        if not self._surface.is_free:
            return
        if self._surface.write(screen.redraw(size, lines) if same_place else screen.enter(size, lines)):
            self._shown, self._lines, self._height, self._drawn = size, lines, height, now
            self._was_aside = False


class LiveView:
    """Live view of a run on a terminal, from `start` to `close`."""

    def __init__(self, name: str, state: RunState, *, colour: bool) -> None:
        self._terminal = Terminal(name)
        self._state = state
        self._colour = colour
        output = ChildrenOutput()
        pauses = OutputPauses(output, output.are_waiting)
        self._drawing = Drawing(self._terminal, self._render, pauses.wait)
        self._watchdog = Watchdog(self._terminal.descriptor)
        self._thread = PeriodicThread("skjob-live-view", self._check, first=self._prepare)
        self._handles_stop = False

    def start(self) -> None:
        """Start drawing."""
        # An ignored signal stays ignored, as in a shell without job control.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._stop_process)
            self._handles_stop = True
        self._thread.start(CHECK_SECONDS)

    def close(self) -> None:
        """Give the terminal back for good."""
        self._thread.stop()
        self._drawing.hide()
        self._thread.join(ENDING_TIMEOUT)
        if self._handles_stop:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self._watchdog.close()
        self._terminal.close()

    def _prepare(self) -> None:
        # A terminal may stop background processes that write to it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        # Importing rich takes a tenth of a second; the program does not wait for it here.
        import skjob.cli.live.content
        import skjob.cli.live.render  # noqa: F401

    def _check(self) -> None:
        try:
            self._drawing.check(time.monotonic())
        except BaseException:  # the thread ends and shows the error
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
        """Give the terminal back and stop, as Ctrl-Z requests; draw again once the process continues in the
        foreground."""
        self._drawing.hide()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(signal.SIGTSTP, self._stop_process)
        if not self._thread.stopped:
            self._drawing.show()
