"""What runs on a worker: whatever its calls do, what comes back is an outcome of each that can be read."""

import io
import os
import pickle
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import cloudpickle
import distributed  # noqa: F401 - before any task, as on a worker: it teaches the exceptions it finds to be pickled
import joblib
import numpy
import pytest
from joblib._parallel_backends import SequentialBackend

from skjob.engine.cancellation import TaskCancelled
from skjob.engine.fidelity.effects import guard
from skjob.engine.fidelity.effects.guard import FILES_VARIABLE, FOLDER_VARIABLE
from skjob.engine.remote_traceback import RemoteTraceback, load_error
from skjob.engine.task import Outcome, run_batch
from skjob.engine.transfer.pickling import MarkingPickler, dumps
from skjob.engine.transfer.received_data import Pickled, Shared

NESTED = SequentialBackend(nesting_level=1)


def _task(*functions: Callable[[], Any]) -> bytes:
    """These calls as bytes; nothing in them is shared."""
    return bytes(cloudpickle.dumps(([(function, (), {}) for function in functions], NESTED, {}), protocol=5))


def _all(*functions: Callable[[], Any]) -> list[Outcome]:
    return run_batch("the-task", _task(*functions), [])


def _ran(function: Callable[[], Any]) -> Outcome:
    [outcome] = _all(function)
    return outcome


def _value(outcome: Outcome) -> Any:
    return cloudpickle.loads(outcome.content)


@pytest.mark.parametrize("result", [None, 3, [1, "a"], {"x": (1.5,)}, lambda: 1])
def test_a_result(result: Any) -> None:
    outcome = _ran(lambda: result)
    assert (outcome.ok, outcome.traceback) == (True, "")
    assert type(_value(outcome)) is type(result)
    assert callable(result) or _value(outcome) == result


def test_seconds_are_those_on_the_worker() -> None:
    def work() -> int:
        return sum(range(300_000))

    quick, slow = _ran(int).seconds, _ran(work).seconds
    assert 0 < quick < slow < 30


class Odd(Exception):
    """Pickles well and cannot be read back: its arguments are not those of its constructor."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.both = [one, two]


class Named(Exception):
    """Has no arguments but by name."""

    def __init__(self, *, name: str) -> None:
        super().__init__()
        self.name = name

    def __str__(self) -> str:
        return f"of {self.name}"


class Unpicklable(Exception):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()


class Wordless(Exception):
    """Can't even say what it is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("no pickle")


def _raise(make: Callable[[], BaseException]) -> NoReturn:
    raise make()


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: KeyError("x"), KeyError, "'x'"),
        (lambda: ValueError("bad", 3), ValueError, "('bad', 3)"),
        (lambda: SystemExit(3), SystemExit, "3"),
        (lambda: KeyboardInterrupt(), KeyboardInterrupt, ""),
        (lambda: GeneratorExit(), GeneratorExit, ""),
        (lambda: MemoryError(), MemoryError, ""),
        (lambda: Odd("a", "b"), Odd, "a and b"),
        (lambda: Named(name="a"), Named, "of a"),
        (Unpicklable, RuntimeError, "Unpicklable: with a lock"),
        (Wordless, RuntimeError, "Wordless"),
    ],
)
def test_an_exception(make: Callable[[], BaseException], kind: type[BaseException], text: str) -> None:
    outcome = _ran(partial(_raise, make))
    error = _value(outcome)
    assert (outcome.ok, type(error), str(error)) == (False, kind, text)
    assert outcome.traceback.startswith("Traceback (most recent call last):\n")
    assert "in _raise" in outcome.traceback
    assert "skjob/engine/task.py" not in outcome.traceback


def test_an_exception_has_its_attributes_again() -> None:
    assert _value(_ran(partial(_raise, lambda: Odd("a", "b")))).both == ["a", "b"]
    assert _value(_ran(partial(_raise, lambda: Named(name="x")))).name == "x"


