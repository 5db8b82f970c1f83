"""What runs on a worker: whatever a batch does, what comes back is an outcome that can be read."""

import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import cloudpickle
import numpy
import pandas
import pytest
from scipy import sparse

from skjob.engine.task import Outcome, protected, run_batch


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


# ------------------------------------------------------------------------------------------------- shared data

SIDE = 400  # an array of this side is above 1 MiB, one of half that side is not


def _array(side: int = SIDE) -> Any:
    return numpy.asfortranarray(numpy.arange(side * side, dtype="float64").reshape(side, side) + 1)


def _objects() -> Any:
    return numpy.array([[1], [2]] + [None] * SIDE * SIDE, dtype=object)[:2]


def _sparse(form: str, side: int) -> Any:
    if form == "dia":
        return sparse.dia_array((_array(side), numpy.arange(side)), shape=(side, side))
    return sparse.coo_array(_array(side)).asformat(form)


def _content(value: Any) -> Any:
    return repr(value.to_dict()) if hasattr(value, "to_dict") else pickle.dumps(value)


def _set(value: Any) -> None:
    value[0, 0] = -1


def _set_data(value: Any) -> None:
    value.data.flat[0] = -1


def _append(value: Any) -> None:
    value[0].append(-1)


def _set_frame(value: Any) -> None:
    value.iloc[0, 0] = -1
    value["new"] = 0


def _set_series(value: Any) -> None:
    value.iloc[0] = -1


SHARED: list[Any] = [
    (lambda: _array(SIDE // 2), _set, True),
    (_array, _set, False),
    (lambda: numpy.array([[1], [2]], dtype=object)[:, 0], lambda value: value.fill(-1), True),
    (_objects, _append, True),
    *((partial(_sparse, form, SIDE // 2), _set_data, True) for form in ("csr", "csc", "coo", "bsr", "dia")),
    *((partial(_sparse, form, SIDE), _set_data, False) for form in ("csr", "csc", "coo", "bsr", "dia")),
    (partial(_sparse, "csr", SIDE // 2), lambda value: value.resize(3, 3), True),
    (partial(_sparse, "lil", 4), _set, True),
    (lambda: pandas.DataFrame(_array()), _set_frame, True),
    (lambda: pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}), _set_frame, True),
    (lambda: pandas.Series(numpy.arange(9.0)), _set_series, True),
    (lambda: pandas.Series([[1], [2]]), _append, True),
]


@pytest.mark.parametrize(("make", "change", "allowed"), SHARED)
@pytest.mark.parametrize("copy_on_write", [True, False])
def test_what_a_task_does_to_shared_data_stays_in_it(
    make: Callable[[], Any], change: Callable[[Any], None], allowed: bool, copy_on_write: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr("skjob.engine.task._copies_on_write", lambda: copy_on_write)
    shared = make()
    before = _content(shared)
    seen = protected(shared)
    assert type(seen) is type(shared)
    assert _content(seen) == before
    if allowed:
        change(seen)
        assert _content(seen) != before
    else:
        with pytest.raises(ValueError, match="read-only"):
            change(seen)
    assert _content(shared) == before


def test_large_data_is_not_copied() -> None:
    for large in (_array(), pandas.DataFrame(_array()), _sparse("csr", SIDE), _sparse("coo", SIDE)):
        seen = protected(large)
        inner, other = (getattr(each, "_values", getattr(each, "data", each)) for each in (large, seen))
        assert numpy.shares_memory(numpy.asarray(inner), numpy.asarray(other))


def test_what_is_not_data_is_itself() -> None:
    other = [1]
    assert protected(other) is other
