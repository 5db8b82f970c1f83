"""Shared data on a worker: in memory of its own there, and for every task as it was sent."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
import pandas
import pytest
from dask.sizeof import sizeof
from scipy import sparse

from skjob.engine.transfer.received_data import Pickled, Shared, in_own_memory, protected

COPIES_ON_WRITE = int(pandas.__version__.partition(".")[0]) >= 3
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
    monkeypatch.setattr("skjob.engine.transfer.received_data._copies_on_write", lambda: copy_on_write)
    if copy_on_write and not COPIES_ON_WRITE:
        monkeypatch.setattr(pandas.options.mode, "copy_on_write", True)
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
    frame = [pandas.DataFrame(_array())] if COPIES_ON_WRITE else []
    for large in (_array(), *frame, _sparse("csr", SIDE), _sparse("coo", SIDE)):
        seen = protected(large)
        inner, other = (getattr(each, "_values", getattr(each, "data", each)) for each in (large, seen))
        assert numpy.shares_memory(numpy.asarray(inner), numpy.asarray(other))


def test_what_is_not_data_is_itself() -> None:
    other = [1]
    assert protected(other) is other


# ------------------------------------------------------------------------------------------------- memory of its own


def _received(value: Any) -> Any:
    """What comes out of a buffer in which every array begins at an odd address, as Dask's often do."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(Shared(value, 7), protocol=5, buffer_callback=buffers.append)
    moved = []
    for buffer in buffers:
        room = bytearray(buffer.raw().nbytes + 64)
        start = 1 + -numpy.frombuffer(room, "uint8").ctypes.data % 64
        room[start : start + buffer.raw().nbytes] = buffer.raw()
        moved.append(memoryview(room)[start : start + buffer.raw().nbytes])
    return pickle.loads(content, buffers=moved)  # noqa: S301 - from the lines above


def _arrays(value: Any) -> list[Any]:
    """The arrays of numbers in it."""
    if isinstance(value, numpy.ndarray):
        return [value]
    if isinstance(value, pandas.DataFrame):
        return [value[name].to_numpy() for name in value]
    if isinstance(value, pandas.Series):
        return [value.to_numpy()]
    parts = [part for entry in vars(value).values() for part in (entry if isinstance(entry, tuple) else (entry,))]
    return [part for part in parts if isinstance(part, numpy.ndarray)]


RECEIVED: list[Any] = [
    _array,
    lambda: _array().ravel()[:9],
    lambda: pandas.DataFrame(_array()),
    lambda: pandas.DataFrame({"a": [0.5, 1.5], "b": [1, 2]}),
    lambda: pandas.Series(numpy.arange(9.0)),
    *(partial(_sparse, form, 40) for form in ("csr", "csc", "coo", "bsr", "dia")),
]


@pytest.mark.parametrize("make", RECEIVED)
def test_received_numbers_lie_where_numpy_adds_them_up_as_at_home(make: Callable[[], Any]) -> None:
    received = _received(make())
    assert (type(received), received.nbytes) == (Shared, 7)
    assert type(received.value) is type(make())
    assert _content(received.value) == _content(make())
    arrays = _arrays(received.value)
    assert arrays
    assert [array.flags.aligned for array in arrays] == [True] * len(arrays)


def test_a_sum_is_the_same_to_the_last_bit() -> None:
    X = numpy.random.default_rng(0).normal(size=(10_000, 50))
    received = _received(X).value
    assert (received.sum(axis=0) == X.sum(axis=0)).all()
    assert [received[:, column].sum() for column in range(50)] == [X[:, column].sum() for column in range(50)]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_is_kept(order: Any) -> None:
    array = numpy.asarray(_array(), order=order)
    assert in_own_memory(array).flags.c_contiguous is array.flags.c_contiguous
    assert not numpy.shares_memory(in_own_memory(array), array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("owned", [in_own_memory, protected])
def test_the_order_of_a_frame_is_kept(owned: Callable[[Any], Any], order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skjob.engine.transfer.received_data._copies_on_write", lambda: False)
    frame = pandas.DataFrame(numpy.asarray(_array(), order=order), copy=False)
    array, other = frame.to_numpy(), owned(frame).to_numpy()
    assert (other.flags.c_contiguous, other.flags.f_contiguous) == (order == "C", order == "F")
    assert (other == array).all()
    assert not numpy.shares_memory(other, array)


def test_a_pickle_is_received_as_it_is() -> None:
    received = _received(Pickled(b"content"))
    assert received.value == Pickled(b"content")


def test_dask_is_told_the_size() -> None:
    assert sizeof(Shared(object(), 123_456)) == 123_456
