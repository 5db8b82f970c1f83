"""Compare two past runs: what each was, what it ran with, and its results. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skjob.run.history.details import RunDetails
from skjob.run.history.summary import RunSummary, summary_of
from skjob.run.record import Record

NOT_COMPARED = {"name", "environment"}
"""Keys of a record's cluster that differ between any two runs, or are not settings."""


@dataclass(frozen=True)
class ComparedValue:
    """A value of two runs; None if a record has none."""

    section: str
    name: str
    first: Any
    second: Any

    @property
    def same(self) -> bool:
        """Whether the two values are equal."""
        return bool(self.first == self.second)


def compare(first: RunDetails, second: RunDetails) -> list[ComparedValue]:
    """Return all values by which two runs can be compared, in display order."""
    ones, others = _sections(first), _sections(second)
    return [
        ComparedValue(section, name, ones[section].get(name), others[section].get(name))
        for section in ones
        for name in dict.fromkeys((*ones[section], *others[section]))
    ]


def _sections(details: RunDetails) -> dict[str, dict[str, Any]]:
    record, summary = details.record, summary_of(details)
    return {
        "run": _run(summary),
        "settings": _settings(record),
        "versions": dict(record.versions),
        "numbers": _flat({name: record.numbers.get(name) for name in ("same_as_local", "processor")}),
        "best parameters": dict(summary.parameters),
        "steps": {step.name: step.seconds for step in record.steps},
    }


def _run(summary: RunSummary) -> dict[str, Any]:
    return {
        "program": summary.program,
        "arguments": " ".join(summary.arguments),
        "started": summary.started,
        "where": summary.place,
        "outcome": summary.status,
        "exit status": summary.exit_code,
        "fits": summary.fits,
        "reused": summary.reused,
        "failed": summary.failed,
        "metric": summary.metric or None,
        "best": summary.best,
        "seconds": summary.seconds,
        "cost": summary.cost,
        "currency": summary.currency or None,
    }


def _settings(record: Record) -> dict[str, Any]:
    settings = {name: value for name, value in record.cluster.items() if name not in NOT_COMPARED}
    return _flat({**settings, "data": record.data or None, "max cost": record.cost.get("most")})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat
