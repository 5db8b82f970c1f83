"""Measure what a cluster costs while it runs: every few seconds, published on its anchor, recorded in the ledger.

`skjob ps` reads the anchor, `skjob costs` the ledger. Nothing here ends a run or makes one fail: if the API is
unreachable, it is tried again, and until then the pods that were seen last are assumed to go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import Price
from skjob.config.plan import WorkerSize
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry
from skjob.deploy.kubernetes.costs.prices import (
    Cost,
    Meter,
    gpus_held,
    hourly,
    possible_prices,
    prices_in,
    rates,
    rounded,
)
from skjob.deploy.kubernetes.diagnosis.evidence import SCHEDULER, WORKER, role_of_pod
from skjob.deploy.kubernetes.diagnosis.nodes import labels_of
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import COST_ANNOTATION, RUN_LABEL
from skjob.errors import ForbiddenError, SkjobError
from skjob.utils.notify import Notify
from skjob.utils.periodic import PeriodicThread

_MEASURE_INTERVAL = 5.0
WRITE_INTERVAL = 30.0
JOIN_TIMEOUT = 2.0


@dataclass(frozen=True)
class BillingKey:
    """Where the ledger books a cost: the key of its entry, the user and the program."""

    key: str
    user: str
    program: str


class NodePrices:
    """Prices that a node may have: its own if the user may read nodes, else every possible one."""

    def __init__(self, api: Api, rules: NamespacePolicy) -> None:
        self._api = api
        self._rules = rules
        self._may_read_nodes = True
        self._known: dict[str, Sequence[Price]] = {}
        self.of_workers = possible_prices(rules)
        self.of_scheduler = prices_in(rules, rules.support_scheduling.node_selector)

    def __call__(self, pod: Manifest) -> Sequence[Price]:
        """Return the possible prices of a pod's node; all prices if none matches it."""
        node = str(pod["spec"]["nodeName"])
        if node not in self._known and self._may_read_nodes:
            try:
                price = self._rules.prices.of(labels_of(self._api.get("Node", node)))
                self._known[node] = (price,) if price is not None else self._rules.prices.entries
            except ForbiddenError:
                self._may_read_nodes = False
            except SkjobError:
                return self._possible(pod)  # tried again next time
        return self._known.get(node) or self._possible(pod)

    def _possible(self, pod: Manifest) -> Sequence[Price]:
        return self.of_scheduler if role_of_pod(pod) == SCHEDULER else self.of_workers


