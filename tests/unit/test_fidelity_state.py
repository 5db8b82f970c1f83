"""What counts as a change of what a task shares with the program."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy
import pytest
from scipy import sparse

from skjob.engine.fidelity.marks import collected_code
from skjob.engine.fidelity.state import LARGEST, changed, state_of
from skjob.engine.pickling import MarkingPickler, dumps


def _travelled(make: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """A function of a program as a worker has it, and all code that came with it."""
    content = dumps(make(), MarkingPickler)
    with collected_code() as codes:
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


def _has_much() -> Any:
    much = [f"{number:1000}" for number in range(LARGEST // 500)]
    return lambda: much.append("y")


def test_what_is_too_large_to_look_at_is_no_change() -> None:
    assert _changes(_has_much) == ()
