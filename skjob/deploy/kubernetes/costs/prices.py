"""Compute what pods cost: their requests, at the price of their node, for as long as they exist. Pure.

Amounts are never too low as far as prices go. A pod that appeared between two measurements counts from the first, one
that disappeared until the second, and if a node or its price is unknown, the highest possible price counts.
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
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Cost:
    """An amount spent by a time, which includes `gpu_hours`, and the hourly rate from then on."""

    amount: float
    rate: float
    at: datetime
    currency: str
    gpu_hours: float = 0.0

    def by(self, moment: datetime) -> float:
        """Return the amount spent by a time, if nothing changes until then."""
        return self.amount + self.rate * max(0.0, (moment - self.at).total_seconds()) / HOUR

    def seconds_left(self, limit: float) -> float:
        """Return for how many seconds from `at` on the cost stays within a limit; negative if it exceeds it already."""
        remaining = limit - self.amount
        return remaining / self.rate * HOUR if self.rate > 0 else (float("inf") if remaining > 0 else -1.0)

    def __str__(self) -> str:
        return money(self.amount, self.currency)

    def as_json(self) -> str:
        """Return the text that is stored on a run's anchor, for others to read."""
        at = self.at.isoformat(timespec="seconds")
        return json.dumps({"amount": self.amount, "rate": self.rate, "at": at, "currency": self.currency})


def read_cost(text: str | None) -> Cost | None:
    """Parse a text of `as_json`; return None if it is missing or invalid."""
    try:
        read = json.loads(text or "")
        amount, rate = float(read["amount"]), float(read["rate"])
        at = datetime.fromisoformat(read["at"]).astimezone(UTC)
        return Cost(amount, rate, at, str(read["currency"])) if isfinite(amount) and isfinite(rate) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def rounded(amount: float) -> float:
    """Round an amount or a rate to a millionth, as in records, the ledger and `skjob ps --json`."""
    return round(amount, 6)


def money(amount: float, currency: str) -> str:
    """Format an amount as `12.30 USD`; a small one with two significant digits, `0.0042 USD`."""
    return f"{amount:.2f} {currency}" if amount >= 0.1 or amount <= 0 else f"{amount:.2g} {currency}"


def possible_prices(rules: NamespacePolicy) -> tuple[Price, ...]:
    """Return the prices of the nodes that workers may run on, as far as the rules say."""
    return prices_in(rules, rules.scheduling.node_selector)


def prices_in(rules: NamespacePolicy, chosen: Mapping[str, str]) -> tuple[Price, ...]:
    """Return the prices that nodes chosen by a selector may have, as far as the rules say.

    A node may have labels of which the rules do not tell, so that a price for more labels than the chosen ones counts
    too; and every price does if nodes may be without one.
    """
    every = rules.prices.entries
    if kinds := [kind.node_labels for kind in rules.nodes if chosen.items() <= kind.node_labels.items()]:
        known = [rules.prices.of(labels) for labels in kinds]
        prices = tuple(price for price in known if price is not None)
        return prices if len(prices) == len(known) else every
    possible: list[Price] = []
    for price in every:
        if all(chosen.get(key, value) == value for key, value in price.labels.items()):
            possible.append(price)
            if price.labels.items() <= chosen.items():
                return tuple(possible)
    return every


def hourly(cpu: float, memory: float, prices: Iterable[Price], gpus: int = 0) -> float:
    """Return what `cpu` cores, `memory` bytes and `gpus` cost per hour, at the highest of these prices."""
    return max((price.hourly(cpu, memory, gpus) for price in prices), default=0.0)


def rates(pods: Sequence[Manifest], prices_of: Callable[[Manifest], Iterable[Price]]) -> dict[str, float]:
    """Return the hourly rate by uid of each pod that is on a node and has not ended. `prices_of` takes the pod."""
    return {
        str(pod["metadata"]["uid"]): hourly(*requests(pod), prices_of(pod), requests_of_gpus(pod))
        for pod in _on_nodes(pods)
    }


def gpus_held(pods: Sequence[Manifest]) -> dict[str, float]:
    """Return the number of GPUs by uid of each pod that has any, is on a node and has not ended."""
    held = {str(pod["metadata"]["uid"]): float(requests_of_gpus(pod)) for pod in _on_nodes(pods)}
    return {uid: gpus for uid, gpus in held.items() if gpus}


def _on_nodes(pods: Sequence[Manifest]) -> list[Manifest]:
    return [
        pod for pod in pods if pod.get("spec", {}).get("nodeName") and pod.get("status", {}).get("phase") not in _ENDED
    ]


class Meter:
    """Adds up what pods cost, or the GPUs they hold, between measurements.

    Times are seconds of a clock that runs while a laptop sleeps.
    """

    def __init__(self, began: float) -> None:
        self._amount = 0.0
        self._at = began
        self._rates: Mapping[str, float] = {}

    def see(self, now: float, rates: Mapping[str, float]) -> None:
        """Record the pods that exist now, with the hourly rate of each."""
        self._amount += sum({**self._rates, **rates}.values()) * (now - self._at) / HOUR
        self._at, self._rates = now, dict(rates)

    @property
    def rate(self) -> float:
        """Hourly rate of the pods that were seen last."""
        return sum(self._rates.values())

    def amount(self, now: float, rate: float | None = None) -> float:
        """Return the total so far, if the rate since the last measurement was unchanged, or `rate`."""
        return self._amount + (self.rate if rate is None else rate) * (now - self._at) / HOUR
