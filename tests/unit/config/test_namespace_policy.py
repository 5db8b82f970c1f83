"""A platform team's rules: read from a ConfigMap, each wrong value told with its place."""

import pytest

from skjob.config.namespace_policy import Limits, NamespacePolicy, NodeKind, Price, Prices, Scheduling, parse_rules
from skjob.errors import ConfigError

ORIGIN = "ConfigMap team/skjob-defaults"


def test_nothing_said() -> None:
    assert parse_rules({"image": "mine", "workers": "many"}, ORIGIN) == NamespacePolicy(limits=Limits(origin=ORIGIN))


def test_everything_said() -> None:
    data = {
        "team": "data-science",
        "most-workers": "20",
        "most-cpu": "40",
        "most-memory": "160Gi",
        "most-time": "8h",
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


def test_a_price_may_be_as_small_as_helm_writes_it() -> None:
    rules = parse_rules({"prices": "- cpu-hour: 5e-05\n  gib-hour: 1e-07\n"}, "x")
    assert rules.prices.entries == (Price(5e-05, 1e-07),)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("most-workers", "0", "must be a number of at least 1, not `0`"),
        ("most-workers", "2.5", "must be a number of at least 1, not `2.5`"),
        ("most-cpu", "none", "must be a quantity such as `500m`, `2` or `2Gi`, not `none`"),
        ("most-memory", "0", "must be an amount of memory such as `64Gi`, not `0`"),
        ("most-time", "1d", "must be a duration such as `90s`, `5m` or `1h30m`, not `1d`"),
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
    assert caught.value.hint == "the ConfigMap is the platform team's to mend"


def test_yaml_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"`prices` in `.*` is not valid YAML: while parsing"):
        parse_rules({"prices": "[{"}, ORIGIN)


def test_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules({"most-workers": "x", "most-time": "y", "team": "fine"}, ORIGIN)
    assert [problem.split(" must")[0] for problem in caught.value.problems] == [
        f"`most-workers` in `{ORIGIN}`",
        f"`most-time` in `{ORIGIN}`",
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
