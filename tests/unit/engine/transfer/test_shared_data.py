"""What tasks share: the key of content, what counts as large, and how it leaves a task and comes back into it."""

import gc
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy
import pandas
import pytest
from clocks import DEADLINE
from joblib._parallel_backends import SequentialBackend
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.parallel import delayed

from skjob.engine.task import run_batch
from skjob.engine.transfer import shared_data as data_module
from skjob.engine.transfer.received_data import Pickled, Shared
from skjob.engine.transfer.shared_data import (
    DROPPED_TTL,
    MAX_PICKLES,
    MAX_UNUSED_CALLS,
    MAX_USED_ONCE,
    CallData,
    SharedData,
    shared_data,
)
from skjob.engine.transfer.task_pickler import MAX_INLINE_BYTES, content_key, dump_task, large_size

NESTED = SequentialBackend(nesting_level=1)

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
        (Pickled(b"x" * 10), 10),
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

    def share(self, value: Any) -> str | None:
        if large_size(value) <= MAX_INLINE_BYTES:
            return None
        key = content_key(value)
        self.data[key] = value
        return key


class Holder:
    """An estimator, say."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def _dump(function: Callable[[], Any], share: Callable[[Any], str | None], root: Path | None = None) -> bytes:
    """A task of one call."""
    return dump_task(([(function, (), {})], NESTED, {}), share, root)


def _run(payload: bytes, data: dict[str, Any]) -> Any:
    values = [Shared(value, large_size(value)) for value in data.values()]
    [outcome] = run_batch("the-task", payload, list(data), *values)
    if not outcome.ok:
        raise cloudpickle.loads(outcome.content)
    return cloudpickle.loads(outcome.content)


LARGE = numpy.arange(MAX_INLINE_BYTES, dtype="float64")
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
        ((numpy.zeros(MAX_INLINE_BYTES, "int8"),), 0),
        ((numpy.zeros(MAX_INLINE_BYTES + 1, "int8"),), 1),
        ((lambda: LARGE,), 1),
    ],
)
def test_data_leaves_a_task_wherever_it_sits(arguments: tuple[Any, ...], shared: int) -> None:
    shelf = Shelf()
    payload = _dump(partial(lambda *found: len(found), *arguments), shelf.share)
    assert len(shelf.data) == shared
    assert len(payload) < 2 * MAX_INLINE_BYTES + 10_000
    assert _run(payload, shelf.data) == len(arguments)


def test_data_comes_back_as_it_was() -> None:
    shelf = Shelf()

    def same(array: Any, frame: Any, matrix: Any) -> bool:
        pandas.testing.assert_frame_equal(frame, FRAME)
        return bool((array == LARGE).all() and (matrix != SPARSE).nnz == 0)

    assert _run(_dump(partial(same, LARGE, FRAME, SPARSE), shelf.share), shelf.data) is True


def test_shared_data_is_read_only_in_a_task_and_untouched_outside() -> None:
    shelf = Shelf()

    def write(array: Any) -> None:
        array[0] = 1

    array = numpy.zeros(200_000)
    with pytest.raises(ValueError, match="read-only"):
        _run(_dump(partial(write, array), shelf.share), shelf.data)
    assert array.flags.writeable
    assert array[0] == 0

    small = numpy.zeros(3)

    def write_small(array: Any) -> float:
        array[0] = 1
        return float(array.sum())

    assert _run(_dump(partial(write_small, small), shelf.share), shelf.data) == 1.0
    assert small.sum() == 0


def test_what_can_not_be_pickled_is_raised() -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="generator"):
        _dump(partial(len, (number for number in range(3))), Shelf().share)


def test_what_can_not_be_shared_is_raised() -> None:
    def share(value: Any) -> str | None:
        if value is LARGE:
            raise TimeoutError("no worker")
        return None

    with pytest.raises(TimeoutError, match="no worker"):
        _dump(partial(len, LARGE), share)


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


def _elsewhere(*payloads: bytes, importable: Path | None = None) -> list[Any]:
    """Run tasks in a process that knows nothing of the modules here."""
    import subprocess

    code = (
        "import pickle, sys; from skjob.engine.task import run_batch; "
        "outcomes = [run_batch('the-task', payload, []) for payload in pickle.load(sys.stdin.buffer)]; "
        "pickle.dump([outcome.content for [outcome] in outcomes], sys.stdout.buffer)"
    )
    path = [str(importable)] if importable else []
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        input=pickle.dumps(payloads),
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    return [cloudpickle.loads(content) for content in cloudpickle.loads(ended.stdout)]


def test_functions_of_local_modules_travel_by_value_with_changed_globals(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 10
    by_name = _dump(partial(helpers.guarded, 4), Shelf().share)  # as cloudpickle would have it
    by_value = _dump(partial(helpers.guarded, 4), Shelf().share, tmp_path)
    error, result = _elsewhere(by_name, by_value)
    with pytest.raises(ModuleNotFoundError, match="unit_helpers"):
        raise error
    assert result == 41


def test_a_module_with_globals_that_can_not_be_pickled_travels_with_the_others(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 10

    def use(module: Any) -> Any:
        return module.guarded(4), module.SCALE, type(module.LOCK).__name__

    payload = _dump(partial(use, helpers), Shelf().share, tmp_path)
    assert _elsewhere(payload, importable=tmp_path) == [(41, 10, "lock")]


def test_an_object_and_its_class_still_know_each_other(helpers: Any, tmp_path: Path) -> None:
    def use(module: Any, config: Any) -> Any:
        return isinstance(config, module.Config), type(module.Config(3)) is type(config), config.factor

    payload = _dump(partial(use, helpers, helpers.Config(5)), Shelf().share, tmp_path)
    assert _elsewhere(payload, importable=tmp_path) == [(True, True, 5)]


def test_pickling_leaves_no_trace(helpers: Any, tmp_path: Path) -> None:
    before = set(cloudpickle.list_registry_pickle_by_value())
    _dump(partial(helpers.scaled, 4), Shelf().share, tmp_path)
    with pytest.raises((TypeError, pickle.PicklingError)):
        _dump(partial(helpers.scaled, helpers.LOCK), Shelf().share, tmp_path)
    assert set(cloudpickle.list_registry_pickle_by_value()) == before


def test_what_a_script_has_registered_itself_stays_so(helpers: Any, tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(helpers)
    try:
        _dump(partial(helpers.scaled, 4), Shelf().share, tmp_path)
        assert "unit_helpers" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(helpers)


def test_threads_may_pickle_at_once(helpers: Any, tmp_path: Path) -> None:
    helpers.SCALE = 3
    with ThreadPoolExecutor(8) as pool:
        payloads = list(
            pool.map(lambda number: _dump(partial(helpers.scaled, number), Shelf().share, tmp_path), range(64))
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
        self.scheduler = SimpleNamespace(address="tcp://127.0.0.1:8786")
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


def _dispatched(call: CallData, held: dict[str, Any], value: Any) -> str:
    """A batch that uses this is out; its key."""
    call.dump([(len, (value,), {})], NESTED, held, None)
    [key] = held
    return key


def _batch(call: CallData, *values: Any) -> set[str]:
    """A batch that uses these, from dispatch to its results."""
    held: dict[str, Any] = {}
    call.dump([(len, values, {})], NESTED, held, None)
    keys = set(held)
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
    key = _dispatched(call, held, LARGE)
    call.futures(held)[key].status = status
    call.restore(held)
    call.restore(held)
    assert call.futures(held)[key].status == "finished"
    assert _sent(shared) == 2


def test_what_was_lost_is_sent_again_with_the_next_batch(shared: SharedData) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = _dispatched(call, held, LARGE)
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
        _dispatched(failing, held, LARGE)
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
    key = _dispatched(call, held, LARGE)
    for _ in range(MAX_UNUSED_CALLS + 3):
        shared.begin_call().end()
    assert call.futures(held)[key].status == "finished"
    assert _batch(call, LARGE) == {key}
    assert _sent(shared) == 1


@pytest.mark.parametrize(("between", "sent"), [(MAX_UNUSED_CALLS - 1, 1), (MAX_UNUSED_CALLS, 2)])
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
        assert _there(shared) <= 2 + MAX_USED_ONCE
    assert [part for part in parts if part() is not None] == []
    assert call._seen.keys() == {id(LARGE)}
    _batch(call, LARGE)
    assert _sent(shared) == 51


def test_a_part_is_kept_for_a_batch_that_is_out(shared: SharedData) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = _dispatched(call, held, LARGE + 0.5)
    for number in range(2 * MAX_USED_ONCE):
        _batch(call, LARGE + number)
    call.futures(held)[key].status = "lost"
    call.restore(held)
    assert call.futures(held)[key].status == "finished"
    assert (held[key] == LARGE + 0.5).all()


def test_an_id_that_is_used_again_is_another_object(shared: SharedData) -> None:
    call = shared.begin_call()
    keys = []
    for number in range(20):  # each array is gone when the next one is made, often in its place
        keys += _batch(call, numpy.full(MAX_INLINE_BYTES, number, "float64"))
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


# ------------------------------------------------------------------------------------------------- large without arrays


class Row:
    """Counts how often one of its kind is pickled."""

    pickled = 0

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = f"row {number} " * 100

    def __getstate__(self) -> dict[str, Any]:
        Row.pickled += 1
        return self.__dict__


class Model:
    """Has learnt its rows by heart."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def predict(self, number: int) -> str:
        return self.rows[number].text


