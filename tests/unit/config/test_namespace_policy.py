"""A platform team's rules: read from a ConfigMap, each wrong value told with its place."""

import pytest

from skjob.config.namespace_policy import Limits, NamespacePolicy, parse_rules
from skjob.config.nodes import NodeKind, Price, Prices, Scheduling
from skjob.errors import ConfigError

ORIGIN = "ConfigMap team/skjob-defaults"


def test_nothing_said() -> None:
    assert parse_rules({"image": "mine", "workers": "many"}, ORIGIN) == NamespacePolicy(limits=Limits(origin=ORIGIN))


def test_everything_said() -> None:
    data = {
        "team": "data-science",
        "limits.max-workers": "20",
        "limits.max-cpu": "40",
        "limits.max-memory": "160Gi",
        "limits.max-time": "8h",
        "node-selector": "{pool: batch, spot: true}",
        "tolerations": "- {key: batch, operator: Exists, effect: NoSchedule}\n- {key: spot, value: true}",
        "priority-class": "batch",
        "queue": "team-queue",
        "prices": "- {labels: {pool: batch}, cpu-hour: 0.04, gib-hour: 0.005}\n- {cpu-hour: 1, gib-hour: 0}",
        "currency": "EUR",
        "nodes": "- {name: m5, cpu: 8, memory: 32Gi, count: 5, labels: {pool: batch}}\n- {name: x, cpu: 1, memory: 1G}",
    }
    assert parse_rules(data, ORIGIN) == NamespacePolicy(
        team="data-science",
        limits=Limits(20, 40.0, 160 * 2**30, 8 * 3600.0, ORIGIN),
        scheduling=Scheduling(
            {"pool": "batch", "spot": "true"},
            ({"key": "batch", "operator": "Exists", "effect": "NoSchedule"}, {"key": "spot", "value": "true"}),
            "batch",
            "team-queue",
        ),
        prices=Prices((Price(0.04, 0.005, {"pool": "batch"}), Price(1.0, 0.0)), "EUR"),
        nodes=(NodeKind("m5", 8.0, 32 * 2**30, 5, {"pool": "batch"}), NodeKind("x", 1.0, 10**9)),
    )


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        ({"most-workers": "20", "most-cpu": "40", "most-memory": "1Gi", "most-time": "8h"}, (20, 40.0, 2**30, 28800.0)),
        ({"max-workers": "20", "max-cpu": "40", "max-memory": "1Gi"}, (20, 40.0, 2**30, None)),
        ({"limits.max-workers": "3", "max-workers": "2", "most-workers": "4"}, (2, None, None, None)),
        ({"limits.max-workers": "3", "most-workers": "2"}, (2, None, None, None)),
        ({"limits.max-workers": "2", "most-workers": "3"}, (2, None, None, None)),
        ({"limits.max-cpu": "900m", "most-cpu": "1"}, (None, 0.9, None, None)),
        ({"limits.max-memory": "1G", "most-memory": "1Gi"}, (None, None, 10**9, None)),
        ({"limits.max-time": "90m", "most-time": "1h"}, (None, None, None, 3600.0)),
        ({"limits.max-time": "1h", "most-time": "90m"}, (None, None, None, 3600.0)),
    ],
)
def test_the_strictest_value_of_a_limit_counts(
    data: dict[str, str], limits: tuple[int | None, float | None, int | None, float | None]
) -> None:
    assert parse_rules(data, ORIGIN).limits == Limits(*limits, ORIGIN)


def test_a_default_max_time_is_not_a_limit() -> None:
    """In a ConfigMap that an older chart wrote, it stands beside the limit, and users may exceed it."""
    rules = parse_rules({"max-time": "1h", "most-time": "8h"}, ORIGIN)
    assert rules.limits.time == 8 * 3600.0
    assert parse_rules({"max-time": "1h"}, ORIGIN).limits.time is None


def test_old_names_of_limits_are_reported_with_the_new_ones() -> None:
    assert parse_rules({"max-workers": "20", "limits.max-time": "8h"}, ORIGIN).notices == ()
    [notice] = parse_rules({"most-workers": "20", "limits.max-workers": "10", "most-time": "8h"}, ORIGIN).notices
    assert notice == (
        f"{ORIGIN} has old names of limits, which work for one more release:"
        " `most-workers` is now `limits.max-workers`, `most-time` is now `limits.max-time`"
    )


