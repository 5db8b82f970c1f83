"""Count the costs of one cluster, if prices are known, and compare them with `max-cost`."""

from __future__ import annotations

import math
from collections.abc import Callable

from skjob.config.plan import CLOSING_SECONDS, Plan, WorkerSize
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.costs.meter import BillingKey, CostMeter
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.deploy.kubernetes.manifests.labels import RunNames
from skjob.deploy.kubernetes.manifests.run import SCHEDULER_CPU, scheduler_memory
from skjob.errors import StartError
from skjob.utils.notify import Notify
from skjob.utils.units import parse_quantity

REMOVAL_SECONDS = 10.0
"""Seconds after a cluster's deadline in which its last pod may still exist; two or three are usual."""


class ClusterCosts:
    """Costs of a cluster. `requested` returns how many workers were requested."""

    def __init__(self, api: Api, names: RunNames, plan: Plan, requested: Callable[[], int], notify: Notify) -> None:
        self._api = api
        self._names = names
        self._rules = plan.rules
        self._max_cost = plan.max_cost
        self._requested = requested
        self._notify = notify
        self._meter: CostMeter | None = None
        self._final: Cost | None = None

    def start(
        self, key: BillingKey, size: WorkerSize, lifetime: Callable[[], float], before: Cost | None = None
    ) -> None:
        """Count costs from now on, if the namespace has prices. For `lifetime` and `before` see `CostMeter`."""
        if self._rules.prices.entries:
            scheduler = parse_quantity(SCHEDULER_CPU), scheduler_memory(size)
            self._meter = CostMeter(
                self._api, self._names.cluster, self._names.run_id, key, self._rules, size, scheduler,
                self._requested, lifetime, self._notify, before,
            )  # fmt: skip
            self._meter.start()

    def cost(self) -> Cost | None:
        """Return what this run has cost so far, and the hourly rate with all requested workers."""
        return self._final if self._meter is None else self._meter.cost()

    def finalize(self, lifetime: float = 0.0) -> Cost | None:
        """Stop counting and return the cost.

        The cluster is being removed, or left running for `lifetime` seconds with its workers.
        """
        if self._meter is not None:
            self._final, self._meter = self._meter.finalize(lifetime, self._requested()), None
        return self._final

    def affordable_seconds(self) -> float:
        """Return how many seconds away the deadline may be: pods cost money until they are gone."""
        return max(0.0, self._seconds_left() - REMOVAL_SECONDS)

    def check(self) -> None:
        """Raise StartError if the cluster has spent `max-cost` while it was still starting."""
        if self._seconds_left() < CLOSING_SECONDS:
            raise StartError(f"`{self._names.cluster}` spent `max-cost` before it started")

    def _seconds_left(self) -> float:
        cost = self.cost()
        return math.inf if cost is None or self._max_cost is None else cost.seconds_left(self._max_cost)
