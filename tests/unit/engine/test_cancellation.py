"""What nobody wants any more is ended, in Python at once and else with its process; and nothing but that."""

import asyncio
import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
from clocks import DEADLINE
from joblib._parallel_backends import SequentialBackend

from skjob.engine import cancellation
from skjob.engine.cancellation import TaskCancelled, interruptible, stop_tasks
from skjob.engine.task import Outcome, run_batch

NO_NANNY = SimpleNamespace(nanny=None)


def _task(*functions: Callable[[], Any]) -> bytes:
    return bytes(cloudpickle.dumps(([(function, (), {}) for function in functions], SequentialBackend(), {})))


class Worker:
    """A thread of a worker: runs what it is given, one after the other."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        self.errors: list[BaseException] = []

    def start(self, *tasks: tuple[str, bytes]) -> None:
        self._thread = threading.Thread(target=self._run, args=tasks, daemon=True)
        self._thread.start()

    def _run(self, *tasks: tuple[str, bytes]) -> None:
        try:
            for key, payload in tasks:
                self.outcomes[key] = run_batch(key, payload, [])
        except BaseException as error:
            self.errors.append(error)

    def ended(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        assert self.errors == []


STARTED: dict[str, threading.Event] = {}
"""Set by a task as it begins, and `notified` by a test. Tasks reach them as a global: an event cannot be pickled."""


def _endless(name: str) -> None:
    STARTED[name].set()
    while True:
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    STARTED.update({name: threading.Event() for name in ("one", "two", "notified")})
    yield
    assert cancellation._running == {}
    for thread in threading.enumerate():
        if thread.name == cancellation.STOPPER:  # the tests' calls have the same names: it would stop the next one's
            thread.join(DEADLINE)
    cancellation._cancelled.clear()


def _endless_task(name: str) -> bytes:
    payload: bytes = cloudpickle.dumps(([(_endless, (name,), {})], SequentialBackend(), {}))
    return payload


def _interrupt(prefix: str, worker: Any = NO_NANNY) -> None:
    asyncio.run(stop_tasks(prefix, dask_worker=worker))


def _kind(outcome: Outcome) -> Any:
    return None if outcome.ok else type(cloudpickle.loads(outcome.content))


def test_what_runs_in_python_is_ended() -> None:
    worker = Worker()
    worker.start(("fit-call1-0-1", _endless_task("one")))
    assert STARTED["one"].wait(DEADLINE)
    _interrupt("call1")
    worker.ended()
    assert [_kind(outcome) for outcome in worker.outcomes["fit-call1-0-1"]] == [TaskCancelled]


def test_code_that_catches_every_exception_is_ended_too() -> None:
    """As scikit-learn does, for `error_score`."""

    def stubborn() -> None:
        while True:
            with suppress(Exception):
                _endless("one")

    worker = Worker()
    worker.start(("fit-call1-0-1", _task(stubborn)))
    assert STARTED["one"].wait(DEADLINE)
    _interrupt("call1")
    worker.ended()
    assert [_kind(outcome) for outcome in worker.outcomes["fit-call1-0-1"]] == [TaskCancelled]


def test_the_next_task_on_its_thread_is_not_hit() -> None:
    worker = Worker()
    busy = _task(lambda: sum(range(100_000)))
    worker.start(("fit-call1-0-1", _endless_task("one")), ("fit-call2-0-1", busy), ("fit-call2-1-1", busy))
    assert STARTED["one"].wait(DEADLINE)
    _interrupt("call1")
    worker.ended()
    assert [_kind(outcomes[0]) for outcomes in worker.outcomes.values()] == [TaskCancelled, None, None]


SLOW_PACKAGE = {
    "__init__.py": "from slow_package import part\n",
    "part.py": """
import slow_package.inner
from clocks import wait_for
from tests.unit.engine.test_cancellation import STARTED

STARTED["one"].set()
wait_for(STARTED["notified"].is_set)
""",
    "inner.py": "value = 7\n",
}


def test_an_import_is_not_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose import was broken off has lost its parts for good: sys.modules has them, the package has not."""
    package = tmp_path / "slow_package"
    package.mkdir()
    for name, text in SLOW_PACKAGE.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def fit() -> None:
        import slow_package.part  # noqa: F401

        _endless("two")

    worker = Worker()
    worker.start(("fit-call1-0-1", _task(fit)))
    assert STARTED["one"].wait(DEADLINE)
    _interrupt("call1")
    STARTED["notified"].set()
    worker.ended()
    assert [_kind(outcome) for outcome in worker.outcomes["fit-call1-0-1"]] == [TaskCancelled]
    assert STARTED["two"].is_set()
    imported = importlib.import_module("slow_package")
    assert imported.inner.value == 7