def test_a_wrong_value_under_any_name_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules({"limits.max-workers": "2", "max-workers": "none", "most-workers": "all"}, ORIGIN)
    assert [problem.split(" in ")[0] for problem in caught.value.problems] == ["`max-workers`", "`most-workers`"]


def test_a_price_may_be_as_small_as_helm_writes_it() -> None:
    rules = parse_rules({"prices": "- cpu-hour: 5e-05\n  gib-hour: 1e-07\n"}, "x")
    assert rules.prices.entries == (Price(5e-05, 1e-07),)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("limits.max-workers", "0", "must be a number of at least 1, not `0`"),
        ("limits.max-workers", "2.5", "must be a number of at least 1, not `2.5`"),
        ("limits.max-cpu", "none", "must be a quantity such as `500m`, `2` or `2Gi`, not `none`"),
        ("limits.max-memory", "0", "must be an amount of memory such as `64Gi`, not `0`"),
        ("limits.max-time", "1d", "must be a duration such as `90s`, `5m` or `1h30m`, not `1d`"),
        ("node-selector", "pool=batch", "must be a map, `{pool: batch}`"),
        ("node-selector", "{pool: [a]}", "must be labels, `{pool: batch}`"),
        (
            "tolerations",
            "[{key: a, effect: Never, operator: Exists}]",
            "has entries that are wrong: entry 1: `effect` must be one of NoSchedule, PreferNoSchedule, NoExecute",
        ),
        ("priority-class", " ", "must be a name"),
        ("prices", "5", "must be a list, `[{cpu-hour: 0.04, gib-hour: 0.005}]`"),
        (
            "prices",
            "[{cpu-hour: 1, gibhour: 2}, 3]",
            (
                "must be a list such as `[{cpu-hour: 0.04, gib-hour: 0.005}]`: entry 1 has `gibhour`, which there is"
                " not; entry 1 lacks `gib-hour`; entry 2 is not a map"
            ),
        ),
        (
            "prices",
            "[{cpu-hour: -1, gib-hour: 2}, {cpu-hour: yes, gib-hour: 1}]",
            (
                "has entries that are wrong: entry 1: `cpu-hour` must be a number of at least 0, not `-1`; entry 2:"
                " `cpu-hour` must be a number of at least 0, not `True`"
            ),
        ),
        (
            "nodes",
            "[{name: a, cpu: 1, memory: 1Gi, count: 0}]",
            "has entries that are wrong: entry 1: must be a number of at least 1, not `0`",
        ),
    ],
)
def test_what_is_wrong(key: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules({key: text}, ORIGIN)
    assert caught.value.message == f"`{key}` in `{ORIGIN}` {said}"
    assert caught.value.hint == "ask the platform team to fix the ConfigMap"


def test_yaml_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"`prices` in `.*` is not valid YAML: while parsing"):
        parse_rules({"prices": "[{"}, ORIGIN)


def test_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules({"limits.max-workers": "x", "limits.max-time": "y", "team": "fine"}, ORIGIN)
    assert [problem.split(" must")[0] for problem in caught.value.problems] == [
        f"`limits.max-workers` in `{ORIGIN}`",
        f"`limits.max-time` in `{ORIGIN}`",
    ]


@pytest.mark.parametrize(
    ("labels", "cpu_hour"),
    [({"pool": "batch", "zone": "a"}, 1.0), ({"zone": "a"}, 2.0), ({"pool": "other"}, 3.0), ({}, 3.0)],
)
def test_the_first_price_whose_labels_a_node_has(labels: dict[str, str], cpu_hour: float) -> None:
    prices = Prices((Price(1, 0, {"pool": "batch"}), Price(2, 0, {"zone": "a"}), Price(3, 0)))
    price = prices.of(labels)
    assert price is not None
    assert price.cpu_hour == cpu_hour


def test_a_node_without_a_price() -> None:
    assert Prices((Price(1, 0, {"pool": "batch"}),)).of({"zone": "a"}) is None


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(), ""),
        (Limits(workers=1, origin=ORIGIN), "1 worker"),
        (Limits(20, 40.0, 160 * 2**30, 3600.0), "20 workers, 40 cores, 160 GiB of memory, 3600 s"),
    ],
)
def test_limits_in_words(limits: Limits, told: str) -> None:
    assert str(limits) == told
