"""What a platform team says of nodes: where pods may run, in which pools, of which kinds, and for what prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from skjob.config import rule_values
from skjob.config.parsers import parse_name
from skjob.config.rule_values import LIMIT_PARSERS, Entry, amount, labels, parse_bytes, parse_count
from skjob.utils.units import parse_quantity

ARCHITECTURE_LABEL = "kubernetes.io/arch"
"""The label of every node, by which images and wheels are chosen."""

DEFAULT_ARCHITECTURE = "amd64"

GPU = "nvidia.com/gpu"
"""The resource that a node offers for each of its GPUs."""


@dataclass(frozen=True)
class Scheduling:
    """Where pods can run, as in a pod's spec; `queue` is Kueue's."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class: str = ""
    queue: str = ""


@dataclass(frozen=True)
class Price:
    """What a core, a GiB of memory and a GPU cost for an hour on nodes with these labels; without labels, on any."""

    cpu_hour: float
    gib_hour: float
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_hour: float = 0.0

    def hourly(self, cpu: float, memory: float, gpus: int = 0) -> float:
        """Return what `cpu` cores, `memory` bytes and `gpus` cost for an hour."""
        return cpu * self.cpu_hour + memory / 2**30 * self.gib_hour + gpus * self.gpu_hour


@dataclass(frozen=True)
class Prices:
    """Prices in order: the first whose labels a node has is that node's."""

    entries: tuple[Price, ...] = ()
    currency: str = "USD"

    def of(self, labels: Mapping[str, str]) -> Price | None:
        """Return the price of a node with these labels."""
        return next((price for price in self.entries if price.labels.items() <= labels.items()), None)


