"""Test the terminal: whether there is one, whether it is free, and that it is restored."""

from __future__ import annotations

import curses
import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest
from clocks import wait_for

from skjob.cli.live.pauses import ChildrenOutput
from skjob.cli.live.screen import Size, leave
from skjob.cli.live.terminal import Terminal, find_terminal
from skjob.cli.live.watchdog import Watchdog

XTERM = {"TERM": "xterm-256color"}


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the user's, and that of the processes on it."""
    leader, follower = pty.openpty()
    yield leader, follower
    os.close(leader)
    os.close(follower)


@pytest.fixture
def stream(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A stream that is connected to the terminal."""
    monkeypatch.setenv("TERM", XTERM["TERM"])
    resize(ends[0], 24, 80)
    with open(ends[1], "w", closefd=False) as stream:
        yield stream


def resize(leader: int, rows: int, columns: int) -> None:
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_a_terminal_is_found(stream: TextIO) -> None:
    assert find_terminal(stream, XTERM) == os.ttyname(stream.fileno())


@pytest.mark.parametrize("environment", [{}, {"TERM": ""}, {"TERM": "dumb"}, {**XTERM, "CI": "true"}])
def test_there_is_no_view_where_nobody_looks_or_the_terminal_cannot(
    stream: TextIO, environment: dict[str, str]
) -> None:
    assert find_terminal(stream, environment) is None


def test_there_is_no_view_in_a_file() -> None:
    assert find_terminal(io.StringIO(), XTERM) is None


def test_a_terminal_that_is_too_small_is_not_used(ends: tuple[int, int], stream: TextIO) -> None:
    resize(ends[0], 7, 80)
    assert find_terminal(stream, XTERM) is None


def test_a_terminal_without_a_scroll_region_is_not_used(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curses, "setupterm", lambda **_: None)
    monkeypatch.setattr(curses, "tigetstr", lambda name: None if name == "csr" else b"x")
    assert find_terminal(stream, XTERM) is None


def test_its_size_and_what_is_written(ends: tuple[int, int]) -> None:
    leader, follower = ends
    terminal = Terminal(os.ttyname(follower))
    resize(leader, 30, 50)
    assert terminal.size == Size(30, 50)
    assert terminal.write("one\x1b8")
    assert os.read(leader, 100) == b"one\x1b8"
    terminal.close()
    terminal.close()
    assert not terminal.write("two")
    assert terminal.size == Size(0, 0)
    assert not terminal.is_free


@pytest.mark.parametrize("flag", [termios.ICANON, termios.ECHO])
def test_it_is_the_programs_without_echo_or_lines(ends: tuple[int, int], flag: int) -> None:
    """As for a password prompt or a full-screen program."""
    terminal = Terminal(os.ttyname(ends[1]))
    assert terminal.is_free
    mode = termios.tcgetattr(ends[1])
    mode[3] &= ~flag
    termios.tcsetattr(ends[1], termios.TCSANOW, mode)
    assert not terminal.is_free
    mode[3] |= flag
    termios.tcsetattr(ends[1], termios.TCSANOW, mode)
    assert terminal.is_free
    terminal.close()


def test_in_the_background_it_is_not_ours(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(os.ttyname(ends[1]))
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    assert not terminal.is_free
    terminal.close()


def test_the_watchdog_gives_the_terminal_back_if_nobody_has() -> None:
    """Its pipe closes without a message, as when skjob is killed."""
    read, write = os.pipe()
    watchdog = Watchdog(write)
    os.close(write)
    process = watchdog._process
    assert process.stdin is not None
    process.stdin.close()
    with os.fdopen(read, "rb") as shown:
        assert shown.read() == leave().encode()
    process.wait()


def test_the_watchdog_writes_nothing_if_it_is_told_so() -> None:
    read, write = os.pipe()
    watchdog = Watchdog(write)
    os.close(write)
    watchdog.close()
    with os.fdopen(read, "rb") as shown:
        assert shown.read() == b""


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="only Linux counts")  # noqa: PTH110
def test_what_children_write_is_counted() -> None:
    import subprocess

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        written = ChildrenOutput()
        before = written()
        child.stdin.write(b"x" * 1000)
        child.stdin.flush()
        assert child.stdout.read(1000) == b"x" * 1000
        assert written() - before >= 1000
        wait_for(written.are_waiting)  # for more input
        child.stdin.close()
