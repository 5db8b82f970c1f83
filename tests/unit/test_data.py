"""What tasks share: the key of content, what counts as large, and how it leaves a task and comes back into it."""

import gc
import pickle
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy
import pandas
import pytest
from scipy import sparse

from skjob.engine.data import (
    CALLS_KEPT,
    SMALL,
    USED_ONCE_KEPT,
    CallData,
    SharedData,
    content_key,
    dump_task,
    large_size,
    shared_data,
)
from skjob.engine.task import run_batch

# ------------------------------------------------------------------------------------------------- keys


def _array(**changes: Any) -> Any:
    return numpy.arange(24, **{"dtype": "float64", **changes}).reshape(4, 6)


def _frame() -> Any:
    return pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": ["x", "y", None]}, index=[7, 8, 9])


MAKERS = {
    "array": _array,
    "float32": lambda: _array(dtype="float32"),
    "shape": lambda: _array().reshape(6, 4),
    "flat": lambda: _array().ravel(),
    "order": lambda: numpy.asfortranarray(_array()),
    "byte order": lambda: _array().astype(">f8"),
    "one value": lambda: _array() + numpy.eye(4, 6) * 1e-12,
    "minus zero": lambda: numpy.where(_array() == 0, -0.0, _array()),
    "objects": lambda: numpy.array([["a", None], [1.5, (2, 3)]], dtype=object),
    "frame": _frame,
    "frame's names": lambda: _frame().rename(columns={"a": "A"}),
    "frame's index": lambda: _frame().reset_index(drop=True),
    "frame's order": lambda: _frame()[["b", "a", "c"]],
    "frame's dtype": lambda: _frame().astype({"a": "int32"}),
    "series": lambda: _frame()["a"],
    "series' name": lambda: _frame()["a"].rename("z"),
    "csr": lambda: sparse.csr_matrix(_array()),
    "csc": lambda: sparse.csc_matrix(_array()),
    "csr array": lambda: sparse.csr_array(_array()),
    "csr values": lambda: sparse.csr_matrix(_array() * 2),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_content_has_an_equal_key(make: Any) -> None:
    first, second = make(), make()
    assert first is not second
    assert content_key(first) == content_key(second)


def test_other_content_has_another_key() -> None:
    keys: dict[str, list[str]] = {}
    for name, make in MAKERS.items():
        keys.setdefault(content_key(make()), []).append(name)
    assert [names for names in keys.values() if len(names) > 1] == []


def test_a_key_follows_a_change_in_place() -> None:
    array = _array()
    before = content_key(array)
    array[3, 5] += 1
    assert content_key(array) != before
    array[3, 5] -= 1
    assert content_key(array) == before


def test_a_view_and_its_copy_have_one_key() -> None:
    array = numpy.arange(100.0)
    assert content_key(array[10:20]) == content_key(array[10:20].copy())


# ------------------------------------------------------------------------------------------------- what is large


class Subclass(numpy.ndarray):
    """Not plain: what its pickle means is its own affair."""


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (numpy.zeros(10), 80),
        (numpy.zeros(0), 0),
        (numpy.zeros(10).view(Subclass), 0),
        (numpy.float64(1), 0),
        (numpy.random.RandomState(0), 0),
        (pandas.Series(numpy.zeros(10), index=pandas.RangeIndex(10)), 80 + 132),
        (pandas.DataFrame({"a": numpy.zeros(10), "b": numpy.zeros(10, "int8")}), 80 + 10 + 132),
        (pandas.RangeIndex(10), 0),
        (sparse.csr_matrix(numpy.eye(10)), 80),
        (sparse.csr_array(numpy.eye(10)), 80),
        (sparse.dok_matrix((10, 10)), 0),
        ([0] * 100, 0),
        (b"x" * 1000, 0),
        (None, 0),
        (numpy.ndarray, 0),
        (pandas.DataFrame, 0),
    ],
)
def test_large_size(value: Any, size: int) -> None:
    assert large_size(value) == size


def test_a_memory_map_is_an_array(tmp_path: Path) -> None:
    mapped = numpy.memmap(tmp_path / "x", dtype="float64", mode="w+", shape=(10,))
    mapped[:] = 3
    assert large_size(mapped) == 80
    assert content_key(mapped) == content_key(mapped.copy())


# ------------------------------------------------------------------------------------------------- out and back