@dataclass(frozen=True)
class NodeKind:
    """`count` nodes of `cpu` cores, `memory` bytes and `gpus` each, for users who are not allowed to list nodes."""

    name: str
    cpu: float
    memory: int
    count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels, with that of the architecture, which every node has."""
        return {ARCHITECTURE_LABEL: DEFAULT_ARCHITECTURE, **self.labels}


@dataclass(frozen=True)
class NodePool:
    """Nodes with a name, which a run can ask for: no node is in two of them.

    `limits` replace those of the namespace, by their names in `Limits`. `spot` says that nodes may be taken away at any
    time, and `schedulers` whether the pods of a run that must not be lost may be on them.
    """

    name: str
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None
    spot: bool = False
    schedulers: bool = True

    def excludes(self, other: NodePool) -> bool:
        """Return whether no node can have the labels of both."""
        mine, theirs = self.node_selector, other.node_selector
        return any(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())

    @property
    def architecture(self) -> str:
        """The architecture of its nodes, if its labels say so."""
        return self.node_selector.get(ARCHITECTURE_LABEL, "")


def pool_for_schedulers(pool: NodePool, pools: Sequence[NodePool], architecture: str = "") -> NodePool | None:
    """Return where the scheduler of a run in a pool goes: there, else to the first that takes it; None if none does.

    All pods of a run have the same architecture: the pool's, or else `architecture` if given.
    """
    needed = pool.architecture or architecture
    fitting = (each for each in (pool, *pools) if not needed or each.architecture in ("", needed))
    return next((each for each in fitting if each.schedulers), None)


# ---- what a ConfigMap says


def parse_prices(text: str) -> tuple[Price, ...]:
    """Parse `prices`."""
    example = "[{cpu-hour: 0.04, gib-hour: 0.005}]"
    known, needed = {"labels", "cpu-hour", "gib-hour", "gpu-hour"}, ("cpu-hour", "gib-hour")
    return rule_values.each(
        rule_values.entries(text, example, known, needed), lambda entry: _price(entry, labels(entry.get("labels", {})))
    )


def _price(entry: Entry, node_labels: Mapping[str, str]) -> Price:
    return Price(
        amount(entry, "cpu-hour"),
        amount(entry, "gib-hour"),
        node_labels,
        amount(entry, "gpu-hour") if "gpu-hour" in entry else 0.0,
    )


def parse_kinds(text: str) -> tuple[NodeKind, ...]:
    """Parse `nodes`."""
    example = "[{name: m5.2xlarge, cpu: 8, memory: 32Gi, count: 5}]"
    known = {"name", "cpu", "memory", "gpus", "count", "labels"}
    return rule_values.each(
        rule_values.entries(text, example, known, ("name", "cpu", "memory")),
        lambda entry: NodeKind(
            parse_name(str(entry["name"])),
            parse_quantity(str(entry["cpu"])),
            parse_bytes(str(entry["memory"])),
            parse_count(str(entry.get("count", 1))),
            labels(entry.get("labels", {})),
            parse_count(str(entry.get("gpus", 0)), least=0),
        ),
    )


_POOL_EXAMPLE = "[{name: batch, node-selector: {pool: batch}}]"
POOL_KEYS = {"name", "node-selector", "tolerations", "limits", "price", "spot", "schedulers"}
_POOL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def parse_pools(text: str) -> tuple[NodePool, ...]:
    """Parse `node-pools`."""
    found = rule_values.entries(text, _POOL_EXAMPLE, POOL_KEYS, ("name", "node-selector"))
    pools: tuple[NodePool, ...] = rule_values.each(found, _pool)
    if problems := [*_pool_problems(pools)]:
        raise ValueError("; ".join(problems))
    return pools


def _pool(entry: Entry) -> NodePool:
    name = str(entry["name"])
    if not _POOL_NAME.fullmatch(name):
        raise ValueError(f"`name` must be small letters, digits and hyphens, not `{name}`")
    selector = _within("node-selector", labels, entry["node-selector"])
    if not selector:
        raise ValueError("`node-selector` must have labels that no other nodes have")
    tolerations = entry.get("tolerations", [])
    if not isinstance(tolerations, list):
        raise ValueError(f"`tolerations` must be a list, `{rule_values.TOLERATION_EXAMPLE}`")  # noqa: TRY004
    spot = _flag(entry, "spot", default=False)
    return NodePool(
        name,
        selector,
        _within("tolerations", rule_values.tolerations, tolerations),
        _limits(entry.get("limits", {})),
        _price_of_pool(entry["price"], selector) if "price" in entry else None,
        spot,
        _flag(entry, "schedulers", default=not spot),
    )


def _within(key: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"`{key}` {error}") from None


def _flag(entry: Entry, key: str, *, default: bool) -> bool:
    value = entry.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"`{key}` must be `true` or `false`")  # noqa: TRY004 - of a text
    return value


def _limits(found: Any) -> dict[str, Any]:
    known = [name for name in LIMIT_PARSERS if name != "max-time"]  # a cluster's life has begun before its pods
    if not isinstance(found, dict) or any(name not in known for name in found):
        raise ValueError(f"`limits` must be a map with {', '.join(f'`{name}`' for name in known)}")
    return {
        name.removeprefix("max-"): _within(f"limits.{name}", LIMIT_PARSERS[name], str(value))
        for name, value in found.items()
    }


def _price_of_pool(found: Any, selector: Mapping[str, str]) -> Price:
    known = {"cpu-hour", "gib-hour", "gpu-hour"}
    if not isinstance(found, dict) or not {"cpu-hour", "gib-hour"} <= set(found) <= known:
        raise ValueError("`price` must be such as `{cpu-hour: 0.04, gib-hour: 0.005, gpu-hour: 2.5}`")
    return _within("price", lambda entry: _price(entry, selector), found)  # type: ignore[no-any-return]


def _pool_problems(pools: Sequence[NodePool]) -> Iterator[str]:
    for first, second in combinations(pools, 2):
        if first.name == second.name:
            yield f"has two pools called `{first.name}`"
        elif not first.excludes(second):
            yield (
                f"has pools that may share nodes, `{first.name}` and `{second.name}`: give both a label of the same"
                " name, with different values"
            )
    for pool in pools:
        if pool_for_schedulers(pool, pools) is None:
            yield f"has no pool for the schedulers of runs in `{pool.name}`: set `schedulers: true` of one"
