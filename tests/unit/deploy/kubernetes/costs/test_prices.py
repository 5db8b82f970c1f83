"""Test what pods cost by their requests, their node's price and their time, never too low; and how others read it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import NodeKind, Price, Prices, Scheduling
from skjob.deploy.kubernetes.costs.prices import (
    Cost,
    Meter,
    gpus_held,
    hourly,
    money,
    possible_prices,
    rates,
    read_cost,
    rounded,
)

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
CHEAP, DEAR = Price(1.0, 0.5, {"pool": "batch"}), Price(2.0, 1.0)


def _pod(uid: str, node: str | None, *, cpu: str = "2", memory: str = "4Gi", phase: str = "Running") -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}, "limits": {"memory": memory}}
    spec = {"containers": [{"resources": resources}]} | ({"nodeName": node} if node else {})
    return {"metadata": {"uid": uid}, "spec": spec, "status": {"phase": phase}}


def test_an_hour_of_a_pod_at_its_nodes_price() -> None:
    assert hourly(2.0, 4 * 2**30, [CHEAP]) == 2 * 1.0 + 4 * 0.5
    assert hourly(2.0, 4 * 2**30, [CHEAP, DEAR]) == 2 * 2.0 + 4 * 1.0
    assert hourly(2.0, 4 * 2**30, []) == 0.0


def test_amounts_are_rounded_to_a_millionth() -> None:
    assert [rounded(amount) for amount in (1 / 3, 0.00000049, 2.0)] == [0.333333, 0.0, 2.0]


def test_pods_that_hold_a_node_cost_something() -> None:
    pods = [
        _pod("running", "a"),
        _pod("starting", "b", phase="Pending"),
        _pod("waiting", None, phase="Pending"),
        _pod("done", "a", phase="Succeeded"),
        _pod("failed", "a", phase="Failed"),
    ]
    found = rates(pods, lambda pod: [CHEAP] if pod["spec"]["nodeName"] == "a" else [CHEAP, DEAR])
    assert found == {"running": 4.0, "starting": 8.0}


def test_gpus_of_pods_that_hold_a_node_cost_something() -> None:
    gpus = Price(1.0, 0.0, {"pool": "gpu"}, gpu_hour=10.0)
    pods = [_pod("on", "a"), _pod("waiting", None), _pod("without", "a"), _pod("done", "a", phase="Succeeded")]
    for pod in pods:
        if pod["metadata"]["uid"] != "without":
            pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "2"
    assert rates(pods, lambda _: [gpus]) == {"on": 2.0 + 20.0, "without": 2.0}
    assert gpus_held(pods) == {"on": 2.0}
    assert hourly(2.0, 0, [gpus, DEAR], 1) == 12.0


def test_a_meter_adds_up_from_look_to_look() -> None:
    meter = Meter(began=1000.0)
    meter.see(1000.0, {"a": 3600.0})
    meter.see(1010.0, {"a": 3600.0, "b": 7200.0})  # b appeared at some time since
    assert meter.amount(1010.0) == 10 + 20
    assert meter.rate == 10800.0
    assert meter.amount(1015.0) == 30 + 15
    meter.see(1020.0, {"b": 7200.0})  # a disappeared at some time since
    assert meter.amount(1020.0) == 30 + 10 + 20
    meter.see(1025.0, {})
    assert meter.amount(2000.0) == 60 + 10
    assert meter.rate == 0.0


def test_what_is_on_its_way_counts_until_it_is_looked_for() -> None:
    meter = Meter(began=0.0)
    meter.see(0.0, {"scheduler": 3600.0})
    assert meter.amount(10.0, rate=7200.0) == 20.0
    meter.see(10.0, {"scheduler": 3600.0})
    assert meter.amount(10.0, rate=7200.0) == 10.0


@pytest.mark.parametrize(
    ("amount", "rate", "most", "seconds"),
    [(1.0, 3600.0, 5.0, 4.0), (5.0, 3600.0, 5.0, 0.0), (6.0, 3600.0, 5.0, -1.0), (1.0, 0.0, 5.0, float("inf"))],
)
def test_for_how_long_it_lasts(amount: float, rate: float, most: float, seconds: float) -> None:
    assert Cost(amount, rate, NOON, "USD").seconds_left(most) == seconds
    assert Cost(6.0, 0.0, NOON, "USD").seconds_left(5.0) < 0


def test_what_others_read_of_it() -> None:
    spending = Cost(1.5, 2.0, NOON, "EUR")
    assert read_cost(spending.as_json()) == spending
    assert spending.by(NOON + timedelta(minutes=30)) == 2.5
    assert spending.by(NOON - timedelta(minutes=30)) == 1.5  # the other clock is behind
    assert str(spending) == "1.50 EUR"


@pytest.mark.parametrize(
    "text",
    [None, "", "5", "{}", "[]", '{"amount": "x", "rate": 1, "at": "2026-11-26T12:00:00+00:00", "currency": "USD"}',
     '{"amount": NaN, "rate": 1, "at": "2026-11-26T12:00:00+00:00", "currency": "USD"}',
     '{"amount": 1, "rate": 1, "at": "0001-01-01T00:00:00+14:00", "currency": "USD"}'],
)  # fmt: skip
def test_what_can_not_be_read(text: str | None) -> None:
    assert read_cost(text) is None


@pytest.mark.parametrize(
    ("amount", "told"), [(12.3, "12.30 USD"), (0.5, "0.50 USD"), (0.00421, "0.0042 USD"), (0.0, "0.00 USD")]
)
def test_money(amount: float, told: str) -> None:
    assert money(amount, "USD") == told


def _rules(*nodes: dict[str, str], chosen: dict[str, str] | None = None, prices: tuple[Price, ...]) -> NamespacePolicy:
    kinds = tuple(NodeKind(str(number), 1, 1, labels=labels) for number, labels in enumerate(nodes))
    return NamespacePolicy(scheduling=Scheduling(chosen or {}), prices=Prices(prices), nodes=kinds)


GPU = Price(9.0, 9.0, {"pool": "gpu"})
LARGE = Price(4.0, 4.0, {"pool": "batch", "node.kubernetes.io/instance-type": "m5.8xlarge"})


@pytest.mark.parametrize(
    ("rules", "prices"),
    [
        # Of the nodes that the platform team lists, those that match the selector.
        (_rules({"pool": "batch"}, {"pool": "gpu"}, prices=(CHEAP, GPU)), (CHEAP, GPU)),
        (_rules({"pool": "batch"}, {"pool": "gpu"}, chosen={"pool": "gpu"}, prices=(CHEAP, GPU, DEAR)), (GPU,)),
        (_rules({"pool": "batch"}, {"pool": "gpu"}, prices=(CHEAP, GPU, DEAR)), (CHEAP, GPU)),
        # If it lists none: by the selector itself, of which a node can have no other value.
        (_rules(chosen={"pool": "batch"}, prices=(CHEAP, GPU, DEAR)), (CHEAP,)),
        (_rules(chosen={"pool": "batch"}, prices=(GPU, CHEAP, DEAR)), (CHEAP,)),
        # It may have more labels, and with them a price that comes before that of the selector.
        (_rules(chosen={"pool": "batch"}, prices=(LARGE, GPU, CHEAP, DEAR)), (LARGE, CHEAP)),
        (_rules(chosen={"pool": "batch"}, prices=(CHEAP, LARGE, DEAR)), (CHEAP,)),
        (_rules(prices=(CHEAP, GPU, DEAR)), (CHEAP, GPU, DEAR)),
        # Nothing matches: any price is possible.
        (_rules(prices=(CHEAP, GPU)), (CHEAP, GPU)),
        (_rules({"pool": "other"}, prices=(CHEAP, GPU)), (CHEAP, GPU)),
        (_rules({"pool": "other"}, {"pool": "batch"}, prices=(CHEAP, GPU)), (CHEAP, GPU)),
        (_rules(chosen={"pool": "batch"}, prices=(LARGE, GPU)), (LARGE, GPU)),
    ],
)
def test_prices_of_a_node_that_nobody_may_look_at(rules: NamespacePolicy, prices: tuple[Price, ...]) -> None:
    assert possible_prices(rules) == prices
