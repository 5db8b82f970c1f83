"""A platform team's rules for runs in a namespace: limits, prices, facts about nodes, what pods have, where they go.

They are in the same ConfigMap as a team's defaults (`skjob.config.sources`), but they are not settings: no flag,
variable or project file can set one of them. The client respects them, so that users learn of them early and in words;
the cluster enforces them, by ResourceQuota and admission policy. Pure: text in, typed values out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skjob.config.nodes import (
    ARCHITECTURE_LABEL,
    NodeKind,
    NodePool,
    Prices,
    Scheduling,
    parse_kinds,
    parse_pools,
    parse_prices,
    pool_for_schedulers,
)
from skjob.config.parsers import parse_name
from skjob.config.pod_settings import PodSettings, PodSettingsError, parse_pods
from skjob.config.rule_values import LIMIT_PARSERS, parse_selector, parse_tolerations
from skjob.config.sources import CONFIGMAP_HINT, LIMITS, TEAM_KEYS
from skjob.errors import ConfigError
from skjob.utils.units import format_gpus


@dataclass(frozen=True)
class Limits:
    """The maxima of one run; None where there is no limit.

    `cpu` in cores, `memory` in bytes and `gpus` are of all workers together. `time` is the cluster's maximum lifetime
    in seconds, also after the run. `origin` says whose limits they are, for messages.
    """

    workers: int | None = None
    cpu: float | None = None
    memory: int | None = None
    time: float | None = None
    origin: str = ""
    gpus: int = 0

    def __str__(self) -> str:
        limits = []
        if self.workers is not None:
            limits.append(f"{self.workers} worker{'s' * (self.workers != 1)}")
        if self.cpu is not None:
            limits.append(f"{self.cpu:g} cores")
        if self.memory is not None:
            limits.append(f"{self.memory / 2**30:.3g} GiB of memory")
        if self.gpus:
            limits.append(format_gpus(self.gpus))
        if self.time is not None:
            limits.append(f"{self.time:.0f} s")
        return ", ".join(limits)


@dataclass(frozen=True)
class NamespacePolicy:
    """All rules of a namespace. `team` is whom its objects and costs belong to.

    `node_pools` are the pools that runs can choose from, the default first. Of rules for a run in one of them
    (`in_pool`), that is `node_pool`, and `scheduling` is where its workers go. `notices` are lines about settings that
    will not work for much longer.
    """

    team: str = ""
    limits: Limits = Limits()
    scheduling: Scheduling = field(default_factory=Scheduling)
    prices: Prices = field(default_factory=Prices)
    nodes: tuple[NodeKind, ...] = ()
    pods: PodSettings = field(default_factory=PodSettings)
    notices: tuple[str, ...] = ()
    node_pools: tuple[NodePool, ...] = ()
    node_pool: NodePool | None = None

    @property
    def support_scheduling(self) -> Scheduling:
        """Where a run's pods without tasks go (scheduler, package server, probes): to spot nodes only if the pool
        takes schedulers."""
        pool = self.support_pool
        return self.scheduling if pool is None or pool == self.node_pool else self._scheduling_in(pool)

    @property
    def support_pool(self) -> NodePool | None:
        """The pool of those pods; None if there is none, or if none takes them."""
        return self.node_pool and pool_for_schedulers(self.node_pool, self.node_pools, self.architecture)

    @property
    def architecture(self) -> str:
        """The architecture that all pods of a run have; empty if that is left to Kubernetes."""
        return self.scheduling.node_selector.get(ARCHITECTURE_LABEL, "")

    def in_pool(self, name: str | None) -> NamespacePolicy:
        """Return the rules for a run in the pool of this name, or the default one.

        Raises:
            KeyError: there is no such pool.
        """
        if name is None and not self.node_pools:
            return self
        pool = self.node_pools[0] if name is None else {pool.name: pool for pool in self.node_pools}[name]
        limits = self.limits
        if pool.limits:
            limits = replace(limits, **pool.limits, origin=f"{limits.origin}, node pool `{pool.name}`")
        return replace(self, node_pool=pool, scheduling=self._scheduling_in(pool), limits=limits)

    def on_architecture(self, name: str) -> NamespacePolicy:
        """Return the rules for a run whose pods all go to nodes of this architecture."""
        selector = {**self.scheduling.node_selector, ARCHITECTURE_LABEL: name}
        return replace(self, scheduling=replace(self.scheduling, node_selector=selector))

    def _scheduling_in(self, pool: NodePool) -> Scheduling:
        architecture = {ARCHITECTURE_LABEL: self.architecture} if self.architecture else {}
        selector = architecture | dict(pool.node_selector)
        return replace(self.scheduling, node_selector=selector, tolerations=pool.tolerations)


def parse_rules(data: Mapping[str, str], origin: str) -> NamespacePolicy:
    """Return the rules in a ConfigMap's data; `origin` is its name in messages. Other keys are ignored.

    A limit that has several names is the strictest of their values.

    Raises:
        ConfigError: with every value that is wrong.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key in TEAM_KEYS:
        if key not in data:
            continue
        try:
            found[key] = _PARSERS[key](str(data[key]))
        except PodSettingsError as error:
            problems += [f"`{key}{place}` in `{origin}` {words}" for place, words in error.problems]
        except ValueError as error:
            problems.append(f"`{key}` in `{origin}` {error}")
    if found.get("node-pools"):
        problems += [
            f"`{key}` in `{origin}` says nothing beside `node-pools`: put it into a pool"
            for key in ("node-selector", "tolerations")
            if found.get(key)
        ]
    if problems:
        raise ConfigError.collect(problems, CONFIGMAP_HINT)
    limits = {name: min(values) for name, values in _limits(found).items() if values}
    scheduling = {key.replace("-", "_"): found[key] for key in _SCHEDULING if key in found}
    pools: tuple[NodePool, ...] = found.get("node-pools", ())
    # A pool's own price counts before those that go by labels.
    prices = Prices((*(pool.price for pool in pools if pool.price is not None), *found.get("prices", ())))
    return NamespacePolicy(
        team=found.get("team", ""),
        limits=Limits(**limits, origin=origin),
        scheduling=Scheduling(**scheduling),
        prices=replace(prices, currency=found.get("currency", prices.currency)),
        nodes=found.get("nodes", ()),
        pods=found.get("pods", PodSettings()),
        notices=_notices(found, origin),
        node_pools=pools,
    )