class Shelf:
    """Where shared data would go to the workers."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.asked = 0

    def share(self, value: Any) -> str:
        self.asked += 1
        key = content_key(value)
        self.data[key] = value
        return key


class Holder:
    """An estimator, say."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def _run(payload: bytes, data: dict[str, Any]) -> Any:
    outcome = run_batch(payload, data)
    if not outcome.ok:
        raise cloudpickle.loads(outcome.content)
    return cloudpickle.loads(outcome.content)


LARGE = numpy.arange(SMALL, dtype="float64")
SPARSE = sparse.random_array((2000, 2000), density=0.01, format="csr", rng=0)
FRAME = pandas.DataFrame({"a": LARGE, "b": LARGE.astype("int64")})


@pytest.mark.parametrize(
    ("arguments", "shared"),
    [
        ((LARGE,), 1),
        (([{"x": (LARGE,)}],), 1),
        ((Holder(steps=[("scale", Holder(mean=LARGE))]),), 1),
        ((LARGE, [LARGE], {"again": LARGE}), 1),
        ((LARGE, LARGE.copy()), 1),
        ((LARGE, LARGE + 1), 2),
        ((FRAME, FRAME["a"]), 2),
        ((SPARSE,), 1),
        ((LARGE[:10], "text", 3), 0),
        ((numpy.zeros(SMALL, "int8"),), 0),
        ((numpy.zeros(SMALL + 1, "int8"),), 1),
        ((lambda: LARGE,), 1),
    ],
)
def test_data_leaves_a_task_wherever_it_sits(arguments: tuple[Any, ...], shared: int) -> None:
    shelf = Shelf()
    payload = dump_task(partial(lambda *found: len(found), *arguments), shelf.share, None)
    assert len(shelf.data) == shared
    assert len(payload) < 2 * SMALL + 10_000
    assert _run(payload, shelf.data) == len(arguments)


def test_data_comes_back_as_it_was() -> None:
    shelf = Shelf()

    def same(array: Any, frame: Any, matrix: Any) -> bool:
        pandas.testing.assert_frame_equal(frame, FRAME)
        return bool((array == LARGE).all() and (matrix != SPARSE).nnz == 0)

    assert _run(dump_task(partial(same, LARGE, FRAME, SPARSE), shelf.share, None), shelf.data) is True


def test_shared_data_is_read_only_in_a_task_and_untouched_outside() -> None:
    shelf = Shelf()

    def write(array: Any) -> None:
        array[0] = 1

    array = numpy.zeros(200_000)
    with pytest.raises(ValueError, match="read-only"):
        _run(dump_task(partial(write, array), shelf.share, None), shelf.data)
    assert array.flags.writeable
    assert array[0] == 0

    small = numpy.zeros(3)

    def write_small(array: Any) -> float:
        array[0] = 1
        return float(array.sum())

    assert _run(dump_task(partial(write_small, small), shelf.share, None), shelf.data) == 1.0
    assert small.sum() == 0


def test_what_can_not_be_pickled_is_raised() -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="generator"):
        dump_task(partial(len, (number for number in range(3))), Shelf().share, None)


def test_what_can_not_be_shared_is_raised() -> None:
    def share(value: Any) -> str:
        raise TimeoutError("no worker")

    with pytest.raises(TimeoutError, match="no worker"):
        dump_task(partial(len, LARGE), share, None)


# ------------------------------------------------------------------------------------------------- local modules