class Refused(Exception):
    """Is made again of its message, and says it twice."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is refused")


def test_only_a_task_that_calls_what_seeds_moves_the_programs_generator() -> None:
    def draws(seed: int | None = None) -> int:
        if seed is not None:
            random.seed(seed)
        return random.getrandbits(32)

    before = random.getstate()
    try:
        content = _task(draws, partial(draws, 3))
        unseeded, seeded = run_batch("the-task", content, [], live_arguments=[(), ()])
        [of_processes] = run_batch("the-task", _task(partial(draws, 3)), [])
        random.setstate(seeded.generators["random"])
        expected = random.Random(3)  # noqa: S311 - the numbers of that seed
        assert [_value(seeded), random.getrandbits(32)] == [expected.getrandbits(32) for _ in range(2)]
    finally:
        random.setstate(before)
    assert unseeded.generators == of_processes.generators == {}


def test_an_exception_is_the_one_that_plain_python_raises() -> None:
    """From a process of joblib's it is what pickle makes of it, from the program's own what was raised."""
    content = _task(partial(_raise, lambda: Refused("a")))
    for shares_memory, text in ((False, "a is refused is refused"), (True, "a is refused")):
        [outcome] = run_batch("the-task", content, [], live_arguments=[()] if shares_memory else None)
        error = _value(outcome)
        assert (type(error), str(error), outcome.refused) == (Refused, text, "")


@pytest.mark.parametrize("make", [Unpicklable, Wordless])
def test_an_exception_that_cannot_come_back_is_raised_in_the_programs_process(make: type[BaseException]) -> None:
    [outcome] = run_batch("the-task", _task(partial(_raise, make)), [], live_arguments=[()])
    assert (outcome.ok, outcome.content) == (False, b"")
    assert outcome.refused.startswith(f"its error cannot be sent back: {make.__name__}")


def test_the_text_shows_causes_too() -> None:
    def fail() -> NoReturn:
        try:
            _raise(lambda: KeyError("the cause"))
        except KeyError as error:
            raise ValueError("the effect") from error

    text = _ran(fail).traceback
    assert text.index("KeyError: 'the cause'") < text.index("ValueError: the effect")
    assert "The above exception was the direct cause" in text


def test_a_result_that_can_not_be_pickled() -> None:
    """The call is done again where its result need not travel."""
    outcome = _ran(threading.Lock)
    assert (outcome.ok, outcome.refused) == (
        False,
        "its results cannot be sent back: TypeError: cannot pickle '_thread.lock' object",
    )


def test_a_change_of_what_is_shared_with_the_program() -> None:
    """It matters only where plain Python runs the tasks in the program's process."""
    noted: list[int] = []
    content = dumps(([(lambda: noted.append(1), (), {}), (int, (), {})], NESTED, {}), MarkingPickler)
    assert [outcome.refused for outcome in run_batch("the-task", content, [])] == ["", ""]
    refused = [outcome.refused for outcome in run_batch("the-task", content, [], live_arguments=[(), ()])]
    assert refused == ["its tasks change `noted`"] * 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ValueError: assignment destination is read-only", "its tasks write to data that they share"),
        ("ValueError: buffer source array is read-only", "its tasks write to data that they share"),
        ("the disk is read-only", ""),
    ],
)
def test_the_error_of_a_fit_that_wrote_to_what_is_shared(text: str, why: str) -> None:
    """The data of a program may be text with the same words."""
    [outcome] = run_batch("the-task", _task(lambda: {"fit_error": text}), [], live_arguments=((),))
    assert outcome.refused == why


