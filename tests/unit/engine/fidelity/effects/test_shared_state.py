"""What counts as a change of what a task shares with the program."""

from __future__ import annotations

import functools
import importlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from skjob.engine.fidelity.effects import shared_state
from skjob.engine.fidelity.effects.code_identity import received_code
from skjob.engine.fidelity.effects.shared_state import (
    MAX_DIGEST_BYTES,
    changed,
    describe_unknown,
    describe_unseen,
    imported_modules,
    own_objects,
    state_of,
)
from skjob.engine.transfer.modules import module_state, restore_module
from skjob.engine.transfer.pickling import MarkingPickler, dumps


def _travelled(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """A function of a program as a worker has it, and all code that came with it."""
    content = dumps(make(), MarkingPickler)
    with received_code() as codes:
        return cloudpickle.loads(content), codes


def _changes(make: Callable[[], Any], *arguments: Any) -> tuple[str, ...]:
    """What a call of the function with these arguments changes."""
    function, codes = _travelled(make)
    calls = [(function, arguments, {})]
    held = [range(len(arguments))]
    before = state_of(codes, calls, held)
    function(*arguments)
    return changed(before, state_of(codes, calls, held))


def _appends() -> Any:
    noted: list[int] = []
    return lambda: noted.append(1)


def _reads() -> Any:
    table = {"a": [1, 2], "b": numpy.arange(5)}
    return lambda: sorted(table) + list(table["b"])


def _counts() -> Any:
    count = 0

    def work() -> None:
        nonlocal count
        count += 1

    return work


def _has_an_attribute() -> Any:
    def work() -> None:
        work.calls = getattr(work, "calls", 0) + 1  # type: ignore[attr-defined]

    return work


def _has_a_default() -> Any:
    def work(cache: dict[int, int] = {}) -> None:  # noqa: B006 - the program's own mistake
        cache[1] = 2

    return work


def _draws(generator: Any) -> Any:
    return lambda: generator.random()


def _counts_in_its_class() -> Any:
    class Counter:
        count = 0

        def add(self) -> None:
            type(self).count += 1

    return lambda: Counter().add()


def _fills_an_array() -> Any:
    out = numpy.zeros(3)

    def work() -> None:
        out[1] = 1

    return work


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_appends, "noted"),
        (_counts, "count"),
        (_has_an_attribute, "work"),
        (_has_a_default, "work"),
        (lambda: _draws(random.Random(1)), "generator"),  # noqa: S311
        (lambda: _draws(numpy.random.default_rng(1)), "generator"),
        (lambda: _draws(numpy.random.RandomState(1)), "generator"),
        (_counts_in_its_class, "Counter.count"),
        (_fills_an_array, "out"),
    ],
)
def test_a_change_is_seen_and_named(make: Callable[[], Any], name: str) -> None:
    assert name in _changes(make)


def _counts_below_zero() -> Any:
    scope: dict[str, Any] = {"best": -1}
    exec("def lower():\n    global best\n    best = -2\n", scope)  # noqa: S102 - as a program's own
    return scope["lower"]


def _counts_in_a_descriptor() -> Any:
    class Counted:
        def __init__(self) -> None:
            self.count = 0

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            self.count += 1
            return self

    class Model:
        factor = Counted()

    return lambda: Model().factor


@pytest.mark.parametrize("make", [_counts_below_zero, _counts_in_a_descriptor])
def test_a_change_that_is_easily_overlooked(make: Callable[[], Any]) -> None:
    assert _changes(make) != ()


def test_which_objects_must_not_come_back_as_copies() -> None:
    class Own:
        pass

    missing, own, plain = object(), Own(), [1]
    function, codes = _travelled(lambda: lambda: (missing, {"a": own}, plain, Own))
    names = set(own_objects(codes, [(function, (), {})]).values())
    assert names >= {"missing", "own", "plain"}


def test_how_often_a_cache_was_used_is_looked_at_if_the_program_asks() -> None:
    @functools.lru_cache
    def weight(number: int) -> int:
        return number

    function, codes = _travelled(lambda: lambda: weight(1))
    calls = [(function, (), {})]
    before = state_of(codes, calls, caches=True), state_of(codes, calls)
    function()
    after = state_of(codes, calls, caches=True), state_of(codes, calls)
    assert [changed(one, other) for one, other in zip(before, after, strict=True)] == [("weight",), ()]


