"""A platform team's node pools: what the ConfigMap may say of them, and the rules for a run in one of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from skjob.config.namespace_policy import NamespacePolicy, parse_rules
from skjob.config.nodes import Price, Scheduling
from skjob.config.plan import Machine, Plan, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

ORIGIN = "ConfigMap t/skjob-defaults"
TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
BATCH: dict[str, Any] = {"name": "batch", "node-selector": {"pool": "batch"}}
GPU: dict[str, Any] = {
    "name": "gpu",
    "node-selector": {"pool": "gpu"},
    "tolerations": [TOLERATION],
    "limits": {"max-workers": 4, "max-gpus": 6},
    "price": {"cpu-hour": 0.05, "gib-hour": 0.006, "gpu-hour": 2.5},
    "spot": True,
}


def rules_with(*pools: dict[str, Any], **data: str) -> NamespacePolicy:
    named = {name.replace("_", "-").replace("limits-", "limits."): text for name, text in data.items()}
    return parse_rules({"node-pools": yaml.safe_dump([*pools]), **named}, ORIGIN)


def plan_of(rules: NamespacePolicy, place: Place = Place.KUBERNETES, **settings: Any) -> Plan:
    return make_plan(Settings(**settings), place, "as requested", Machine(4, 2**33), "3.12", rules)


def test_a_run_is_in_the_first_pool_or_the_one_it_names() -> None:
    rules = rules_with(BATCH, GPU, priority_class="low", limits_max_workers="9")
    first = rules.in_pool(None)
    assert first.node_pool is not None
    assert (first.node_pool.name, first.limits.workers, first.limits.gpus) == ("batch", 9, 0)
    assert first.scheduling == first.support_scheduling == Scheduling({"pool": "batch"}, (), "low")
    gpu = rules.in_pool("gpu")
    assert (gpu.limits.workers, gpu.limits.gpus) == (4, 6)
    assert gpu.limits.origin == f"{ORIGIN}, node pool `gpu`"
    assert gpu.scheduling == Scheduling({"pool": "gpu"}, (TOLERATION,), "low")


def test_schedulers_are_on_no_nodes_that_may_be_taken_away_unless_the_team_says_so() -> None:
    assert rules_with(BATCH, GPU).in_pool("gpu").support_scheduling == Scheduling({"pool": "batch"})
    in_pool = rules_with(BATCH, GPU | {"schedulers": True}).in_pool("gpu")
    assert in_pool.support_scheduling == in_pool.scheduling
    kept_off = rules_with(BATCH, GPU | {"spot": False, "schedulers": False}).in_pool("gpu")
    assert kept_off.support_scheduling == Scheduling({"pool": "batch"})


def test_all_pods_of_a_run_have_one_architecture() -> None:
    arm = {"name": "arm", "node-selector": {"pool": "arm", "kubernetes.io/arch": "arm64"}}
    intel = {"name": "intel", "node-selector": {"pool": "intel", "kubernetes.io/arch": "amd64"}}
    spot = {"name": "spot", "node-selector": {"pool": "spot", "kubernetes.io/arch": "arm64"}, "spot": True}
    rules = rules_with(intel, arm, spot)
    assert rules.in_pool("spot").support_scheduling.node_selector["pool"] == "arm"
    assert rules.in_pool("spot").architecture == "arm64"
    # Where a pool does not say, what the user asks for counts for scheduler and workers.
    plan = plan_of(rules_with(GPU, intel, BATCH), node_pool="gpu", arch="arm64")
    assert plan.rules.scheduling.node_selector == {"pool": "gpu", "kubernetes.io/arch": "arm64"}
    assert plan.rules.support_scheduling.node_selector == {"pool": "batch", "kubernetes.io/arch": "arm64"}
    with pytest.raises(ConfigError) as caught:
        plan_of(rules, node_pool="arm", arch="amd64")
    assert caught.value.message == "`arch` is `amd64`, and node pool `arm` has nodes of `arm64`"
    with pytest.raises(ConfigError, match="no node pool takes the scheduler of a run on `arm64`"):
        plan_of(rules_with(GPU, intel), node_pool="gpu", arch="arm64")


def test_a_pools_own_price_counts_before_the_others() -> None:
    rules = rules_with(BATCH, GPU, prices="[{cpu-hour: 1, gib-hour: 2, gpu-hour: 3}]")
    assert rules.prices.of({"pool": "gpu", "zone": "a"}) == Price(0.05, 0.006, {"pool": "gpu"}, 2.5)
    assert rules.prices.of({"pool": "batch"}) == Price(1.0, 2.0, {}, 3.0)


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ([{"name": "a"}], "entry 1 lacks `node-selector`"),
        ([BATCH | {"spott": True}], "entry 1 has `spott`, which there is not"),
        ([BATCH | {"name": "A b"}], "`name` must be small letters, digits and hyphens, not `A b`"),
        ([BATCH | {"node-selector": {}}], "`node-selector` must have labels that no other nodes have"),
        ([BATCH | {"tolerations": [{"effect": "Never"}]}], "`effect` must be one of"),
        ([BATCH | {"tolerations": {"key": "a"}}], "`tolerations` must be a list"),
        ([BATCH | {"limits": {"max-gpus": -1}}], "`limits.max-gpus` must be a number of at least 0, not `-1`"),
        ([BATCH | {"limits": {"max-time": "1h"}}], "`limits` must be a map with `max-workers`"),
        ([BATCH | {"price": {"cpu-hour": 1}}], "`price` must be such as"),
        ([BATCH | {"price": {"cpu-hour": 1, "gib-hour": "x"}}], "`price` `gib-hour` must be a number of at least 0"),
        ([BATCH | {"spot": "yes"}], "`spot` must be `true` or `false`"),
        ([BATCH, BATCH], "has two pools called `batch`"),
        ([BATCH, GPU | {"node-selector": {"zone": "a"}}], "has pools that may share nodes, `batch` and `gpu`"),
        ([BATCH, GPU | {"node-selector": {"pool": "batch", "x": "y"}}], "has pools that may share nodes"),
        ([GPU], "has no pool for the schedulers of runs in `gpu`: set `schedulers: true` of one"),
    ],
)
def test_what_is_wrong_with_pools(pools: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules_with(*pools)
    assert said in caught.value.message


def test_beside_pools_no_other_nodes_can_be_named() -> None:
    with pytest.raises(ConfigError) as caught:
        rules_with(BATCH, node_selector="{a: b}", tolerations="[{operator: Exists}]")
    assert caught.value.problems == [
        f"`{key}` in `{ORIGIN}` says nothing beside `node-pools`: put it into a pool"
        for key in ("node-selector", "tolerations")
    ]


@pytest.mark.parametrize(
    ("pools", "there"), [((BATCH, GPU), "the namespace has `batch`, `gpu`"), ((), "the namespace has none")]
)
def test_a_pool_that_is_not_there(pools: tuple[dict[str, Any], ...], there: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(rules_with(*pools), node_pool="other")
    assert caught.value.message == f"there is no node pool `other`: {there}"


# ---- GPUs


def test_a_worker_with_gpus_runs_one_fit_at_a_time() -> None:
    plan = plan_of(rules_with(BATCH, GPU), node_pool="gpu", worker_gpu=2, worker_cpu=8.0, workers=WorkerRange(1, 9))
    assert (plan.size.gpus, plan.size.threads, plan.width) == (2, 1, 3)
    assert plan.limited == {
        "workers": f"1:3 workers instead of 1:9: `limits.max-gpus`, 6, of {plan.rules.limits.origin}"
    }
    assert plan_of(rules_with(BATCH, GPU), node_pool="gpu", worker_cpu=8.0).size.threads == 8


@pytest.mark.parametrize(
    ("rules", "most"),
    [
        (NamespacePolicy(), "0"),
        (rules_with(BATCH), f"0, of {ORIGIN}"),
        (parse_rules({"limits.max-gpus": "1"}, ORIGIN), f"1, of {ORIGIN}"),
    ],
)
def test_no_gpu_unless_the_platform_team_says_so(rules: NamespacePolicy, most: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(rules, worker_gpu=2)
    assert caught.value.message == f"a worker of 2 GPUs is more than a run may have, `limits.max-gpus`, {most}"


def test_on_this_machine_nothing_of_it_counts_and_each_is_said() -> None:
    plan = plan_of(NamespacePolicy(), Place.LOCAL, worker_gpu=2, node_pool="gpu", arch="arm64")
    assert plan.size.gpus == 0
    assert plan.limited == {
        "gpu": "ignoring `worker-gpu`: on this machine each fit sees the GPUs that the program sees",
        "pool": "ignoring `node-pool`: this machine is in none",
        "arch": "ignoring `arch`: this machine has its own",
    }


def test_a_limit_of_gpus_is_among_the_others_in_words() -> None:
    assert str(parse_rules({"limits.max-workers": "2", "limits.max-gpus": "1"}, ORIGIN).limits) == "2 workers, 1 GPU"