def _rows() -> list[Row]:
    return [Row(number) for number in range(200)]


def _look(rows: Any, number: int) -> str:
    return str(rows[number].text)


def _task(call: CallData, held: dict[str, Any], function: Any, *arguments: Any) -> bytes:
    return call.dump([(function, arguments, {})], NESTED, held, None)


def _texts() -> dict[str, str]:
    return {f"key {number}": f"text {number} " * 100 for number in range(200)}


def _forest() -> Any:
    X = numpy.random.default_rng(0).normal(size=(60, 3))
    return RandomForestClassifier(100, max_depth=4, random_state=0).fit(X, X[:, 0] > 0)


LARGE_OBJECTS: dict[str, Callable[[], Any]] = {
    "list of dicts": lambda: [{"number": number, "text": f"text {number} " * 100} for number in range(200)],
    "dict": _texts,
    "bytes": lambda: b"x" * (MAX_INLINE_BYTES + 1),
    "text": lambda: "x" * (MAX_INLINE_BYTES + 1),
    "tuple": lambda: tuple(_texts().items()),
    "set of text": lambda: frozenset(_texts().values()),
    "numbers": lambda: list(range(100_000)),
    "rows": _rows,
    "model": lambda: Model(_rows()),
    "forest": _forest,
}


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, RandomForestClassifier):
        X = numpy.random.default_rng(1).normal(size=(50, 3))
        return bool((value.predict_proba(X) == other.predict_proba(X)).all())
    return bool(pickle.dumps(value) == pickle.dumps(other)) if isinstance(value, Model | list) else value == other


