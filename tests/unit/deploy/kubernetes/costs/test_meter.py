"""Test how a run publishes its costs, and when costs stop it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clocks import DEADLINE, wait_for

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import NodeKind, NodePool, Price, Prices, Scheduling
from skjob.config.plan import Machine, Plan, WorkerSize, make_plan
from skjob.config.settings import Place, Settings
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.costs import meter
from skjob.deploy.kubernetes.costs.ledger import read_entries
from skjob.deploy.kubernetes.costs.meter import BillingKey, CostMeter, NodePrices
from skjob.deploy.kubernetes.costs.prices import Cost, read_cost
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ForbiddenError, Unanswered
from skjob.run.budget import RunBudget

BATCH, ANY = Price(2.0, 0.0, {"pool": "batch"}), Price(10.0, 0.0)
RULES = NamespacePolicy(prices=Prices((BATCH, ANY), "EUR"), scheduling=Scheduling({"pool": "batch"}))
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def _pod(uid: str, component: str, cpu: str, node: str | None = "a") -> Manifest:
    labels = {"dask.org/component": component}
    spec = {"containers": [{"resources": {"requests": {"cpu": cpu}}}]} | ({"nodeName": node} if node else {})
    return {"metadata": {"uid": uid, "labels": labels}, "spec": spec, "status": {"phase": "Running"}}


PODS = [_pod("s", "scheduler", "1"), _pod("w1", "worker", "4"), _pod("w2", "worker", "4", node=None)]


class _Kept(Api):
    """A fake API with pods, nodes, an anchor and a ledger; what the user may not access raises an error."""

    def __init__(self, *, ledger: bool = True, nodes: dict[str, dict[str, str]] | None = None) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.pods = PODS
        self.nodes = nodes
        self.asked: list[str] = []
        self.annotations: dict[str, str] = {}
        self.ledger: dict[str, str] | None = {} if ledger else None
        self.told = threading.Event()

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        assert (kind, namespace, selector) == ("Pod", "team", "skjob/run=1")
        return self.pods

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        if kind == "Node":
            self.asked.append(name)
            if self.nodes is None:
                raise ForbiddenError("nodes is forbidden")
            return {"metadata": {"name": name, "labels": self.nodes[name]}}
        assert (kind, name) == ("ConfigMap", "skjob-costs")
        if self.ledger is None:
            raise NotFound("not found")
        return {"metadata": {"resourceVersion": "1"}, "data": dict(self.ledger)}

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        if kind == "Job":
            assert name == "skjob-train-1"
            self.annotations |= patch["metadata"]["annotations"]
            return {}
        assert (kind, name) == ("ConfigMap", "skjob-costs")
        self.told.set()
        if self.ledger is None:
            raise NotFound("not found")
        self.ledger |= patch["data"]
        return {}


@pytest.fixture
def watch_of() -> Iterator[Callable[..., CostMeter]]:
    watches: list[CostMeter] = []

    def make(api: Api, *, notes: list[str] | None = None, before: Cost | None = None) -> CostMeter:
        tell = [].append if notes is None else notes.append
        watches.append(
            CostMeter(
                api,
                "skjob-train-1",
                "1",
                BillingKey("1", "ann", "train"),
                RULES,
                WorkerSize(4.0, 2**30, 4),
                (1.0, 2.0**30),
                lambda: 3,
                lambda: 300.0,
                tell,
                before,
            )
        )
        return watches[-1]

    yield make
    for watch in watches:
        watch.finalize()


def _told(api: _Kept, watch: CostMeter) -> None:
    watch.start()
    assert api.told.wait(DEADLINE)


def test_what_is_told_while_it_goes_on_and_in_the_end(watch_of: Callable[..., CostMeter]) -> None:
    api = _Kept()
    watch = watch_of(api)
    _told(api, watch)
    # A running scheduler and worker, a worker without a node, and one without a pod.
    assert watch.cost().rate == 2.0 * (1 + 4 + 4 + 4)
    assert watch.cost().currency == "EUR"
    on_anchor = read_cost(api.annotations["skjob/cost"])
    assert on_anchor is not None
    assert on_anchor.rate == 26.0
    entry = read_entries(api.ledger or {})["1"]
    assert (entry.user, entry.program, entry.rate, entry.currency) == ("ann", "train", 26.0, "EUR")
    assert datetime.fromisoformat(entry.until) - datetime.fromisoformat(entry.at) == timedelta(seconds=300)

    final = watch.finalize()
    assert final.rate == 0
    ended = read_entries(api.ledger or {})["1"]
    assert (ended.rate, ended.at <= final.at.isoformat(), ended.until) == (0, True, "")
    assert ended.amount == pytest.approx(final.amount, abs=1e-6)


def test_what_came_since_the_last_look_costs_something(watch_of: Callable[..., CostMeter]) -> None:
    """Otherwise a run of a few seconds would cost nothing: the first measurement is made before there are pods."""
    api = _Kept()
    api.pods = []
    watch = watch_of(api)
    _told(api, watch)
    assert watch.finalize().amount > 0


class _Turns:
    """A lock that counts the attempts to acquire it."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.asked += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_nothing_is_written_over_what_was_settled(
    watch_of: Callable[..., CostMeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was in progress and took longer than anybody waits for it."""
    monkeypatch.setattr(meter, "JOIN_TIMEOUT", 0.01)
    api, answers, written = _Kept(), threading.Event(), threading.Semaphore(0)
    patch = api.patch

    def patch_in_time(
        kind: str, name: str, namespace: str, body: Manifest, *, timeout: float | None = None
    ) -> Manifest:
        if kind == "ConfigMap" and not api.told.is_set():
            api.told.set()
            answers.wait(DEADLINE)
        patch(kind, name, namespace, body, timeout=timeout)
        if kind == "ConfigMap":
            written.release()
        return {}

    monkeypatch.setattr(api, "patch", patch_in_time)
    watch = watch_of(api)
    watch._writing = turns = _Turns()
    _told(api, watch)
    settling = threading.Thread(target=watch.finalize)
    settling.start()
    wait_for(lambda: turns.asked == 2 or not settling.is_alive())  # otherwise it has written by now
    answers.set()
    settling.join(DEADLINE)
    assert written.acquire(timeout=DEADLINE)
    assert written.acquire(timeout=DEADLINE)
    assert read_entries(api.ledger or {})["1"].until == ""


def test_a_cluster_that_is_left_goes_on_costing(watch_of: Callable[..., CostMeter]) -> None:
    api = _Kept()
    watch = watch_of(api)
    _told(api, watch)
    watch.finalize(lifetime=7200.0, workers=1)
    on_anchor = read_cost(api.annotations["skjob/cost"])
    entry = read_entries(api.ledger or {})["1"]
    assert on_anchor is not None
    assert (on_anchor.rate, entry.rate) == (10.0, 10.0)
    assert datetime.fromisoformat(entry.until) - datetime.fromisoformat(entry.at) == timedelta(hours=2)


def test_a_run_on_a_cluster_that_was_left_pays_for_its_use_alone(watch_of: Callable[..., CostMeter]) -> None:
    api = _Kept()
    watch = watch_of(api, before=Cost(100.0, 0.0, NOW, "EUR"))
    _told(api, watch)
    assert watch.cost().amount < 1
    final = watch.finalize(lifetime=7200.0, workers=1)
    assert final.amount < 1
    assert final.rate == 10.0
    on_anchor = read_cost(api.annotations["skjob/cost"])
    assert on_anchor is not None
    assert 100 < on_anchor.amount < 101
    entry = read_entries(api.ledger or {})["1"]
    assert (entry.amount < 1, entry.rate, entry.until) == (True, 0, "")


def test_without_a_ledger_it_says_so_once_and_asks_no_more(watch_of: Callable[..., CostMeter]) -> None:
    api, notes = _Kept(ledger=False), list[str]()
    watch = watch_of(api, notes=notes)
    _told(api, watch)
    watch.finalize()
    [note] = notes
    assert note.startswith("costs are not added to the team's totals: namespace `team` has no ConfigMap")
    assert json.loads(api.annotations["skjob/cost"])["rate"] == 26.0


def test_the_price_of_a_node_that_may_be_looked_at() -> None:
    api = _Kept(nodes={"a": {"pool": "batch"}, "b": {}, "c": {"pool": "batch"}})
    prices = NodePrices(api, RULES)
    assert [prices(_pod("w", "worker", "1", node)) for node in ("a", "b", "a")] == [(BATCH,), (ANY,), (BATCH,)]
    assert api.asked == ["a", "b"]
    # A node that matches no price may cost as much as any.
    only = NodePrices(api, replace(RULES, prices=Prices((BATCH,))))
    assert only(_pod("w", "worker", "1", "b")) == (BATCH,)


def test_the_price_of_a_node_that_may_not() -> None:
    api = _Kept()
    kinds = (NodeKind("n", 1, 1, labels={"pool": "batch"}), NodeKind("m", 1, 1, labels={"pool": "web"}))
    prices = NodePrices(api, replace(RULES, nodes=kinds))
    assert [prices(_pod("w", "worker", "1", node)) for node in ("a", "b")] == [(BATCH,), (BATCH,)]
    assert api.asked == ["a"]


def test_pods_in_two_pools_have_the_prices_of_both_where_nodes_may_not_be_looked_at() -> None:
    pools = (NodePool("batch", {"pool": "batch"}), NodePool("spot", {"pool": "spot"}, spot=True, schedulers=False))
    spot = Price(0.5, 0.0, {"pool": "spot"})
    rules = NamespacePolicy(prices=Prices((spot, BATCH)), node_pools=pools).in_pool("spot")
    prices = NodePrices(_Kept(), rules)
    assert [prices(pod) for pod in PODS[:2]] == [(BATCH,), (spot,)]


def test_gpu_hours_are_measured_and_go_into_the_ledger_with_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(meter, "_seconds", lambda: now)
    pools = (NodePool("gpu", {"pool": "gpu"}),)
    rules = NamespacePolicy(prices=Prices((Price(0.0, 0.0, {}, 10.0),)), node_pools=pools).in_pool("gpu")
    api = _Kept()
    pod = _pod("w1", "worker", "1")
    pod["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "2"}
    api.pods = [pod]
    size, key = WorkerSize(1.0, 2**30, 1, gpus=2), BillingKey("1", "ann", "train")
    watch = CostMeter(api, "skjob-train-1", "1", key, rules, size, (0.0, 0.0), lambda: 1, lambda: 300.0, lambda _: None)
    watch._measure()
    now = 1800.0
    assert (watch.cost().gpu_hours, watch.cost().amount) == (1.0, 10.0)
    watch.finalize(lifetime=3600.0, workers=1)
    entry = read_entries(api.ledger or {})["1"]
    assert (entry.pool, entry.gpu_hours, entry.gpus) == ("gpu", 1.0, 2)
    assert entry.gpu_hours_by(datetime.fromisoformat(entry.at) + timedelta(minutes=30)) == 2.0


def test_a_node_is_looked_for_again_when_the_api_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    api = _Kept(nodes={"a": {"pool": "web"}})
    prices = NodePrices(api, RULES)
    with monkeypatch.context() as away:
        away.setattr(api, "get", lambda *_: (_ for _ in ()).throw(Unanswered("away")))
        assert prices(PODS[0]) == (BATCH,)
    assert prices(PODS[0]) == (ANY,)


# -------------------------------------------------------------------------------------- when costs stop a run


def _plan(**settings: Any) -> Plan:
    return make_plan(Settings(**settings), Place.KUBERNETES, "", Machine(1, 1), "3.11", RULES)


@pytest.mark.parametrize(
    ("amount", "stops"),
    [(1.0, False), (4.69, False), (4.71, True), (5.0, True), (6.0, True)],
)
def test_a_run_stops_while_its_removal_can_still_be_paid(amount: float, stops: bool) -> None:
    """At 36 per hour, the 30 seconds that this may take cost 0.30."""
    limit = RunBudget(time.monotonic(), _plan(max_cost=5.0), lambda: Cost(amount, 36.0, NOW, "EUR"))
    error = limit.reached()
    assert (error is not None) is stops
    if error is not None:
        assert error.exit_code == 125
        assert error.message == (
            f"the run has cost {amount:.2f} EUR, and would cost more than `--max-cost`, 5.00 EUR, by the time it is"
            " removed"
        )
        assert error.hint.endswith("run the same command again to resume")


def test_a_run_without_a_limit_or_without_prices_goes_on() -> None:
    RunBudget(time.monotonic(), _plan(), lambda: Cost(1e9, 1.0, NOW, "EUR")).check()
    RunBudget(time.monotonic(), _plan(max_cost=5.0, max_time=60.0), lambda: None).check()


def test_a_run_stops_when_its_time_is_over() -> None:
    error = RunBudget(time.monotonic() - 61, _plan(max_time=60.0), lambda: None).reached()
    assert error is not None
    assert error.message == "the run has reached `--max-time`, 60 s"


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (36.0, "`max-cost`, 5.00 EUR, lasts for 7 min with 4 workers"),
        (2.0, "`max-cost`, 5.00 EUR, lasts for 2.0 h with 4 workers"),
        (0.0, ""),
    ],
)
def test_the_time_that_max_cost_lasts_for(rate: float, told: str) -> None:
    assert RunBudget(0.0, _plan(max_cost=5.0), lambda: Cost(1.0, rate, NOW, "EUR")).describe_remaining(4) == told
