"""Code that travels by value comes back as what the program has."""

from __future__ import annotations

import fnmatch
import functools
import gc
import subprocess
import sys
import weakref
from typing import Any

import cloudpickle
import pytest

from skjob.engine.fidelity.effects import code_identity
from skjob.engine.transfer.pickling import CACHE_TYPE, MarkingPickler, ReturningPickler, dumps


def _there_and_back(value: Any) -> Any:
    """As a worker that has no work: read what the program has sent, and send it back."""
    return cloudpickle.loads(dumps(cloudpickle.loads(dumps(value, MarkingPickler)), ReturningPickler))


def _function() -> Any:
    def double(x: int) -> int:
        return 2 * x

    return double


def _class() -> Any:
    class Half:
        factor = 0.5

        def __call__(self, x: float) -> float:
            return self.factor * x

    return Half


@pytest.mark.parametrize("make", [_function, _class, lambda: lambda x: x])
def test_code_comes_back_as_the_very_object(make: Any) -> None:
    code = make()
    assert _there_and_back(code) is code


def test_an_instance_comes_back_as_a_copy_of_the_same_class() -> None:
    half = _class()()
    back = _there_and_back(half)
    assert back is not half
    assert type(back) is type(half)


def test_what_holds_code_comes_back_with_it() -> None:
    double = _function()
    back = _there_and_back({"partial": functools.partial(double, 1), "list": [double], "method": _class()().__call__})
    assert back["partial"].func is double
    assert back["list"] == [double]


def test_code_that_was_made_there_comes_by_value() -> None:
    made = cloudpickle.loads(cloudpickle.dumps(_function()))
    assert cloudpickle.loads(dumps(made, ReturningPickler))(2) == 4


def test_a_cache_of_a_function_travels_and_comes_back() -> None:
    """A function may call itself through its cache."""

    @functools.lru_cache(maxsize=7)
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    there = cloudpickle.loads(dumps(factorial, MarkingPickler))
    assert there is not factorial
    assert there(5) == 120
    assert there.cache_parameters() == {"maxsize": 7, "typed": False}
    assert cloudpickle.loads(dumps(there, ReturningPickler)) is factorial


def test_a_function_by_type_travels_and_comes_back() -> None:
    @functools.singledispatch
    def describe(value: Any) -> str:
        return "something"

    @describe.register
    def _(value: int) -> str:
        return f"the number {value}"

    @describe.register(list)
    def _(value: list[Any]) -> Any:
        return [describe(each) for each in value]

    describe.calls = 3  # type: ignore[attr-defined]
    there = cloudpickle.loads(dumps(describe, MarkingPickler))
    assert there is not describe
    assert (there.__name__, there.calls, there([1, "a", [True]])) == (
        "describe",
        3,
        ["the number 1", "something", ["the number True"]],
    )
    assert cloudpickle.loads(dumps(there, ReturningPickler)) is describe


def test_a_cache_of_a_library_is_left_to_its_name() -> None:
    cache = fnmatch._compile_pattern  # type: ignore[attr-defined]
    assert type(cache) is CACHE_TYPE
    assert cloudpickle.loads(dumps(cache, MarkingPickler)) is cache


def test_a_mark_does_not_keep_code_alive() -> None:
    code = _function()
    mark = code_identity.mark_of_original(code)
    assert code_identity.mark_of_original(code) == mark
    assert code_identity.marked_object(mark) is code
    gone = weakref.ref(code)
    del code
    gc.collect()
    assert gone() is None
    with pytest.raises(LookupError, match="does not have any more"):
        code_identity.marked_object(mark)


def test_a_process_that_has_no_skjob_needs_none_for_code_that_comes_home() -> None:
    """What the program has is its own object again: any other pickle of it is a usual one."""
    double = _there_and_back(_function())
    content = cloudpickle.dumps(double)
    command = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(4), 'skjob' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", command], input=content, capture_output=True, timeout=60)
    assert ended.stdout == b"8 False\n", ended.stderr