def _limits(found: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each limit, by its field in `Limits`, under all of its names."""
    return {
        name.removeprefix("limits.max-"): [found[key] for key in (name, *others) if key in found]
        for name, others in LIMITS.items()
    }


def _notices(found: Mapping[str, Any], origin: str) -> tuple[str, ...]:
    renamed = {
        key: name for name, others in LIMITS.items() for key in others if key.startswith("most-") and key in found
    }
    if not renamed:
        return ()
    changes = ", ".join(f"`{old}` is now `{new}`" for old, new in renamed.items())
    return (f"{origin} has old names of limits, which work for one more release: {changes}",)


_SCHEDULING = ("node-selector", "tolerations", "priority-class", "queue")

_PARSERS: dict[str, Callable[[str], Any]] = {
    "team": parse_name,
    "node-selector": parse_selector,
    "tolerations": parse_tolerations,
    "node-pools": parse_pools,
    "priority-class": parse_name,
    "queue": parse_name,
    "prices": parse_prices,
    "currency": parse_name,
    "nodes": parse_kinds,
    "pods": parse_pods,
}
_PARSERS |= {key: LIMIT_PARSERS[name.removeprefix("limits.")] for name in LIMITS for key in (name, *LIMITS[name])}
assert set(_PARSERS) == set(TEAM_KEYS)  # noqa: S101 - a key without a parser