class CostMeter:
    """Measures the costs of a cluster's pods from the request until `finalize`, in a thread of its own.

    `requested` returns how many workers were requested, `lifetime` for how many seconds the cluster lives on if this
    process dies now. `before` is what the cluster had cost when this run began to use it, None if the run started it.
    """

    def __init__(
        self,
        api: Api,
        cluster: str,
        run_id: str,
        billing_key: BillingKey,
        rules: NamespacePolicy,
        worker: WorkerSize,
        scheduler: tuple[float, float],
        requested: Callable[[], int],
        lifetime: Callable[[], float],
        notify: Notify,
        before: Cost | None = None,
    ) -> None:
        self._api = api
        self._namespace = api.context.namespace
        self._cluster = cluster
        self._selector = f"{RUN_LABEL}={run_id}"
        self._billing_key = billing_key
        self._rules = rules
        self._requested = requested
        self._lifetime = lifetime
        self._notify = notify
        self._before = before
        self._began = datetime.now(UTC)
        self._meter = Meter(_seconds())
        self._gpu_meter = Meter(_seconds())
        self._worker_gpus = worker.gpus
        self._prices = NodePrices(api, rules)
        self._worker_rate = hourly(worker.cpu, worker.memory, self._prices.of_workers, worker.gpus)
        self._scheduler_rate = hourly(*scheduler, self._prices.of_scheduler)
        self._workers = 0
        self._schedulers = 0
        self._has_ledger = True
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._written_at = -WRITE_INTERVAL
        self._thread = PeriodicThread("skjob-costs", self._measure, first=self._measure)

    def start(self) -> None:
        """Start measuring."""
        self._thread.start(_MEASURE_INTERVAL)

    def cost(self) -> Cost:
        """Return what this run has cost so far, and the hourly rate with all requested workers."""
        with self._lock:
            now, rate = _seconds(), self._meter.rate
            pending = max(0, self._requested() - self._workers)
            rate += pending * self._worker_rate
            rate += max(0, 1 - self._schedulers) * self._scheduler_rate
            gpu_hours = self._gpu_meter.amount(now, self._gpu_meter.rate + pending * self._worker_gpus)
            currency = self._rules.prices.currency
            return Cost(self._meter.amount(now, rate), rate, datetime.now(UTC), currency, gpu_hours)

    def finalize(self, lifetime: float = 0.0, workers: int = 0) -> Cost:
        """Stop measuring and return the total. With `lifetime`, that many `workers` stay for so many seconds.

        Pods that came since the last measurement were never seen: every requested worker counts as running. Never
        raise: what cannot be written is left out.
        """
        self._thread.stop()
        self._thread.join(JOIN_TIMEOUT)
        rate = self._scheduler_rate + workers * self._worker_rate if lifetime else 0.0
        cost = replace(self.cost(), rate=rate)
        now = cost.at
        if lifetime:
            self._publish(cost)
        own_cost = cost if self._before is None else replace(cost, rate=0.0)
        with self._writing:
            is_written = self._write(own_cost, now + timedelta(seconds=lifetime), workers if own_cost.rate else 0)
        if is_written:
            ledger.compact(self._api, self._namespace, now)
        return cost

    def _measure(self) -> None:
        with suppress(Exception):  # the next measurement may succeed
            self._read_pods()
            if _seconds() - self._written_at >= WRITE_INTERVAL and not self._thread.stopped:
                self._written_at = _seconds()
                cost = self.cost()
                self._publish(cost)
                with self._writing:
                    if not self._thread.stopped:  # else it would overwrite the final cost
                        self._write(cost, cost.at + timedelta(seconds=self._lifetime()), self._requested())

    def _read_pods(self) -> None:
        pods = self._api.list("Pod", self._namespace, selector=self._selector)
        hourly_rates = rates(pods, self._prices)
        with self._lock:
            self._meter.see(_seconds(), hourly_rates)
            self._gpu_meter.see(_seconds(), gpus_held(pods))
            self._workers = _count_role(pods, hourly_rates, WORKER)
            self._schedulers = _count_role(pods, hourly_rates, SCHEDULER)

    def _publish(self, cost: Cost) -> None:
        """Write the cost to the anchor, including what the cluster had cost before."""
        if self._before is not None:
            cost = replace(cost, amount=self._before.amount + cost.amount)
        patch = {"metadata": {"annotations": {COST_ANNOTATION: cost.as_json()}}}
        with suppress(SkjobError):
            self._api.patch("Job", self._cluster, self._namespace, patch)

    def _write(self, cost: Cost, until: datetime, workers: int) -> bool:
        """Write the cost to the ledger, with that of `workers` until then; return whether that succeeded."""
        if not self._has_ledger:
            return False
        entry = Entry(
            user=self._billing_key.user,
            program=self._billing_key.program,
            began=self._began.isoformat(timespec="seconds"),
            amount=rounded(cost.amount),
            currency=cost.currency,
            rate=rounded(cost.rate),
            at=cost.at.isoformat(timespec="seconds"),
            until=until.isoformat(timespec="seconds") if cost.rate else "",
            pool=self._rules.node_pool.name if self._rules.node_pool is not None else "",
            gpu_hours=rounded(cost.gpu_hours),
            gpus=workers * self._worker_gpus,
        )
        try:
            ledger.record(self._api, self._namespace, self._billing_key.key, entry)
        except SkjobError as error:
            self._has_ledger = not isinstance(error, ledger.NO_LEDGER)
            if not self._has_ledger:
                self._notify(ledger.why_not(error, self._namespace))
            return False
        return True


def _count_role(pods: Sequence[Manifest], counted: dict[str, float], role: str) -> int:
    return sum(pod["metadata"]["uid"] in counted and role_of_pod(pod) == role for pod in pods)


def _seconds() -> float:
    """Return the time of a clock that runs while the machine sleeps, if there is one: the cluster does not sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
