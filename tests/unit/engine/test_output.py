"""What a task writes belongs to its batch, and to no other thread's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from clocks import DEADLINE
from joblib._parallel_backends import SequentialBackend

from skjob.engine import output
from skjob.engine.output import captured
from skjob.engine.task import Outcome, run_batch

_start = getattr(threading.Thread.start, "__wrapped__", threading.Thread.start)


@pytest.fixture(autouse=True)
def streams_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins stay for a worker's life; for a test's they must not."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)


def _ran(function: Callable[[], Any]) -> Outcome:
    [outcome] = run_batch("the-task", cloudpickle.dumps(([(function, (), {})], SequentialBackend(), {})), [])
    return outcome


def test_what_a_batch_prints_comes_back_with_its_outcome() -> None:
    def chatty() -> int:
        print("fitting")
        print("a problem", file=sys.stderr)
        return 1

    outcome = _ran(chatty)
    assert (outcome.ok, outcome.stdout, outcome.stderr) == (True, "fitting\n", "a problem\n")


def test_lines_that_are_written_at_once_belong_to_the_batch_too() -> None:
    assert _ran(lambda: sys.stdout.writelines(["one\n", "two\n"])).stdout == "one\ntwo\n"


def test_what_a_batch_that_fails_has_printed_comes_back_too() -> None:
    def failing() -> None:
        print("before")
        raise ValueError

    outcome = _ran(failing)
    assert (outcome.ok, outcome.stdout) == (False, "before\n")


def test_other_threads_write_where_they_always_did(capsys: pytest.CaptureFixture[str]) -> None:
    may_print = threading.Event()
    thread = threading.Thread(target=lambda: (may_print.wait(DEADLINE), print("not mine")))
    thread.start()
    with captured() as (stdout, _):
        print("mine")
        may_print.set()
        thread.join()
    print("after")
    assert stdout.text == "mine\n"
    assert capsys.readouterr().out == "not mine\nafter\n"


def test_two_batches_at_once_do_not_mix() -> None:
    texts = {}
    both_inside = threading.Barrier(2, timeout=DEADLINE)

    def batch(name: str) -> None:
        with captured() as (stdout, _):
            both_inside.wait()
            print(name)
            both_inside.wait()
        texts[name] = stdout.text

    threads = [threading.Thread(target=batch, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {"one": "one\n", "two": "two\n"}


def test_endless_output_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_CHARACTERS", 10)
    with captured() as (stdout, _):
        for _ in range(5):
            sys.stdout.write("12345")
    assert stdout.text == "1234512345\n… 15 more characters were printed\n"


def test_a_thread_that_a_task_starts_prints_for_it() -> None:
    def starts_one() -> None:
        thread = threading.Thread(target=lambda: print("part"))
        thread.start()
        thread.join()

    assert _ran(starts_one).stdout == "part\n"


def test_a_thread_prints_for_its_task_though_others_have_wrapped_how_threads_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @functools.wraps(_start)
    def traced(self: threading.Thread) -> None:
        _start(self)

    monkeypatch.setattr(threading.Thread, "start", traced)

    def starts_one() -> None:
        thread = threading.Thread(target=lambda: print("part"))
        thread.start()
        thread.join()

    assert _ran(starts_one).stdout == "part\n"


def test_a_handler_may_print_while_output_is_taken() -> None:
    raw = output.RawOutput(-1)
    with raw._lock:  # as the thread that the handler interrupts may hold it
        acquired = raw._lock.acquire(blocking=False)
    assert acquired


def test_a_closed_descriptor_is_not_captured() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    raw = output.RawOutput(writing)
    assert not raw.begin()
    reading, writing = os.pipe()
    raw = output.RawOutput(writing)
    try:
        text = output.Output()
        assert raw.begin()
        os.write(writing, b"inside")
        raw.end(text)
        os.write(writing, b"after")
        assert (text.text, os.read(reading, 100)) == ("inside", b"after")
    finally:
        os.close(reading)
        os.close(writing)


def test_what_does_not_pass_through_python_is_captured_in_its_order() -> None:
    def writes() -> None:
        print("first")
        os.write(1, b"raw\n")
        print("then")
        subprocess.run(["echo", "by a command"], check=True)

    outcome = _ran(writes)
    assert outcome.stdout == "first\nraw\nthen\nby a command\n"
    assert [outcome.stdout[:cut] for cut in outcome.cuts[0]][:2] == ["first", "first\n"]