def test_a_variable_that_a_refused_task_has_set_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next task on this worker must not find it."""
    monkeypatch.setenv("DEPTH", "3")
    monkeypatch.setenv("GONE", "1")

    def act() -> None:
        os.environ.update(DEPTH="4", NEW="1")
        del os.environ["GONE"]

    content = dumps(([(act, (), {})], NESTED, {}), MarkingPickler)
    [outcome] = run_batch("the-task", content, [], live_arguments=[()])
    assert outcome.refused == "its tasks change `os.environ`"
    assert (os.environ["DEPTH"], os.environ["GONE"], os.environ.get("NEW")) == ("3", "1", None)


def test_a_task_that_reads_the_arguments_of_the_program() -> None:
    content = dumps(([(lambda: sys.argv[1:], (), {})], NESTED, {}), MarkingPickler)
    [outcome] = run_batch("the-task", content, [])
    assert outcome.refused == "its tasks read the arguments of the program, `sys.argv`"


def test_what_a_task_did_besides_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "1")
    assert _ran(lambda: (tmp_path / "scores").write_text("1")).effects == ("wrote files",)
    assert _ran(lambda: 1).effects == ()


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", EOFError),
        (b"no pickle at all", pickle.UnpicklingError),
        (b"cno_such_module\nthing\n.", ModuleNotFoundError),
    ],
)
def test_a_task_that_can_not_be_read(payload: bytes, kind: type[BaseException]) -> None:
    [outcome] = run_batch("the-task", payload, [])
    assert (outcome.ok, type(_value(outcome))) == (False, kind)
    assert outcome.refused.startswith("it cannot be read on workers: ")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves out the text "data"."""

    def persistent_id(self, obj: Any) -> str | None:
        return "the-key" if isinstance(obj, str) and obj == "data" else None