def test_tasks_of_other_calls_run_on() -> None:
    one, two = Worker(), Worker()
    one.start(("fit-call1-0-1", _endless_task("one")))
    two.start(("fit-call2-0-1", _endless_task("two")))
    assert STARTED["one"].wait(DEADLINE)
    assert STARTED["two"].wait(DEADLINE)
    _interrupt("call1")
    one.ended()
    assert [*cancellation._running] == ["fit-call2-0-1"]
    _interrupt("call2")
    two.ended()


def test_all_tasks_of_a_call_are_ended() -> None:
    one, two = Worker(), Worker()
    one.start(("fit-call1-0-1", _endless_task("one")))
    two.start(("fit-call1-1-1", _endless_task("two")))
    assert STARTED["one"].wait(DEADLINE)
    assert STARTED["two"].wait(DEADLINE)
    _interrupt("call1")
    one.ended()
    two.ended()


def test_a_task_that_begins_when_its_call_was_stopped_does_nothing() -> None:
    """Dask has begun it, and does not take it back: it is on its way to here."""
    _interrupt("call1")
    [outcome] = run_batch("fit-call1-0-1", _endless_task("one"), [])
    assert _kind(outcome) is TaskCancelled
    assert not STARTED["one"].is_set()
    [outcome] = run_batch("fit-call2-0-1", _task(int), [])
    assert outcome.ok


def test_a_task_that_has_ended_is_not_hit() -> None:
    """Its thread goes on to other work, which is none of ours: here, this very test."""
    run_batch("fit-call1-0-1", _task(int), [])
    with interruptible("fit-call1-1-1"):
        pass
    _interrupt("call1")
    assert sum(range(100_000)) == 4_999_950_000


def test_a_task_that_failed_is_not_hit() -> None:
    with pytest.raises(ValueError, match="of its own"), interruptible("fit-call1-0-1"):
        raise ValueError("of its own")
    _interrupt("call1")
    assert sum(range(100_000)) == 4_999_950_000


def test_an_interrupt_at_any_moment_is_for_its_task_alone() -> None:
    """Tasks that are all beginning and end, interrupted as often as it goes."""
    counts = {"tasks": 0, "hit": 0, "left": 0, "late": 0}
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            key = f"call1-{counts['tasks']}"
            counts["tasks"] += 1
            try:
                try:
                    with interruptible(key):
                        pass
                except TaskCancelled:
                    counts["hit"] += 1
                with cancellation._lock:
                    counts["left"] += cancellation._running.pop(key, None) is not None
            except TaskCancelled:
                counts["late"] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        deadline = time.monotonic() + DEADLINE
        while counts["hit"] < 50 and time.monotonic() < deadline:
            cancellation._interrupt("call1")
            time.sleep(0)
        over.set()
        thread.join(DEADLINE)
    finally:
        sys.setswitchinterval(interval)
    assert counts["hit"] >= 50
    assert (counts["left"], counts["late"]) == (0, 0)


# ------------------------------------------------------------------------------------------------- with its process

COMPILED = """
import asyncio, os, sys, threading, time
from types import SimpleNamespace
from skjob.engine import cancellation

cancellation.INTERRUPT_TIMEOUT = float(sys.argv[4])
started = threading.Event()

def work(seconds):
    try:
        with cancellation.interruptible("fit-call1-0-1"):
            started.set()
            time.sleep(seconds)  # what comes in Python comes after it
    except cancellation.TaskCancelled:
        pass

seconds, nanny, restarted = float(sys.argv[1]), sys.argv[2] == "nanny", sys.argv[2] == "restarted"
if restarted:
    os.environ[cancellation.RESTARTED_VARIABLE] = "1"
threading.Thread(target=work, args=[seconds], daemon=True).start()
started.wait()
before = threading.enumerate()
asyncio.run(cancellation.stop_tasks(sys.argv[3], SimpleNamespace(nanny="an address" if nanny else None)))
for seeing_to_the_end in set(threading.enumerate()).difference(before):
    seeing_to_the_end.join()
print("still here")
"""


@pytest.mark.parametrize(
    ("seconds", "restarted_by", "prefix", "patience", "stays"),
    [
        (2 * DEADLINE, "nanny", "call1", 0.05, False),
        (2 * DEADLINE, "restarted", "call1", 0.05, False),
        (2 * DEADLINE, "nobody", "call1", 0.05, True),
        (2 * DEADLINE, "nanny", "another", 0.05, True),
        (0.01, "nanny", "call1", DEADLINE, True),
    ],
)
def test_what_is_deep_in_compiled_code_ends_with_a_process_that_is_started_again(
    seconds: float, restarted_by: str, prefix: str, patience: float, stays: bool
) -> None:
    """And not what has ended meanwhile, nor a process that nobody starts again."""
    ended = subprocess.run(
        [sys.executable, "-c", COMPILED, str(seconds), restarted_by, prefix, str(patience)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "still here\n" if stays else "", "")
