"""Test axes of charts: linear and logarithmic numbers, names, and a mix of both."""

from __future__ import annotations

import pytest

from skjob.report.scales import MISSING, OTHERS, NumericScale, ParameterAxis, as_number, label, sampled, time_unit

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("values", "log"), [([0.001, 1000], True), ([1, 100], True), ([1, 99], False), ([0, 1000], False), ([-1, 5], False)]
)
def test_an_axis_is_logarithmic_if_it_spans_two_decades(values: list[float], log: bool) -> None:
    assert NumericScale.of(values).log is log


@pytest.mark.parametrize(
    "values", [[0.5], [], [0.0, 0.0], [1e-12, 1e12], [float("inf"), 1.0, 2.0], [1.0, 1.0000001], [-1e9, 1e9]]
)
def test_every_value_has_its_place_and_every_tick_is_on_the_axis(values: list[float]) -> None:
    scale = NumericScale.of(values)
    assert all(0 <= scale.place(value) <= 1 for value in values)
    ticks = scale.ticks()
    assert ticks
    assert all(0 <= tick.place <= 1 for tick in ticks)
    assert [tick.place for tick in ticks] == sorted(tick.place for tick in ticks)


def test_ticks_are_round_numbers() -> None:
    assert [tick.label for tick in NumericScale(0, 10).ticks()] == ["0", "2", "4", "6", "8", "10"]
    assert [tick.label for tick in NumericScale(0.001, 1000, log=True).ticks(4)] == ["0.001", "0.1", "10", "1000"]
    assert [tick.label for tick in NumericScale(1.5, 30, log=True).ticks()] == ["2", "5", "10", "20"]
    assert (label(1e-5), label(123456.0), label(-0.5)) == ("1e-5", "1.2346e5", "-0.5")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("-2.5e-3", -0.0025), (".5", 0.5), ("nan", None), ("inf", None), ("True", None), ("1_000", None),
     ("None", None), ("1e999", None), ("", None)],
)  # fmt: skip
def test_only_plain_numbers_are_numbers(text: str, number: float | None) -> None:
    assert as_number(text) == number


def test_numbers_with_a_none_among_them_stay_numbers() -> None:
    axis = ParameterAxis.of("max_depth", ["1", "10", "1000", "None", None])
    assert axis.numeric is not None
    assert axis.numeric.log
    assert axis.slots == [MISSING, "None"]
    places = [axis.place(value) for value in ("1", "10", "1000", None, "None")]
    assert places == sorted(places)
    assert 0 <= places[0] < places[-1] <= 1
    assert [tick.label for tick in axis.ticks()][-2:] == [MISSING, "None"]


def test_names_have_places_in_order() -> None:
    axis = ParameterAxis.of("kernel", ["rbf", "poly", "10", "2"])
    assert axis.numeric is None
    assert list(axis.slots) == ["2", "10", "poly", "rbf"]
    assert axis.place("2") == 0.125
    assert axis.slot("rbf") == "rbf"


def test_the_rarest_of_many_names_share_a_place() -> None:
    values = [f"name {number}" for number in range(30) for _ in range(31 - number)]
    axis = ParameterAxis.of("kind", values)
    assert OTHERS in axis.slots
    assert len(axis.slots) == 12
    assert (axis.slot("name 0"), axis.slot("name 29")) == ("name 0", OTHERS)
    assert axis.place("name 29") == axis.place("name 28")


def test_a_sample_has_both_ends() -> None:
    assert sampled(range(5), 10) == [0, 1, 2, 3, 4]
    assert sampled(range(100), 4) == [0, 33, 66, 99]


@pytest.mark.parametrize(("seconds", "unit"), [(10, "seconds"), (600, "minutes"), (90_000, "hours")])
def test_times_have_a_unit_that_fits(seconds: float, unit: str) -> None:
    assert time_unit(seconds)[1] == unit
