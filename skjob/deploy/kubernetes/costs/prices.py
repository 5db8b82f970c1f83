"""What pods cost: their requests, at the price of their node, for as long as they exist. Pure.

An amount is never too low as far as prices go: a pod that came between two looks counts from the first of them, one
that went until the second, and if a node or its price is unknown, the highest possible price counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import Price
from skjob.deploy.kubernetes.diagnosis.capacity import requests, requests_of_gpus
from skjob.deploy.kubernetes.manifests import Manifest

HOUR = 3600.0
_GIB = 2**30
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Cost:
    """An amount spent up to a moment, and what each hour from then on costs. `gpu_hours` were part of it."""

    amount: float
    rate: float
    at: datetime
    currency: str
    gpu_hours: float = 0.0

    def by(self, moment: datetime) -> float:
        """Return the amount at a moment, if nothing changes until then."""
        return self.amount + self.rate * max(0.0, (moment - self.at).total_seconds()) / HOUR

    def seconds_left(self, limit: float) -> float:
        """Return for how many seconds from `at` on it stays within a limit; below zero if it exceeds that already."""
        left = limit - self.amount
        return left / self.rate * HOUR if self.rate > 0 else (float("inf") if left > 0 else -1.0)

    def __str__(self) -> str:
        return money(self.amount, self.currency)

    def as_json(self) -> str:
        """Return the text that is put on a run's anchor, for others to read."""
        at = self.at.isoformat(timespec="seconds")
        return json.dumps({"amount": self.amount, "rate": self.rate, "at": at, "currency": self.currency})


def read_cost(text: str | None) -> Cost | None:
    """Return the cost in a text of `as_json`; None if there is no text, or it cannot be read."""
    try:
        read = json.loads(text or "")
        amount, rate = float(read["amount"]), float(read["rate"])
        at = datetime.fromisoformat(read["at"]).astimezone(UTC)
        return Cost(amount, rate, at, str(read["currency"])) if isfinite(amount) and isfinite(rate) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def rounded(amount: float) -> float:
    """Return an amount of money, or a rate, as records, the ledger and `skjob ps --json` have it: to a millionth."""
    return round(amount, 6)


def money(amount: float, currency: str) -> str:
    """Return `12.30 USD`; for a small amount its first two digits, `0.0042 USD`."""
    return f"{amount:.2f} {currency}" if amount >= 0.1 or amount <= 0 else f"{amount:.2g} {currency}"


def possible_prices(rules: NamespacePolicy) -> tuple[Price, ...]:
    """Return the prices of the nodes that workers may be on, as far as the rules say."""
    return prices_in(rules, rules.scheduling.node_selector)


def prices_in(rules: NamespacePolicy, chosen: Mapping[str, str]) -> tuple[Price, ...]:
    """Return the prices of the nodes that a selector chooses, as far as the rules say."""
    kinds = [kind.node_labels for kind in rules.nodes if chosen.items() <= kind.node_labels.items()] or [chosen]
    found = [rules.prices.of(labels) for labels in kinds]
    return tuple(price for price in found if price is not None) or rules.prices.entries


def hourly(cpu: float, memory: float, prices: Iterable[Price], gpus: int = 0) -> float:
    """Return what so many cores, bytes and GPUs cost for an hour, at the highest of these prices."""
    return max(
        (cpu * price.cpu_hour + memory / _GIB * price.gib_hour + gpus * price.gpu_hour for price in prices), default=0.0
    )


def rates(pods: Sequence[Manifest], prices_of: Callable[[Manifest], Iterable[Price]]) -> dict[str, float]:
    """Return what an hour of each pod costs that is on a node and has not ended, by uid. `prices_of` takes the pod."""
    return {
        str(pod["metadata"]["uid"]): hourly(*requests(pod), prices_of(pod), requests_of_gpus(pod))
        for pod in _on_nodes(pods)
    }


def gpus_held(pods: Sequence[Manifest]) -> dict[str, float]:
    """Return how many GPUs each pod has that is on a node and has not ended, by uid; without those that have none."""
    held = {str(pod["metadata"]["uid"]): float(requests_of_gpus(pod)) for pod in _on_nodes(pods)}
    return {uid: gpus for uid, gpus in held.items() if gpus}


def _on_nodes(pods: Sequence[Manifest]) -> list[Manifest]:
    return [
        pod for pod in pods if pod.get("spec", {}).get("nodeName") and pod.get("status", {}).get("phase") not in _ENDED
    ]


class Meter:
    """Add up what pods cost, or hold, from look to look. Times are seconds of a clock that goes on while a laptop
    sleeps."""

    def __init__(self, began: float) -> None:
        self._amount = 0.0
        self._at = began
        self._rates: Mapping[str, float] = {}

    def see(self, now: float, rates: Mapping[str, float]) -> None:
        """Take the pods that exist now, with what an hour of each costs."""
        self._amount += sum({**self._rates, **rates}.values()) * (now - self._at) / HOUR
        self._at, self._rates = now, dict(rates)

    @property
    def rate(self) -> float:
        """What an hour costs of the pods that were seen last."""
        return sum(self._rates.values())

    def amount(self, now: float, rate: float | None = None) -> float:
        """Return the total by now, if an hour since the last look cost the same as then, or `rate`."""
        return self._amount + (self.rate if rate is None else rate) * (now - self._at) / HOUR
