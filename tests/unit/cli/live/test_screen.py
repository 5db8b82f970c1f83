"""Test the lines at the bottom of a terminal, emulated by pyte."""

from __future__ import annotations

import pyte
import pytest

from skjob.cli.live.screen import Size, enter, leave, redraw

SIZE = Size(10, 20)
VIEW = ["-- view --", "a", "b"]


class Screen:
    """A terminal and its content."""

    def __init__(self, size: Size = SIZE) -> None:
        self.screen = pyte.Screen(size.columns, size.rows)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> None:
        """Print text as a program does: a terminal returns to the first column at each line end."""
        self._stream.feed(text.replace("\n", "\r\n"))

    def draw(self, text: str) -> None:
        """Write text of the view."""
        self._stream.feed(text)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]


def test_a_program_scrolls_above_the_lines() -> None:
    screen = Screen()
    screen.draw(enter(SIZE, VIEW))
    for number in range(30):
        screen.write(f"line {number}\n")
    screen.write("half")
    assert screen.lines == [*(f"line {number}" for number in range(24, 30)), "half", *VIEW]


@pytest.mark.parametrize("before", range(12))
def test_the_cursor_stays_on_its_line_wherever_it_is(before: int) -> None:
    screen = Screen()
    for number in range(before):
        screen.write(f"line {number}\n")
    screen.write("half ")
    screen.draw(enter(SIZE, VIEW))
    screen.write("and half")
    text = [*(f"line {number}" for number in range(before)), "half and half"]
    assert [line for line in screen.lines if line] == [*text[-7:], *VIEW]
    screen.draw(leave())
    screen.write("!\nend")
    assert [line for line in screen.lines if line] == [*text[-7:-1], "half and half!", "end"]


def test_colours_stay_the_programs() -> None:
    screen = Screen()
    screen.write("\x1b[31mre")
    screen.draw(enter(SIZE, ["\x1b[1;36mview", "a", "b"]))
    screen.draw(redraw(SIZE, ["\x1b[1;36mview", "a", "b"]))
    screen.write("d")
    assert [screen.screen.buffer[0][at].fg for at in range(3)] == ["red", "red", "red"]
    assert screen.screen.buffer[7][0].fg == "cyan"
    screen.draw(leave())
    screen.write("!")
    assert screen.screen.buffer[0][3].fg == "red"


def test_a_bar_that_has_returned_to_its_first_column_stays() -> None:
    screen = Screen()
    screen.write("42 %|####    |\r")
    screen.draw(enter(SIZE, VIEW))
    assert screen.lines[0] == "42 %|####    |"
    screen.draw(leave())
    assert screen.lines[0] == "42 %|####    |"


@pytest.mark.parametrize("resets", ["\x1b[r", "\x1b[2J", "\x1b[2;5r"])
def test_a_redraw_mends_what_a_program_has_reset(resets: str) -> None:
    screen = Screen()
    screen.draw(enter(SIZE, VIEW))
    screen.draw(f"\x1b7{resets}\x1b8")
    screen.draw(redraw(SIZE, VIEW))
    screen.write("\n".join(map(str, range(30))))
    assert screen.lines[5:] == ["28", "29", *VIEW]


def test_more_lines_scroll_the_program_up() -> None:
    screen = Screen()
    screen.draw(enter(SIZE, VIEW))
    screen.write("\n".join(map(str, range(30))))
    screen.draw(enter(SIZE, [*VIEW, "c", "d"]))
    assert screen.lines == ["25", "26", "27", "28", "29", *VIEW, "c", "d"]


@pytest.mark.parametrize("size", [Size(8, 20), Size(14, 20), Size(10, 30)])
def test_another_size(size: Size) -> None:
    screen = Screen()
    screen.draw(enter(SIZE, VIEW))
    screen.write("\n".join(map(str, range(30))))
    screen.screen.resize(size.rows, size.columns)
    screen.draw(enter(size, VIEW))
    screen.write("\nend")
    shown = [line for line in screen.lines if line]
    assert shown[-5:] == ["29", "end", *VIEW]
    assert shown.count("a") == 1
    assert screen.lines[-3:] == VIEW


def test_half_of_the_rows_at_most_are_ours() -> None:
    assert (Size(24, 80).max_height, Size(100, 80).max_height, Size(9, 80).max_height) == (12, 14, 4)
    assert [Size(7, 80).fits, Size(8, 19).fits, Size(0, 0).fits, Size(8, 20).fits] == [False, False, False, True]
