"""A platform team's rules for runs in a namespace: limits, prices, facts about nodes, what pods have, where they go.

They are in the same ConfigMap as a team's defaults (`skjob.config.sources`), but they are not settings: no flag,
variable or project file can set one of them. The client respects them, so that users learn of them early and in words;
the cluster enforces them, by ResourceQuota and admission policy. Pure: text in, typed values out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from skjob.config.parsers import parse_cpu, parse_name, parse_seconds
from skjob.config.pod_settings import PodSettings, PodSettingsError, parse_pods
from skjob.config.sources import CONFIGMAP_HINT, LIMITS, TEAM_KEYS
from skjob.errors import ConfigError
from skjob.utils.units import parse_quantity


@dataclass(frozen=True)
class Limits:
    """The maxima of one run; None where there is no limit.

    `cpu` in cores and `memory` in bytes are of all its workers together. `time` in seconds is how long its cluster can
    live, also after the run. `origin` says whose limits they are, for messages.
    """

    workers: int | None = None
    cpu: float | None = None
    memory: int | None = None
    time: float | None = None
    origin: str = ""

    def __str__(self) -> str:
        limits = []
        if self.workers is not None:
            limits.append(f"{self.workers} worker{'s' * (self.workers != 1)}")
        if self.cpu is not None:
            limits.append(f"{self.cpu:g} cores")
        if self.memory is not None:
            limits.append(f"{self.memory / 2**30:.3g} GiB of memory")
        if self.time is not None:
            limits.append(f"{self.time:.0f} s")
        return ", ".join(limits)


@dataclass(frozen=True)
class Scheduling:
    """Where pods can run, as in a pod's spec; `queue` is Kueue's."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class: str = ""
    queue: str = ""


@dataclass(frozen=True)
class Price:
    """What a core and a GiB of memory cost for an hour on nodes with these labels; without labels, on any."""

    cpu_hour: float
    gib_hour: float
    labels: Mapping[str, str] = field(default_factory=dict)


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
    """`count` nodes of `cpu` cores and `memory` bytes each, for users who are not allowed to list nodes."""

    name: str
    cpu: float
    memory: int
    count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NamespacePolicy:
    """All rules of a namespace. `team` is whom its objects and costs belong to.

    `notices` are lines about settings that will not work for much longer.
    """

    team: str = ""
    limits: Limits = Limits()
    scheduling: Scheduling = Scheduling()
    prices: Prices = Prices()
    nodes: tuple[NodeKind, ...] = ()
    pods: PodSettings = field(default_factory=PodSettings)
    notices: tuple[str, ...] = ()


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
    if problems:
        raise ConfigError.collect(problems, CONFIGMAP_HINT)
    limits = {name: min(values) for name, values in _limits(found).items() if values}
    scheduling = {key.replace("-", "_"): found[key] for key in _SCHEDULING if key in found}
    prices = Prices(found.get("prices", ()))
    return NamespacePolicy(
        team=found.get("team", ""),
        limits=Limits(**limits, origin=origin),
        scheduling=Scheduling(**scheduling),
        prices=replace(prices, currency=found.get("currency", prices.currency)),
        nodes=found.get("nodes", ()),
        pods=found.get("pods", PodSettings()),
        notices=_notices(found, origin),
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
_OPERATORS = ("Exists", "Equal")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _parse_count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"must be a number of at least 1, not `{text}`")
    return int(text)


def _quoting(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose errors show the value too."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, not `{text}`") from None

    return parsed


def _parse_bytes(text: str) -> int:
    size = int(parse_quantity(text))
    if size < 1:
        raise ValueError("must be an amount of memory such as `64Gi`")
    return size


def _load(text: str, kind: type, example: str) -> Any:
    import yaml  # most runs do not need it

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, kind):
        raise ValueError(f"must be {'a map' if kind is dict else 'a list'}, `{example}`")  # noqa: TRY004 - of a text
    return value


def _labels(value: Any) -> dict[str, str]:
    """Return labels as text; YAML's own `true` and `1` are meant as text too."""
    if not isinstance(value, dict) or any(isinstance(each, dict | list) or each is None for each in value.values()):
        raise ValueError("must be labels, `{pool: batch}`")
    return {
        str(name): str(each).lower() if isinstance(each, bool) else str(each) for name, each in value.items()
    }  # fmt: skip