def _without_data(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def test_data_that_is_not_there_is_told() -> None:
    payload = _without_data(([(str.upper, ("data",), {})], NESTED, {}))
    [found] = run_batch("the-task", payload, ["the-key"], Shared(Pickled(pickle.dumps("found")), 100))
    assert _value(found) == "FOUND"
    [missing] = run_batch("the-task", payload, [])
    assert repr(_value(missing)) == "KeyError('the-key')"


# ------------------------------------------------------------------------------------------------- several calls


def test_each_call_has_an_outcome_in_their_order() -> None:
    outcomes = _all(*(partial(pow, 2, number) for number in range(5)))
    assert [outcome.ok for outcome in outcomes] == [True] * 5
    assert [_value(outcome) for outcome in outcomes] == [1, 2, 4, 8, 16]


def test_a_task_ends_with_the_first_call_that_fails() -> None:
    def fail() -> NoReturn:
        raise ValueError("the second")

    def never() -> NoReturn:
        raise AssertionError("this call follows one that failed")

    done, failed = _all(int, fail, never)
    assert (done.ok, _value(done)) == (True, 0)
    assert (failed.ok, repr(_value(failed))) == (False, "ValueError('the second')")


def test_a_result_that_can_not_be_pickled_fails_as_its_own_call() -> None:
    outcomes = _all(int, threading.Lock, int)
    assert [outcome.ok for outcome in outcomes] == [True, False]


def test_seconds_are_those_of_each_call() -> None:
    def work() -> int:
        return sum(range(300_000))

    outcomes = _all(work, int)
    assert outcomes[0].seconds > outcomes[1].seconds > 0


def test_output_belongs_to_the_call_that_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # the stand-ins stay for a worker's life; not for a test's
    monkeypatch.setattr(sys, "stderr", sys.stderr)

    def fail() -> NoReturn:
        print("before the end")
        raise ValueError

    first, second, third = _all(partial(print, "one"), lambda: print("two", file=sys.stderr), fail)
    assert (first.stdout, first.stderr) == ("one\n", "")
    assert (second.stdout, second.stderr) == ("", "two\n")
    assert (third.ok, third.stdout, third.stderr) == (False, "before the end\n", "")


def test_arguments_and_keywords() -> None:
    calls = [(sorted, ([3, 1, 2],), {"reverse": True}), (dict, (), {"a": 1})]
    outcomes = run_batch("the-task", cloudpickle.dumps((calls, NESTED, {})), [])
    assert [_value(outcome) for outcome in outcomes] == [[3, 2, 1], {"a": 1}]


def test_calls_see_the_backend_that_came_with_them() -> None:
    def backend() -> tuple[str, int]:
        active, _ = joblib.parallel.get_active_backend()
        return type(active).__name__, joblib.effective_n_jobs(-1)

    before = backend()
    assert _value(_ran(backend)) == ("SequentialBackend", 1)
    assert backend() == before != ("SequentialBackend", 1)


def test_a_call_that_is_stopped_ends_its_task() -> None:
    """Not an Exception: neither the call itself nor the calls after it go on."""

    def stopped() -> int:
        try:
            _raise(TaskCancelled)
        except Exception:
            return 1

    done, ended = _all(int, stopped, int)
    assert (done.ok, ended.ok, type(_value(ended))) == (True, False, TaskCancelled)


# ------------------------------------------------------------------------------------------------- shared pickles


def test_a_shared_pickle_is_read_anew_by_each_call_and_task() -> None:
    """A list that one call changes is for the next call, and for the next task, as it was."""

    def change(rows: list[int]) -> list[int]:
        rows.append(4)
        return rows

    calls = [(change, (), {"rows": "data"}) for _ in range(2)]
    shared = Shared(Pickled(pickle.dumps([1, 2, 3])), 100)
    for _ in range(2):
        outcomes = run_batch("the-task", _without_data((calls, NESTED, {})), ["the-key"], shared)
        assert [_value(outcome) for outcome in outcomes] == [[1, 2, 3, 4], [1, 2, 3, 4]]


def test_a_shared_pickle_may_leave_out_other_data() -> None:
    class Outer(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, obj: Any) -> str | None:
            return "the-list" if isinstance(obj, str) and obj == "list" else None

    buffer = io.BytesIO()
    Outer(buffer).dump(([(sum, ("list",), {})], NESTED, {}))
    array = numpy.arange(5.0)
    values = Shared(Pickled(_without_data([1, 2, "data"])), 100), Shared(array, array.nbytes)
    [outcome] = run_batch("the-task", buffer.getvalue(), ["the-list", "the-key"], *values)
    assert (_value(outcome) == array + 3).all()


@pytest.mark.parametrize(
    ("shares_memory", "causes"), [(True, ["KeyError('a')", "ZeroDivisionError('b')"]), (False, [])]
)
def test_an_exception_comes_with_what_led_to_it(shares_memory: bool, causes: list[str]) -> None:
    """In plain Python's processes it does not."""

    def chained() -> None:
        try:
            raise KeyError("a") from ZeroDivisionError("b")  # noqa: TRY301 - as a task would
        except KeyError as error:
            raise ValueError("c") from error

    [outcome] = run_batch("the-task", _task(chained), [], live_arguments=[()] if shares_memory else None)
    error = load_error(outcome.content, outcome.traceback, outcome.causes)
    found = []
    while (error := error.__cause__) and not isinstance(error, RemoteTraceback):  # type: ignore[assignment]
        found.append(repr(error))
    assert found == causes
    assert isinstance(error, RemoteTraceback)


def test_what_tasks_have_created_is_removed_if_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    seen: list[int] = []

    def writes(number: int) -> None:
        (tmp_path / f"{number}.txt").write_text("1")
        if number:
            seen.append(number)

    def outcome(number: int) -> Outcome:
        content = dumps(([(writes, (number,), {})], NESTED, {}), MarkingPickler)
        return run_batch("the-task", content, [], live_arguments=[()])[0]

    assert outcome(0).created == (str(tmp_path / "0.txt"),)
    assert "its tasks change" in outcome(1).refused
    assert [path.name for path in tmp_path.glob("*.txt")] == ["0.txt"]


def test_settings_that_tasks_change_are_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()

    def enters() -> None:
        os.chdir("other")

    content = dumps(([(enters, (), {})], NESTED, {}), MarkingPickler)
    [outcome] = run_batch("the-task", content, [], live_arguments=[()])
    assert outcome.refused == "its tasks change settings of the process by `os.chdir`"
    assert Path.cwd() == tmp_path
    [outcome] = run_batch("the-task", content, [])
    assert (outcome.ok, outcome.refused, Path.cwd()) == (True, "", tmp_path)


def test_the_folder_that_a_pod_works_in_is_no_change_by_its_first_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a worker that has just started: its guard is not installed yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "work"))
    monkeypatch.setattr(guard, "_own_folder", "")
    monkeypatch.setattr(guard, "_hook_installed", False)
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)  # there is one already, and none can be removed

    def works_in() -> str:
        return str(Path.cwd())

    content = dumps(([(works_in, (), {})], NESTED, {}), MarkingPickler)
    [outcome] = run_batch("the-task", content, [], live_arguments=[()])
    assert (outcome.refused, _value(outcome)) == ("", str(tmp_path / "work"))
