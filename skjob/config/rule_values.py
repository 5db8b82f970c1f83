"""Read what a platform team writes in the values of its rules: YAML lists and maps, labels, numbers.

Each parser raises ValueError with what is wrong, of a list with everything that is wrong with any of its entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from skjob.config.parsers import parse_cpu, parse_seconds
from skjob.utils.units import parse_quantity

Entry = dict[str, Any]

_OPERATORS = ("Exists", "Equal")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def parse_count(text: str, least: int = 1) -> int:
    """Parse a whole number of at least 1, or `least`."""
    if not text.strip().isdecimal() or int(text) < least:
        raise ValueError(f"must be a number of at least {least}, not `{text}`")
    return int(text)


def parse_bytes(text: str) -> int:
    """Parse an amount of memory, at least a byte."""
    size = int(parse_quantity(text))
    if size < 1:
        raise ValueError("must be an amount of memory such as `64Gi`")
    return size


def _quoting(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose errors show the value too."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, not `{text}`") from None

    return parsed


LIMIT_PARSERS: dict[str, Callable[[str], Any]] = {
    "max-workers": parse_count,
    "max-cpu": _quoting(parse_cpu),
    "max-memory": _quoting(parse_bytes),
    "max-gpus": lambda text: parse_count(text, least=0),
    "max-time": _quoting(parse_seconds),
}
"""The limits of a run."""


def load(text: str, kind: type, example: str) -> Any:
    """Return the list or map in a text of YAML."""
    import yaml  # most runs do not need it

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, kind):
        raise ValueError(f"must be {'a map' if kind is dict else 'a list'}, `{example}`")  # noqa: TRY004 - of a text
    return value


def labels(value: Any) -> dict[str, str]:
    """Return labels as text; YAML's own `true` and `1` are meant as text too."""
    if not isinstance(value, dict) or any(isinstance(each, dict | list) or each is None for each in value.values()):
        raise ValueError("must be labels, `{pool: batch}`")
    return {
        str(name): str(each).lower() if isinstance(each, bool) else str(each) for name, each in value.items()
    }  # fmt: skip


def parse_selector(text: str) -> dict[str, str]:
    """Parse the labels of nodes."""
    return labels(load(text, dict, "{pool: batch}"))


def entries(text: str, example: str, known: set[str], needed: tuple[str, ...]) -> list[Entry]:
    """Return a list of maps that have these keys, out of a text."""
    return checked_entries(load(text, list, example), example, known, needed)


def checked_entries(found: list[Any], example: str, known: set[str], needed: tuple[str, ...]) -> list[Entry]:
    """Return a list as maps that have these keys."""
    problems = []
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, dict):
            problems.append(f"entry {number} is not a map")
            continue
        problems += [f"entry {number} has `{key}`, which there is not" for key in entry if key not in known]
        problems += [f"entry {number} lacks `{key}`" for key in needed if key not in entry]
    if problems:
        raise ValueError(f"must be a list such as `{example}`: {'; '.join(problems)}")
    return found


def each(found: list[Entry], make: Callable[[Entry], Any]) -> tuple[Any, ...]:
    """Return what is made of each entry."""
    made, problems = [], []
    for number, entry in enumerate(found, 1):
        try:
            made.append(make(entry))
        except (ValueError, TypeError) as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        raise ValueError(f"has entries that are wrong: {'; '.join(problems)}")
    return tuple(made)


TOLERATION_EXAMPLE = "[{key: batch, operator: Exists}]"


def parse_tolerations(text: str) -> tuple[Mapping[str, Any], ...]:
    """Parse tolerations as a pod's spec has them."""
    return tolerations(load(text, list, TOLERATION_EXAMPLE))


def tolerations(found: list[Any]) -> tuple[Mapping[str, Any], ...]:
    """Return a list of tolerations as a pod's spec has them."""

    def toleration(entry: Entry) -> Entry:
        if entry.get("operator", "Equal") not in _OPERATORS:
            raise ValueError(f"`operator` must be one of {', '.join(_OPERATORS)}")
        if entry.get("effect", _EFFECTS[0]) not in _EFFECTS:
            raise ValueError(f"`effect` must be one of {', '.join(_EFFECTS)}")
        if "value" in entry:
            entry = entry | {"value": labels({"value": entry["value"]})["value"]}
        return entry

    known = {"key", "operator", "value", "effect", "tolerationSeconds"}
    return each(checked_entries(found, TOLERATION_EXAMPLE, known, ()), toleration)


def amount(entry: Entry, key: str) -> float:
    """Return a number of at least 0."""
    value = entry[key]
    if isinstance(value, str):
        # Helm writes small ones as 5e-05, which YAML 1.1 takes for text.
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"`{key}` must be a number of at least 0, not `{value}`")
    return float(value)
