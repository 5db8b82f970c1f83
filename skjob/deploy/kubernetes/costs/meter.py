"""What a cluster of ours costs while it runs: looked at every few seconds, told to others, written in the ledger.

Others read it from the anchor (`skjob ps`) and from the ledger (`skjob costs`). Nothing here ends a run, or makes one
fail: an API that is away is asked again, and until then what was seen last goes on costing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from skjob.config.namespace_policy import NamespacePolicy, Price
from skjob.config.plan import WorkerSize
from skjob.deploy.kubernetes.api.client import Api, Manifest
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry
from skjob.deploy.kubernetes.costs.prices import Cost, Meter, hourly, possible_prices, rates
from skjob.deploy.kubernetes.diagnosis.nodes import labels_of
from skjob.deploy.kubernetes.manifests.labels import COST_ANNOTATION, RUN_LABEL
from skjob.errors import ForbiddenError, SkjobError

LOOK_EVERY = 5.0
TELL_EVERY = 30.0
JOIN_TIMEOUT = 2.0


@dataclass(frozen=True)
class BillingKey:
    """What is written of a cost, beside the amount: the key of its entry, whose it is, and for which program."""

    key: str
    user: str
    program: str


class NodePrices:
    """The prices that a node may have: its own where nodes may be looked at, else any that it may have."""

    def __init__(self, api: Api, rules: NamespacePolicy) -> None:
        self._api = api
        self._rules = rules
        self._may_look = True
        self._known: dict[str, Sequence[Price]] = {}
        self.possible = possible_prices(rules)

    def __call__(self, node: str) -> Sequence[Price]:
        """Those of a node by its name; where no price fits it, all of them."""
        if node not in self._known and self._may_look:
            try:
                price = self._rules.prices.of(labels_of(self._api.get("Node", node)))
                self._known[node] = (price,) if price is not None else self._rules.prices.entries
            except ForbiddenError:
                self._may_look = False
            except SkjobError:
                return self.possible  # it is asked for again
        return self._known.get(node, self.possible)


class CostMeter:
    """Looks at a cluster's pods, from the moment they are asked for until `finalize`, in a thread of its own.

    `asked` tells how many workers there are to be, `lives` for how many seconds all goes on if this process dies now.
    `before` is what the cluster had cost when this run began to use it, None for a cluster of its own.
    """

    def __init__(
        self,
        api: Api,
        cluster: str,
        run_id: str,
        account: BillingKey,
        rules: NamespacePolicy,
        worker: WorkerSize,
        scheduler: tuple[float, float],
        asked: Callable[[], int],
        lives: Callable[[], float],
        note: Callable[[str], None],
        before: Cost | None = None,
    ) -> None:
        self._api = api
        self._namespace = api.context.namespace
        self._cluster = cluster
        self._selector = f"{RUN_LABEL}={run_id}"
        self._account = account
        self._rules = rules
        self._asked = asked
        self._lives = lives
        self._note = note
        self._before = before
        self._began = datetime.now(UTC)
        self._meter = Meter(_seconds())
        self._prices = NodePrices(api, rules)
        self._worker_rate = hourly(worker.cpu, worker.memory, self._prices.possible)
        self._scheduler_rate = hourly(*scheduler, self._prices.possible)
        self._workers = 0
        self._schedulers = 0
        self._has_ledger = True
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-costs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def cost(self) -> Cost:
        """What this run has cost by now, and what an hour costs with all workers that were asked for."""
        with self._lock:
            rate = self._meter.rate
            rate += max(0, self._asked() - self._workers) * self._worker_rate
            rate += max(0, 1 - self._schedulers) * self._scheduler_rate
            return Cost(self._meter.amount(_seconds(), rate), rate, datetime.now(UTC), self._rules.prices.currency)

    def finalize(self, left_for: float = 0.0, workers: int = 0) -> Cost:
        """Look no more; what it has cost in all. With `left_for`, so many workers stay for so many seconds.

        What came since the last look was never seen: all that was asked for counts as there. Raises nothing: what can't
        be told is not told.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT)
        rate = self._scheduler_rate + workers * self._worker_rate if left_for else 0.0
        spending = replace(self.cost(), rate=rate)
        now = spending.at
        if left_for:
            self._tell_others(spending)
        own = spending if self._before is None else replace(spending, rate=0.0)
        with self._writing:
            is_written = self._write(own, now + timedelta(seconds=left_for))
        if is_written:
            ledger.compact(self._api, self._namespace, now)
        return spending

    def _run(self) -> None:
        told = -TELL_EVERY
        while not self._stop.is_set():
            with suppress(Exception):  # the next look sees it
                self._look()
                if _seconds() - told >= TELL_EVERY and not self._stop.is_set():
                    told = _seconds()
                    spending = self.cost()
                    self._tell_others(spending)
                    with self._writing:
                        if not self._stop.is_set():  # else it would be written over what was settled
                            self._write(spending, spending.at + timedelta(seconds=self._lives()))
            self._stop.wait(LOOK_EVERY)

    def _look(self) -> None:
        pods = self._api.list("Pod", self._namespace, selector=self._selector)
        found = rates(pods, self._prices)
        with self._lock:
            self._meter.see(_seconds(), found)
            self._workers = _with_component(pods, found, "worker")
            self._schedulers = _with_component(pods, found, "scheduler")

    def _tell_others(self, spending: Cost) -> None:
        """On the anchor, with what it had cost before."""
        if self._before is not None:
            spending = replace(spending, amount=self._before.amount + spending.amount)
        patch = {"metadata": {"annotations": {COST_ANNOTATION: spending.as_json()}}}
        with suppress(SkjobError):
            self._api.patch("Job", self._cluster, self._namespace, patch)

    def _write(self, spending: Cost, until: datetime) -> bool:
        """Whether it is in the ledger now."""
        if not self._has_ledger:
            return False
        entry = Entry(
            user=self._account.user,
            program=self._account.program,
            began=self._began.isoformat(timespec="seconds"),
            amount=round(spending.amount, 6),
            currency=spending.currency,
            rate=round(spending.rate, 6),
            at=spending.at.isoformat(timespec="seconds"),
            until=until.isoformat(timespec="seconds") if spending.rate else "",
        )
        try:
            ledger.record(self._api, self._namespace, self._account.key, entry)
        except SkjobError as error:
            self._has_ledger = not isinstance(error, ledger.NO_LEDGER)
            if not self._has_ledger:
                self._note(ledger.why_not(error, self._namespace))
            return False
        return True


def _with_component(pods: Sequence[Manifest], counted: dict[str, float], component: str) -> int:
    return sum(
        pod["metadata"]["uid"] in counted and pod["metadata"].get("labels", {}).get("dask.org/component") == component
        for pod in pods
    )


def _seconds() -> float:
    """Of a clock that goes on while the machine sleeps, where there is one: the cluster does not sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