@pytest.mark.parametrize("make", LARGE_OBJECTS.values(), ids=LARGE_OBJECTS)
def test_what_is_large_without_arrays_is_shared_once(shared: SharedData, make: Callable[[], Any]) -> None:
    value = make()
    call = shared.begin_call()
    for number in range(3):
        held: dict[str, Any] = {}
        payload = _task(call, held, lambda *found: found, value, number)
        assert len(payload) < 2000
        assert [type(each) for each in held.values()] == [Pickled]
        found, which = _run(payload, held)
        assert which == number
        assert type(found) is type(value)
        assert _same(value, found)
        call.release(held)
    assert _sent(shared) == 1


@pytest.mark.parametrize(
    "make", [lambda: b"x" * (MAX_INLINE_BYTES - 1000), lambda: "x" * (MAX_INLINE_BYTES // 2), lambda: list(range(10))]
)
def test_what_is_small_travels_with_its_task(shared: SharedData, make: Callable[[], Any]) -> None:
    held: dict[str, Any] = {}
    value = make()
    payload = _task(shared.begin_call(), held, lambda found: found, value)
    assert (held, _sent(shared)) == ({}, 0)
    assert _run(payload, {}) == value


def _as_argument(rows: list[Row]) -> Callable[[int], Any]:
    return lambda number: (_look, (rows, number), {})


def _as_keyword(rows: list[Row]) -> Callable[[int], Any]:
    return lambda number: (_look, (), {"rows": rows, "number": number})


def _as_partial(rows: list[Row]) -> Callable[[int], Any]:
    function = partial(_look, rows)
    return lambda number: (function, (number,), {})


def _as_bound_method(rows: list[Row]) -> Callable[[int], Any]:
    function = Model(rows).predict
    return lambda number: (function, (number,), {})


def _as_closure(rows: list[Row]) -> Callable[[int], Any]:
    def function(number: int) -> str:
        return rows[number].text

    return lambda number: (function, (number,), {})


def _as_fresh_bound_method(rows: list[Row]) -> Callable[[int], Any]:
    """As in `delayed(model.predict)(part) for part in parts`: each time another object, around the same model."""
    model = Model(rows)
    return lambda number: (model.predict, (number,), {})


def _as_fresh_partial(rows: list[Row]) -> Callable[[int], Any]:
    return lambda number: (partial(_look, rows, number), (), {})


def _in_a_tuple(rows: list[Row]) -> Callable[[int], Any]:
    return lambda number: (lambda pair: _look(*pair), ((rows, number),), {})


def _as_fresh_closure(rows: list[Row]) -> Callable[[int], Any]:
    return lambda number: (lambda: rows[number].text, (), {})


def _as_default(rows: list[Row]) -> Callable[[int], Any]:
    def call(number: int) -> Any:
        def function(rows: list[Row] = rows) -> str:
            return rows[number].text

        return function, (), {}

    return call


def _as_partial_of_a_method(rows: list[Row]) -> Callable[[int], Any]:
    model = Model(rows)
    return lambda number: (partial(model.predict, number), (), {})


def _through_scikit_learn(rows: list[Row]) -> Callable[[int], Any]:
    model = Model(rows)

    def call(number: int) -> Any:
        function, arguments, keywords = delayed(model.predict)(number)
        return function.with_config_and_warning_filters({"assume_finite": True}, [("default",)]), arguments, keywords

    return call


WRAPPED_ANEW = [
    _as_fresh_bound_method,
    _as_fresh_partial,
    _in_a_tuple,
    _as_fresh_closure,
    _as_default,
    _as_partial_of_a_method,
    _through_scikit_learn,
]


@pytest.mark.parametrize("wrap", [_as_argument, _as_keyword, _as_partial, _as_bound_method, _as_closure, *WRAPPED_ANEW])
def test_later_tasks_do_not_pickle_it_again(
    shared: SharedData, wrap: Callable[[list[Row]], Callable[[int], Any]]
) -> None:
    rows = _rows()
    make_call = wrap(rows)
    call = shared.begin_call()
    held: dict[str, Any] = {}
    call.dump([make_call(0)], NESTED, held, None)
    call.release(held)
    Row.pickled = 0
    for number in range(1, 4):
        payload = call.dump([make_call(number)], NESTED, held, None)
        assert len(payload) < 5000
        assert _run(payload, held) == rows[number].text
        call.release(held)
    assert Row.pickled == 0
    assert _sent(shared) == 1


def test_many_calls_of_one_task_share_it_too(shared: SharedData) -> None:
    rows = _rows()
    held: dict[str, Any] = {}
    calls = [(_look, (rows, number), {}) for number in range(20)]
    payload = shared.begin_call().dump(calls, NESTED, held, None)
    values = [Shared(value, large_size(value)) for value in held.values()]
    outcomes = run_batch("the-task", payload, list(held), *values)
    assert [cloudpickle.loads(outcome.content) for outcome in outcomes] == [row.text for row in rows[:20]]
    assert (len(held), _sent(shared)) == (1, 1)


def test_arrays_in_it_are_shared_on_their_own(shared: SharedData) -> None:
    """So that another argument, or another call, with the same array finds it there."""
    rows = [{"text": f"row {number} " * 100, "array": LARGE} for number in range(200)]
    call = shared.begin_call()
    held: dict[str, Any] = {}
    for _ in range(2):
        payload = _task(
            call, held, lambda found, array: (found[7]["text"], found[9]["array"].sum() + array[1]), rows, LARGE
        )
        assert sorted(type(value).__name__ for value in held.values()) == ["Pickled", "ndarray"]
        assert sum(large_size(value) for value in held.values()) < LARGE.nbytes + 1_000_000
        assert _run(payload, held) == ("row 7 " * 100, LARGE.sum() + 1)
        call.release(held)
    assert _batch(call, LARGE) == {content_key(LARGE)}
    assert _sent(shared) == 2


def test_each_task_has_a_copy_of_its_own(shared: SharedData) -> None:
    rows = _rows()

    def take(found: list[Row]) -> int:
        found.pop()
        found[0].text = ""
        return len(found)

    call = shared.begin_call()
    held: dict[str, Any] = {}
    for _ in range(2):
        assert _run(_task(call, held, take, rows), held) == 199
    assert len(rows) == 200
    assert rows[0].text


def test_equal_objects_have_one_key_in_all_calls(shared: SharedData) -> None:
    keys = set()
    for _ in range(3):
        call = shared.begin_call()
        keys |= _batch(call, _texts())
        call.end()
    assert len(keys) == 1
    assert _sent(shared) == 1


def test_an_object_changed_between_calls_is_sent_anew(shared: SharedData) -> None:
    rows = _rows()
    call = shared.begin_call()
    first = _batch(call, rows)
    call.end()
    rows[0].text = "new"
    held: dict[str, Any] = {}
    payload = _task(shared.begin_call(), held, _look, rows, 0)
    assert set(held) != first
    assert _run(payload, held) == "new"
    assert _sent(shared) == 2


def test_a_pickle_that_was_lost_is_sent_again_without_the_object(shared: SharedData) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = _dispatched(call, held, _rows())
    call.futures(held)[key].status = "lost"
    Row.pickled = 0
    call.restore(held)
    assert call.futures(held)[key].status == "finished"
    assert (_sent(shared), Row.pickled) == (2, 0)


def test_of_many_large_objects_a_call_keeps_the_last(shared: SharedData) -> None:
    call = shared.begin_call()
    for number in range(2 * MAX_PICKLES):
        _batch(call, f"{number} " * MAX_INLINE_BYTES)
        assert len(call._arguments) <= MAX_PICKLES
        assert _there(shared) <= MAX_USED_ONCE + 1
    call.end()
    assert len(call._arguments) == 0


def test_a_call_that_is_over_holds_no_object(shared: SharedData) -> None:
    model = Model(_rows())
    gone = weakref.ref(model)
    call = shared.begin_call()
    _batch(call, model)
    call.end()
    del model
    assert gone() is None


def test_a_large_object_that_can_not_be_pickled_is_raised(shared: SharedData) -> None:
    held: dict[str, Any] = {}
    with pytest.raises((TypeError, pickle.PicklingError), match="generator"):
        _task(shared.begin_call(), held, len, _rows(), (number for number in range(3)))


# ------------------------------------------------------------------------------------------------- given back


class FakeLoop:
    """Notes what it is to call later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon_threadsafe(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def call_later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        self.later.append((seconds, partial(function, *arguments)))


class Clock:
    """Advances when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(data_module, "time", clock)
    return clock


def _used_twice(call: CallData, value: Any) -> None:
    """Not the only batch: what is used once goes sooner."""
    _batch(call, value)
    _batch(call, value)


def _later(shared: SharedData, clock: Clock, seconds: float = DROPPED_TTL + 1) -> int:
    """What is still there then."""
    clock.now += seconds
    shared.free_dropped()
    return _there(shared)


@pytest.mark.parametrize("make", [lambda: LARGE + 1, lambda: FRAME + 1, lambda: SPARSE * 2])
def test_data_is_given_back_when_no_object_here_holds_it(
    shared: SharedData, clock: Clock, make: Callable[[], Any]
) -> None:
    """Each fit of a forest makes a copy of X; the call goes on."""
    call = shared.begin_call()
    value = make()
    _used_twice(call, value)
    assert _later(shared, clock) == 1
    del value
    assert _later(shared, clock, DROPPED_TTL - 1) == 1
    assert _later(shared, clock, 2) == 0


def test_it_stays_while_any_object_has_this_content(shared: SharedData, clock: Clock) -> None:
    call = shared.begin_call()
    first, second = LARGE + 1, LARGE + 1
    _batch(call, first)
    _batch(call, second)
    del first
    assert _later(shared, clock) == 1
    del second
    assert _later(shared, clock) == 0


def test_a_new_object_with_this_content_keeps_it(shared: SharedData, clock: Clock) -> None:
    call = shared.begin_call()
    _used_twice(call, LARGE + 1)
    assert _later(shared, clock, DROPPED_TTL / 2) == 1
    again = LARGE + 1
    _batch(call, again)
    assert _later(shared, clock, 10 * DROPPED_TTL) == 1
    assert _sent(shared) == 1
    del again
    assert _later(shared, clock) == 0


def test_it_stays_while_a_batch_uses_it(shared: SharedData, clock: Clock) -> None:
    call = shared.begin_call()
    held: dict[str, Any] = {}
    key = _dispatched(call, held, LARGE + 1)
    assert _later(shared, clock, 10 * DROPPED_TTL) == 1
    assert call.futures(held)[key].status == "finished"
    _batch(call, LARGE + 1)
    call.release(held)
    assert _later(shared, clock) == 0


def test_a_look_is_taken_when_the_time_is_over(clock: Clock) -> None:
    client = FakeClient()
    loop = FakeLoop()
    client.loop = SimpleNamespace(asyncio_loop=loop)
    shared = SharedData(client, 5)
    _used_twice(shared.begin_call(), LARGE + 1)
    [(seconds, look), *_] = loop.later
    assert seconds > DROPPED_TTL
    clock.now += seconds
    look()
    assert _there(shared) == 0
    gone = weakref.ref(shared)
    del shared, client.extensions
    gc.collect()
    assert gone() is None  # the look that is still to come does not keep it
    look()


def test_an_object_whose_end_nobody_sees_stays_as_long_as_calls_use_it(shared: SharedData, clock: Clock) -> None:
    """A list cannot be watched: it may be used for hours."""
    rows = _rows()
    for _ in range(3):
        call = shared.begin_call()
        _used_twice(call, rows)
        call.end()
        assert _later(shared, clock, 10 * DROPPED_TTL) == 1
    assert _sent(shared) == 1
    for _ in range(MAX_UNUSED_CALLS + 1):
        shared.begin_call().end()
    assert _there(shared) == 0


@pytest.mark.parametrize("pieces", [2, 3 * MAX_USED_ONCE])
def test_pieces_that_each_task_has_are_sent_once(shared: SharedData, pieces: int) -> None:
    """A dictionary of arrays, or a forest of large trees, in tasks that follow one another."""
    value = {number: LARGE + number for number in range(pieces)}
    call = shared.begin_call()
    for _ in range(3):
        _batch(call, value)
    call.end()
    _batch(shared.begin_call(), value)
    assert _sent(shared) == pieces