def test_reading_changes_nothing() -> None:
    assert _changes(_reads) == ()


def _reads_a_sparse_matrix() -> Any:
    matrix = sparse.csr_matrix(([1.0, 2.0], [1, 0], [0, 2]), shape=(1, 2))
    return lambda: matrix.has_sorted_indices


def _changes_a_sparse_matrix() -> Any:
    matrix = sparse.csr_matrix(([1.0, 2.0], [1, 0], [0, 2]), shape=(1, 2))
    return lambda: matrix.data.fill(0)


def test_what_a_sparse_matrix_notes_of_itself_is_no_change() -> None:
    assert _changes(_reads_a_sparse_matrix) == ()
    assert _changes(_changes_a_sparse_matrix) == ("matrix",)


def _works_on_its_argument() -> Any:
    return lambda into: into.append(1)


def test_an_argument_that_the_program_has_too_counts() -> None:
    assert _changes(_works_on_its_argument, []) == ("argument 1",)


@pytest.mark.parametrize(("held", "returned"), [([()], ()), ([(0,)], [(0,)])])
def test_one_that_it_has_not_or_that_it_gets_back_does_not(held: Any, returned: Any) -> None:
    calls = [(list.append, ([], 1), {})]
    before = state_of([], calls, held)
    list.append(*calls[0][1])
    assert changed(before, state_of([], calls, held), returned) == ()


def _scorer() -> Any:
    class Scorer:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def __call__(self, model: Any) -> None:
            self.seen.append(model)

    return Scorer()


def test_an_instance_of_the_programs_own_class_among_the_arguments_counts() -> None:
    scorer, codes = _travelled(_scorer)
    calls = [(map, (len, scorer), {})]
    before = state_of(codes, calls)
    scorer(1)
    assert changed(before, state_of(codes, calls)) == ("Scorer",)


def _has_much(change: Callable[[list[str]], object]) -> Any:
    much = [f"{number:1000}" for number in range(MAX_DIGEST_BYTES // 500)]
    return lambda: change(much)


def test_of_what_is_large_only_the_length_is_looked_at() -> None:
    assert _changes(lambda: _has_much(lambda much: much.append("y"))) == ("much",)
    assert _changes(lambda: _has_much(lambda much: much.reverse())) == ()


def test_what_is_bound_to_the_programs_function_counts() -> None:
    noted: list[int] = []
    assert _changes(lambda: functools.partial(lambda into: into.append(1), noted)) == ("partial",)


def _note(*_: Any, log: list[int]) -> None:
    log.append(1)


@pytest.mark.parametrize("log", ["fit_params", "scorer"])
def test_what_a_librarys_function_passes_on_counts(log: str) -> None:
    """But not its estimator, which it fits, nor data."""
    function, codes = _travelled(lambda: lambda into: into.append(1))
    passed: dict[str, Any] = {
        "fit_params": {"log": []},
        "scorer": functools.partial(_note, log=[]),
        "callback_ctx": CallbackContext(),
    }
    calls = [(_fit, (Ridge(), numpy.zeros(3)), passed)]
    before = state_of(codes, calls)
    function(passed["fit_params"]["log"] if log == "fit_params" else passed["scorer"].keywords["log"])
    _fit(*calls[0][1], **passed)
    assert changed(before, state_of(codes, calls)) == (log,)
    assert state_of([], calls) == {}


class CallbackContext:
    """As scikit-learn's: each fit adds to it."""

    fits = 0


def _fit(estimator: Any, X: Any, fit_params: Any = None, scorer: Any = None, callback_ctx: Any = None) -> None:
    estimator.coef_ = 1.0
    callback_ctx.fits = 1
    X[0] = 1.0


def test_environment_variables_that_a_task_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULT", "0")
    monkeypatch.setenv("KMP_INIT_AT_FORK", "FALSE")
    assert _changes(lambda: lambda: os.environ.update(RESULT="1")) == ("os.environ",)
    assert _changes(lambda: lambda: os.environ.update(KMP_INIT_AT_FORK="TRUE")) == ()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the program's own, which works on another one."""
    (tmp_path / "own_store.py").write_text("KEPT = {}\nclass Kinds:\n    seen = 0\n")
    (tmp_path / "own_registry.py").write_text(REGISTRY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shared_state, "unpacked_folders", lambda: {str(tmp_path)})
    yield importlib.import_module("own_registry")
    for name in ("own_registry", "own_store"):
        sys.modules.pop(name)


REGISTRY = """
import own_store
RESULTS = {}
_count = 0
def note(name):
    RESULTS[name] = 1
def count():
    global _count
    _count += 1
def keep():
    own_store.KEPT[1] = 2
def see():
    own_store.Kinds.seen += 1
def read():
    return RESULTS, own_store.KEPT
"""


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (lambda registry: registry.note("a"), ("own_registry.RESULTS",)),
        (lambda registry: registry.count(), ("own_registry._count",)),
        (lambda registry: registry.keep(), ("own_store.KEPT",)),
        (lambda registry: registry.see(), ("Kinds.seen",)),
        (lambda registry: registry.read(), ()),
    ],
)
def test_what_functions_of_a_module_change_there(
    registry: ModuleType, act: Callable[[Any], object], names: tuple[str, ...]
) -> None:
    with received_code() as codes:
        restore_module("own_registry", {})
    assert codes == [registry]
    before = state_of(codes, [])
    act(registry)
    assert changed(before, state_of(codes, [])) == names


