"""What runs on a worker: whatever a batch does, what comes back is an outcome that can be read."""

import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import cloudpickle
import numpy
import pytest

from skjob.engine.task import Outcome, read_only, run_batch


def _ran(function: Callable[[], Any], data: dict[str, Any] | None = None) -> Outcome:
    return run_batch(cloudpickle.dumps(function, protocol=5), data or {})


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
    """Pickles well and can't be read back: its arguments are not those of its constructor."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Unpicklable(Exception):
    """Holds what can't be pickled."""

    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()


class Wordless(Exception):
    """Can't even say what it is."""

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
        (lambda: Odd("a", "b"), RuntimeError, "Odd: a and b"),
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
    outcome = _ran(threading.Lock)
    assert not outcome.ok
    assert isinstance(_value(outcome), TypeError)
    assert str(_value(outcome)) == "cannot pickle '_thread.lock' object"
    assert "TypeError: cannot pickle '_thread.lock' object" in outcome.traceback


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", EOFError),
        (b"no pickle at all", pickle.UnpicklingError),
        (b"cno_such_module\nthing\n.", ModuleNotFoundError),
    ],
)
def test_a_task_that_can_not_be_read(payload: bytes, kind: type[BaseException]) -> None:
    outcome = run_batch(payload, {})
    assert (outcome.ok, type(_value(outcome))) == (False, kind)


def test_data_that_is_not_there_is_told() -> None:
    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, obj: Any) -> str | None:
            return "the-key" if obj == "data" else None

    import io

    buffer = io.BytesIO()
    Pickler(buffer).dump(partial(str.upper, "data"))
    assert _value(run_batch(buffer.getvalue(), {"the-key": "found"})) == "FOUND"
    assert repr(_value(run_batch(buffer.getvalue(), {}))) == "KeyError('the-key')"


def test_read_only_is_a_view() -> None:
    array = numpy.zeros(3)
    seen = read_only(array)
    assert numpy.shares_memory(array, seen)
    assert (array.flags.writeable, seen.flags.writeable) == (True, False)
    other = [1]
    assert read_only(other) is other