HELPERS = """
import threading
SCALE = 2
LOCK = threading.Lock()
STREAM = open(__file__)

class Config:
    def __init__(self, factor):
        self.factor = factor

def scaled(x):
    return SCALE * x

def guarded(x):
    return scaled(x) + 1
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module beside the script."""
    (tmp_path / "unit_helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import unit_helpers  # type: ignore[import-not-found]

    yield unit_helpers
    unit_helpers.STREAM.close()
    sys.modules.pop("unit_helpers", None)


def _elsewhere(payload: bytes, *, importable: Path | None = None) -> Any:
    """Run a task in a process that knows nothing of the modules here."""
    import subprocess

    code = (
        "import sys; from skjob.engine.task import run_batch; "
        "outcome = run_batch(sys.stdin.buffer.read(), {}); "
        "sys.stderr.write(outcome.traceback); sys.stdout.buffer.write(outcome.content)"
    )
    path = [str(importable)] if importable else []
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        input=payload,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return cloudpickle.loads(ended.stdout)


def test_functions_of_local_modules_travel_by_value_with_changed_globals(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 10
    payload = dump_task(partial(helpers.guarded, 4), Shelf().share, tmp_path)
    assert _elsewhere(payload) == 41
    with pytest.raises(ModuleNotFoundError, match="unit_helpers"):
        raise _elsewhere(dump_task(partial(helpers.guarded, 4), Shelf().share, None))  # as cloudpickle would have it


def test_a_module_with_globals_that_can_not_be_pickled_travels_with_the_others(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 10

    def use(module: Any) -> Any:
        return module.guarded(4), module.SCALE, type(module.LOCK).__name__

    payload = dump_task(partial(use, helpers), Shelf().share, tmp_path)
    assert _elsewhere(payload, importable=tmp_path) == (41, 10, "lock")


def test_an_object_and_its_class_still_know_each_other(helpers: Any, tmp_path: Path) -> None:
    def use(module: Any, config: Any) -> Any:
        return isinstance(config, module.Config), type(module.Config(3)) is type(config), config.factor

    payload = dump_task(partial(use, helpers, helpers.Config(5)), Shelf().share, tmp_path)
    assert _elsewhere(payload, importable=tmp_path) == (True, True, 5)


def test_pickling_leaves_no_trace(helpers: Any, tmp_path: Path) -> None:
    before = set(cloudpickle.list_registry_pickle_by_value())
    dump_task(partial(helpers.scaled, 4), Shelf().share, tmp_path)
    with pytest.raises((TypeError, pickle.PicklingError)):
        dump_task(partial(helpers.scaled, helpers.LOCK), Shelf().share, tmp_path)
    assert set(cloudpickle.list_registry_pickle_by_value()) == before


def test_what_a_script_has_registered_itself_stays_so(helpers: Any, tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(helpers)
    try:
        dump_task(partial(helpers.scaled, 4), Shelf().share, tmp_path)
        assert "unit_helpers" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(helpers)


def test_threads_may_pickle_at_once(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 3
    with ThreadPoolExecutor(8) as pool:
        payloads = list(
            pool.map(lambda number: dump_task(partial(helpers.scaled, number), Shelf().share, tmp_path), range(64))
        )
    assert [_run(payload, {}) for payload in payloads] == [3 * number for number in range(64)]


# ------------------------------------------------------------------------------------------------- shared once


class FakeFuture:
    def __init__(self, client: "FakeClient") -> None:
        self.client = client
        self.status = "finished"


class FakeClient:
    """Counts what is sent; what it sends is there as long as its future is."""

    def __init__(self) -> None:
        self.extensions: dict[str, Any] = {}
        self.sent = 0
        self.there: weakref.WeakSet[FakeFuture] = weakref.WeakSet()

    def scatter(self, value: Any, hash: bool, timeout: float) -> FakeFuture:  # noqa: A002 - distributed's name
        assert hash is False
        self.sent += 1
        future = FakeFuture(self)
        self.there.add(future)
        return future


@pytest.fixture
def shared() -> SharedData:
    return SharedData(FakeClient(), 5)


def _sent(shared: SharedData) -> int:
    return int(shared._client.sent)


def _there(shared: SharedData) -> int:
    return len(shared._client.there)


def _batch(call: CallData, *values: Any) -> set[str]:
    """A batch that uses these, from dispatch to settlement."""
    held: dict[str, Any] = {}
    keys = {call.share(value, held) for value in values}
    call.release(held)
    return keys


def test_equal_data_is_sent_once_in_all_calls(shared: SharedData) -> None:
    first = shared.begin_call()
    keys = _batch(first, LARGE, LARGE, LARGE.copy()) | _batch(first, LARGE)
    first.end()
    keys |= _batch(shared.begin_call(), LARGE.copy())
    assert len(keys) == 1
    assert _sent(shared) == 1


def test_data_that_one_batch_of_each_call_uses_is_sent_once(shared: SharedData) -> None:
    for _ in range(5):
        call = shared.begin_call()
        _batch(call, LARGE, LARGE + 1, FRAME, SPARSE)
        call.end()
    assert _sent(shared) == 4


def test_data_changed_between_calls_is_sent_anew(shared: SharedData) -> None:
    array = LARGE.copy()
    call = shared.begin_call()
    first = _batch(call, array)
    call.end()
    array *= 2
    assert _batch(shared.begin_call(), array) != first
    assert _sent(shared) == 2


@pytest.mark.parametrize("status", ["lost", "cancelled", "error"])
def test_what_was_lost_is_sent_again(shared: SharedData, status: str) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = call.share(LARGE, held)
    call.futures(held)[key].status = status
    call.restore(held)
    call.restore(held)
    assert call.futures(held)[key].status == "finished"
    assert _sent(shared) == 2


def test_what_was_lost_is_sent_again_with_the_next_batch(shared: SharedData) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = call.share(LARGE, held)
    call.futures(held)[key].status = "cancelled"
    _batch(call, LARGE)
    call.end()
    assert _sent(shared) == 2
    call.futures(held)[key].status = "cancelled"
    assert _batch(shared.begin_call(), LARGE) == {key}
    assert _sent(shared) == 3


def test_what_could_not_be_sent_is_sent_by_the_next_batch(shared: SharedData) -> None:
    def fail() -> None:
        raise TimeoutError("no worker")

    held: dict[str, Any] = {}
    failing = shared.begin_call(fail)
    with pytest.raises(TimeoutError, match="no worker"):
        failing.share(LARGE, held)
    failing.release(held)
    _batch(shared.begin_call(), LARGE)
    assert _sent(shared) == 1


def test_there_is_a_look_for_a_worker_only_before_data_is_sent(shared: SharedData) -> None:
    looks = []
    call = shared.begin_call(lambda: looks.append(_sent(shared)))
    _batch(call, LARGE, FRAME)
    _batch(call, LARGE, FRAME)
    assert looks == [0, 1]


def test_many_calls_within_a_batch_leave_its_data(shared: SharedData) -> None:
    """Threads of the user, or nested calls: several calls at once on one client."""
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = call.share(LARGE, held)
    for _ in range(CALLS_KEPT + 3):
        shared.begin_call().end()
    assert call.futures(held)[key].status == "finished"
    assert _batch(call, LARGE) == {key}
    assert _sent(shared) == 1


@pytest.mark.parametrize(("between", "sent"), [(CALLS_KEPT - 1, 1), (CALLS_KEPT, 2)])
def test_data_is_given_back_when_calls_no_longer_use_it(shared: SharedData, between: int, sent: int) -> None:
    call = shared.begin_call()
    _batch(call, LARGE)
    _batch(call, LARGE)
    call.end()
    for _ in range(between):
        shared.begin_call().end()
    _batch(shared.begin_call(), LARGE)
    assert _sent(shared) == sent


def test_parts_that_one_batch_each_uses_are_soon_given_back(shared: SharedData) -> None:
    """`delayed(f)(X[rows]) for rows in …`: here and on the workers; what all of them use stays."""
    call = shared.begin_call()
    parts = []
    for number in range(50):
        part = LARGE + number + 1
        parts.append(weakref.ref(part))
        _batch(call, LARGE, part)
        del part
        assert _there(shared) <= 2 + USED_ONCE_KEPT
    assert [part for part in parts if part() is not None] == []
    assert call._seen.keys() == {id(LARGE)}
    _batch(call, LARGE)
    assert _sent(shared) == 51


def test_a_part_is_kept_for_a_batch_that_is_out(shared: SharedData) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = call.share(LARGE + 0.5, held)
    for number in range(2 * USED_ONCE_KEPT):
        _batch(call, LARGE + number)
    call.futures(held)[key].status = "lost"
    call.restore(held)
    assert call.futures(held)[key].status == "finished"
    assert (held[key] == LARGE + 0.5).all()


def test_an_id_that_is_used_again_is_another_object(shared: SharedData) -> None:
    call = shared.begin_call()
    keys = []
    for number in range(20):  # each array is gone when the next one is made, often in its place
        keys += _batch(call, numpy.full(SMALL, number, "float64"))
    assert len(set(keys)) == 20


def test_a_call_that_is_over_holds_nothing(shared: SharedData) -> None:
    array = LARGE.copy()
    held = sys.getrefcount(array)
    call = shared.begin_call()
    _batch(call, array)
    assert sys.getrefcount(array) == held
    call.end()
    call.end()
    assert call._seen == {}


def test_what_a_client_has_sent_goes_with_it() -> None:
    client = FakeClient()
    assert shared_data(client, 5) is shared_data(client, 5)
    _batch(shared_data(client, 5).begin_call(), LARGE)
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