# ------------------------------------------------------------------------------------------------- what has no digest


def _unknown(make: Callable[[], Any], *arguments: Any) -> tuple[str, ...]:
    function, codes = _travelled(make)
    return describe_unknown(state_of(codes, [(function, arguments, {})], [range(len(arguments))]))


def _uses_a_large_table() -> Any:
    table = {number: "x" * 1000 + str(number) for number in range(MAX_DIGEST_BYTES // 1000 + 1)}
    return lambda: table[0]


def _uses_a_cache() -> Any:
    @cache
    def double(number: int) -> int:
        return 2 * number

    return lambda: double(2)


def test_what_is_too_large_to_compare_is_named() -> None:
    assert _unknown(_uses_a_large_table) == ("`table` (too large to compare)",)


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    assert _unknown(_works_on_its_argument, lock) == ("`argument 1` (cannot be pickled, and so not be compared)",)


@pytest.mark.parametrize("make", [_appends, _reads, _uses_a_cache, _has_an_attribute])
def test_most_is_known(make: Callable[[], Any]) -> None:
    assert _unknown(make) == ()


def test_a_cache_that_fills_is_no_change() -> None:
    assert _changes(_uses_a_cache) == ()


def test_what_is_told_of_it() -> None:
    assert describe_unseen("work", "train.py:14", ["`table` (too large to compare)"]) == (
        "the tasks of `work` (train.py:14) use `table` (too large to compare): a change of it by a task is not seen"
    )


# ------------------------------------------------------------------------------------------------- modules


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module beside the script."""
    file = tmp_path / "steps_settings.py"
    file.write_text("COUNT = 0\nNAMES = []\ndef double(x): return 2 * x\nALL = [double]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "steps_settings", raising=False)
    return restore_module("steps_settings", {})


def test_a_module_that_travels_is_collected(settings: ModuleType) -> None:
    with received_code() as codes:
        assert restore_module("steps_settings", module_state(settings)) is settings
    assert settings in codes


def test_a_change_of_a_module_is_seen_and_named(settings: ModuleType) -> None:
    before = state_of([settings], [])
    assert changed(before, state_of([settings], [])) == ()
    settings.COUNT += 1
    settings.NAMES.append(1)
    assert changed(before, state_of([settings], [])) == ("steps_settings.COUNT", "steps_settings.NAMES")


def test_a_module_that_comes_with_another_task_is_no_change(settings: ModuleType) -> None:
    """Tasks of a worker share its modules: each brings the data anew."""
    restore_module("steps_settings", module_state(settings))
    before = state_of([settings], [])
    restore_module("steps_settings", module_state(settings))
    assert changed(before, state_of([settings], [])) == ()


def test_what_a_worker_has_of_its_own_in_a_module_is_not_the_programs(settings: ModuleType) -> None:
    settings.lock = threading.Lock()
    assert describe_unknown(state_of([settings], [])) == ()


def test_modules_that_functions_import_are_looked_at(settings: ModuleType, tmp_path: Path) -> None:
    def work() -> Any:
        import json

        import steps_settings  # type: ignore[import-not-found]

        return json, steps_settings

    assert imported_modules([work], {str(tmp_path)}) == [settings]
    assert imported_modules([work], {str(tmp_path / "elsewhere")}) == []
    assert imported_modules([work], ()) == []
