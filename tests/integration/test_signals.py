"""A signal reaches the program exactly once: from a terminal, to skjob alone, or to the whole process group."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_runs import user_environment
from waiting import DEADLINE

Run = Callable[..., "subprocess.Popen[str]"]

# Counts interrupts for two seconds after the first one, which may arrive before the print returns.
COUNTING = f"""
    import time
    interrupts, end, reported = 0, time.monotonic() + {DEADLINE}, False
    while time.monotonic() < end:
        try:
            if not reported:
                reported = True
                print("counting", flush=True)
            time.sleep(0.1)
        except KeyboardInterrupt:
            interrupts += 1
            end = min(end, time.monotonic() + 2)
    print(interrupts, "interrupts", flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Run]:
    """Starts a run in a new session, optionally with a terminal, and waits until it counts interrupts."""
    (tmp_path / "train.py").write_text(textwrap.dedent(COUNTING))
    command = [sys.executable, "-m", "skjob", "run", "--on", "local", "--workers", "1", "train.py"]
    started: list[subprocess.Popen[str]] = []

    def start(**options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=user_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, **({"stdin": subprocess.DEVNULL} | options),
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "counting\n"
        return process

    yield start
    for process in started:
        with process:
            if process.poll() is None:
                process.terminate()


def _to_skjob(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def _to_its_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("interrupt", [_to_skjob, _to_its_group])
def test_program_without_a_terminal_is_interrupted_once(
    start: Run, interrupt: Callable[[subprocess.Popen[str]], None]
) -> None:
    process = start()
    interrupt(process)
    stdout, stderr = process.communicate(timeout=DEADLINE)
    assert stdout == "1 interrupts\n", stderr
    assert process.returncode == 130


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The leader and follower ends of a pseudo-terminal."""
    leader, follower = pty.openpty()
    yield leader, follower
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("interrupt", ["Ctrl-C", _to_skjob, _to_its_group])
def test_program_in_a_terminal_is_interrupted_once(
    start: Run, terminal: tuple[int, int], interrupt: str | Callable[[subprocess.Popen[str]], None]
) -> None:
    leader, follower = terminal
    name = os.ttyname(follower)
    # The first terminal that a session's leader opens becomes its controlling terminal, with its group in foreground.
    process = start(stdin=follower, preexec_fn=lambda: os.close(os.open(name, os.O_RDWR)))
    if isinstance(interrupt, str):
        os.write(leader, b"\x03")
    else:
        interrupt(process)
    stdout, stderr = process.communicate(timeout=DEADLINE)
    assert stdout == "1 interrupts\n", stderr
    assert process.returncode == 130