def _parse_selector(text: str) -> dict[str, str]:
    return _labels(_load(text, dict, "{pool: batch}"))


def _entries(text: str, example: str, known: set[str], needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a list of maps that have these keys. Raise ValueError with everything that is wrong with any of them."""
    entries: list[Any] = _load(text, list, example)
    problems = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            problems.append(f"entry {number} is not a map")
            continue
        problems += [f"entry {number} has `{key}`, which there is not" for key in entry if key not in known]
        problems += [f"entry {number} lacks `{key}`" for key in needed if key not in entry]
    if problems:
        raise ValueError(f"must be a list such as `{example}`: {'; '.join(problems)}")
    return entries


def _each(entries: list[dict[str, Any]], make: Callable[[dict[str, Any]], Any]) -> tuple[Any, ...]:
    made, problems = [], []
    for number, entry in enumerate(entries, 1):
        try:
            made.append(make(entry))
        except (ValueError, TypeError) as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        raise ValueError(f"has entries that are wrong: {'; '.join(problems)}")
    return tuple(made)


def _parse_tolerations(text: str) -> tuple[Mapping[str, Any], ...]:
    known = {"key", "operator", "value", "effect", "tolerationSeconds"}
    entries = _entries(text, "[{key: batch, operator: Exists}]", known, ())

    def toleration(entry: dict[str, Any]) -> dict[str, Any]:
        if entry.get("operator", "Equal") not in _OPERATORS:
            raise ValueError(f"`operator` must be one of {', '.join(_OPERATORS)}")
        if entry.get("effect", _EFFECTS[0]) not in _EFFECTS:
            raise ValueError(f"`effect` must be one of {', '.join(_EFFECTS)}")
        if "value" in entry:
            entry = entry | {"value": _labels({"value": entry["value"]})["value"]}
        return entry

    return _each(entries, toleration)


def _amount(entry: dict[str, Any], key: str) -> float:
    value = entry[key]
    if isinstance(value, str):
        # Helm writes small ones as 5e-05, which YAML 1.1 takes for text.
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"`{key}` must be a number of at least 0, not `{value}`")
    return float(value)


def _parse_prices(text: str) -> tuple[Price, ...]:
    entries = _entries(
        text, "[{cpu-hour: 0.04, gib-hour: 0.005}]", {"labels", "cpu-hour", "gib-hour"}, ("cpu-hour", "gib-hour")
    )
    return _each(
        entries,
        lambda entry: Price(_amount(entry, "cpu-hour"), _amount(entry, "gib-hour"), _labels(entry.get("labels", {}))),
    )


def _parse_nodes(text: str) -> tuple[NodeKind, ...]:
    known = {"name", "cpu", "memory", "count", "labels"}
    entries = _entries(text, "[{name: m5.2xlarge, cpu: 8, memory: 32Gi, count: 5}]", known, ("name", "cpu", "memory"))
    return _each(
        entries,
        lambda entry: NodeKind(
            parse_name(str(entry["name"])),
            parse_quantity(str(entry["cpu"])),
            _parse_bytes(str(entry["memory"])),
            _parse_count(str(entry.get("count", 1))),
            _labels(entry.get("labels", {})),
        ),
    )


_PARSERS: dict[str, Callable[[str], Any]] = {
    "team": parse_name,
    "node-selector": _parse_selector,
    "tolerations": _parse_tolerations,
    "priority-class": parse_name,
    "queue": parse_name,
    "prices": _parse_prices,
    "currency": parse_name,
    "nodes": _parse_nodes,
    "pods": parse_pods,
}
_LIMIT_PARSERS: dict[str, Callable[[str], Any]] = {
    "limits.max-workers": _parse_count,
    "limits.max-cpu": _quoting(parse_cpu),
    "limits.max-memory": _quoting(_parse_bytes),
    "limits.max-time": _quoting(parse_seconds),
}
_PARSERS |= {key: parse for name, parse in _LIMIT_PARSERS.items() for key in (name, *LIMITS[name])}
assert set(_PARSERS) == set(TEAM_KEYS)  # noqa: S101 - a key without a parser
