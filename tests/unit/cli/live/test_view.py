"""Test when the live view draws, steps aside and returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skjob.cli.live import screen
from skjob.cli.live.pauses import BUSY_CHECKS, MAX_CHECKS, OutputPauses
from skjob.cli.live.screen import Size
from skjob.cli.live.view import (
    DRAW_SECONDS,
    MAX_SKIP_SECONDS,
    REPAINT_SECONDS,
    RETURN_SECONDS,
    Drawing,
)


class Surface:
    """A terminal that records what is written."""

    def __init__(self) -> None:
        self.size = Size(24, 80)
        self.is_free = True
        self.written: list[str] = []
        self.asked = 0

    def write(self, text: str) -> bool:
        self.written.append(text)
        return True

    def request_redraw(self) -> None:
        self.asked += 1


class Shown:
    """A drawing, its content, and its terminal."""

    def __init__(self) -> None:
        self.surface = Surface()
        self.lines = ["view", "a"]
        self.pauses = True
        self.drawing = Drawing(self.surface, lambda _: self.lines, lambda: self.pauses)

    def look(self, now: float) -> list[str]:
        """Return what is written at this time."""
        self.surface.written.clear()
        self.drawing.check(now)
        return [*self.surface.written]


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_it_draws_when_something_has_changed(shown: Shown) -> None:
    size = shown.surface.size
    assert shown.look(0.0) == [screen.enter(size, ["view", "a"])]
    shown.lines = ["view", "b"]
    assert shown.look(DRAW_SECONDS / 2) == []
    assert shown.look(DRAW_SECONDS) == [screen.redraw(size, ["view", "b"])]
    assert shown.look(2 * DRAW_SECONDS) == []


def test_it_draws_the_same_again_because_the_program_may_have_cleared_the_screen(shown: Shown) -> None:
    shown.look(0.0)
    assert shown.look(REPAINT_SECONDS - 0.1) == []
    assert shown.look(REPAINT_SECONDS + 0.5) == [screen.redraw(shown.surface.size, ["view", "a"])]


def test_it_grows_and_does_not_shrink(shown: Shown) -> None:
    shown.look(0.0)
    shown.lines = ["view", "a", "b"]
    assert shown.look(1.0) == [screen.enter(shown.surface.size, ["view", "a", "b"])]
    shown.lines = ["view"]
    assert shown.look(2.0) == [screen.redraw(shown.surface.size, ["view", "", ""])]


def test_another_size_is_drawn_at_once(shown: Shown) -> None:
    shown.look(0.0)
    shown.surface.size = Size(30, 50)
    assert shown.look(0.1) == [screen.enter(Size(30, 50), ["view", "a"])]


def test_a_terminal_that_is_too_small_is_left(shown: Shown) -> None:
    shown.look(0.0)
    shown.surface.size = Size(5, 80)
    assert shown.look(0.1) == [screen.leave()]
    assert shown.look(0.2) == []


def test_it_steps_aside_and_comes_back_when_the_terminal_has_been_free_for_a_while(shown: Shown) -> None:
    shown.look(0.0)
    shown.surface.is_free = False
    assert shown.look(1.0) == [screen.leave()]
    assert shown.surface.asked == 1
    shown.surface.is_free = True
    assert shown.look(2.0) == []
    shown.surface.is_free = False  # the next prompt of a debugger
    assert shown.look(2.5) == []
    shown.surface.is_free = True
    assert shown.look(3.0) == []
    assert shown.look(3.0 + RETURN_SECONDS) == [screen.enter(shown.surface.size, ["view", "a"])]
    assert shown.surface.asked == 1


def test_it_gives_the_terminal_back_once(shown: Shown) -> None:
    shown.look(0.0)
    shown.surface.written.clear()
    shown.drawing.hide()
    shown.drawing.hide()
    assert shown.surface.written == [screen.leave()]
    assert shown.look(9.0) == []
    shown.drawing.show()
    assert shown.look(9.1) == [screen.enter(shown.surface.size, ["view", "a"])]


def test_lines_that_were_left_below_a_full_screen_program_are_erased_at_the_end(shown: Shown) -> None:
    shown.look(0.0)
    shown.surface.is_free = False
    shown.look(1.0)
    shown.surface.is_free = True
    shown.surface.written.clear()
    shown.drawing.hide()
    assert shown.surface.written == [screen.leave()]


def test_what_was_never_shown_is_not_erased(shown: Shown) -> None:
    shown.surface.is_free = False
    assert shown.look(0.0) == []
    shown.drawing.hide()
    assert shown.surface.written == []
    assert shown.surface.asked == 0


def test_a_program_that_writes_without_a_pause_delays_a_redraw_but_not_for_ever(shown: Shown) -> None:
    shown.look(0.0)
    shown.lines, shown.pauses = ["view", "b"], False
    assert shown.look(1.0) == []
    assert shown.look(MAX_SKIP_SECONDS - 0.1) == []
    assert shown.look(MAX_SKIP_SECONDS + 0.1) == [screen.redraw(shown.surface.size, ["view", "b"])]


def test_a_pause_is_two_equal_counts() -> None:
    slept: list[float] = []
    counts = iter([1, 2, 2])
    assert OutputPauses(lambda: next(counts), lambda: True, slept.append).wait()
    assert len(slept) == 2
    growing = iter(range(1000))
    assert not OutputPauses(lambda: next(growing), lambda: True, slept.append).wait()
    assert len(slept) == 2 + MAX_CHECKS


def test_a_program_that_would_run_has_a_pause_only_after_a_while() -> None:
    slept: list[float] = []
    assert OutputPauses(lambda: 1, lambda: False, slept.append).wait()
    assert len(slept) == BUSY_CHECKS


def test_rich_is_imported_by_the_thread_that_draws_and_by_nothing_before() -> None:
    imported = (
        "import sys, skjob.cli.reporter, skjob.cli.live.view, skjob.cli.live.summary; print('rich' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
