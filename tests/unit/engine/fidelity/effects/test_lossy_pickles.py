"""Objects that lose attributes when they are pickled."""

from __future__ import annotations

import pickle
from typing import Any

import numpy
import pytest
from sklearn.linear_model import Ridge

from skjob.engine.fidelity.effects.lossy_pickles import describe_loss, lost_attributes
from skjob.engine.fidelity.effects.returned_arguments import CannotReturn, dumps_result


class LeavesOut:
    """A wrapper that does not pickle its model."""

    def __init__(self) -> None:
        self.model: Any = Ridge()
        self.seen = 5

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "model"}


class SetsToNone(LeavesOut):
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "model": None}


class MakesAnew(LeavesOut):
    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, model=Ridge())


class TakesApart(MakesAnew):
    """Its state is what it consists of, and setting it takes that apart."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.model = state.pop("model")
        state.pop("seen")


class Slotted:
    __slots__ = ("__dict__", "size")

    def __init__(self) -> None:
        self.size, self.model, self.lock = 3, Ridge(), object()

    def __getstate__(self) -> Any:
        return {"model": self.model}, {"size": self.size}


class KeepsData(MakesAnew):
    def __init__(self) -> None:
        super().__init__()
        self.data = numpy.zeros(3)

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["data"][:] = 1


class Labelled(numpy.ndarray):  # type: ignore[type-arg]
    """An array with an attribute, which numpy does not pickle."""


class SetsDict(LeavesOut):
    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.model = None


class Plain:
    def __init__(self) -> None:
        self.model = Ridge()


def _labelled() -> Any:
    array = numpy.arange(3.0).view(Labelled)
    array.label = "x"
    return array


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        (LeavesOut(), ["model"]),
        (SetsToNone(), ["model"]),
        (MakesAnew(), []),
        (_labelled(), ["label"]),
        (Plain(), []),
        (TakesApart(), []),
        (Slotted(), ["lock"]),
        (KeepsData(), ["model", "seen", "data"]),
        (numpy.arange(3), []),
    ],
)
def test_what_is_lost(value: Any, lost: list[str]) -> None:
    assert lost_attributes(value, lambda kind: kind.__module__ == __name__) == lost


@pytest.mark.parametrize("kind", [TakesApart, KeepsData])
def test_the_programs_own_object_stays_as_it_is(kind: type) -> None:
    value = kind()
    before = dict(vars(value))
    lost_attributes(value, lambda kind: kind.__module__ == __name__)
    assert vars(value) == before
    assert not getattr(value, "data", numpy.zeros(1)).any()
    value = SetsDict()
    lost_attributes(value, lambda kind: kind.__module__ == __name__)
    assert value.model is not None


def test_objects_of_libraries_lose_what_they_lose_anywhere() -> None:
    assert lost_attributes(LeavesOut(), lambda kind: False) == []


def test_how_a_loss_is_described() -> None:
    assert describe_loss(LeavesOut(), ["model", "seen"]) == "a `LeavesOut` loses `model`, `seen` when it is pickled"


def test_a_result_does_not_contain_a_copy_of_what_is_equal_only_to_itself() -> None:
    missing = object()
    with pytest.raises(CannotReturn, match="the program's own object `MISSING`"):
        dumps_result([1, missing], (abs, (1,), {}), {id(missing): "MISSING"})
    content, _ = dumps_result([1, 2], (abs, (1,), {}), {id(missing): "MISSING"})
    assert pickle.loads(content) == [1, 2]  # noqa: S301 - our own bytes


def test_a_result_is_no_copy_of_a_container_or_array_of_the_programs() -> None:
    rows, table = [1], numpy.ones((2, 3))
    own = {id(rows): "rows", id(table): "table"}
    for result in (rows, {"a": rows}, (table,), table[0]):
        with pytest.raises(CannotReturn, match=r"the program's own object `(rows|table)`"):
            dumps_result(result, (abs, (1,), {}), own)
    content, returned = dumps_result([rows], (len, (rows,), {}), own)
    assert (pickle.loads(content), returned) == ([[1]], set())  # noqa: S301 - our own bytes
