"""How values of a past run are written in a terminal and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

from skjob.cli.terminal import shown_json
from skjob.errors import data_without_credentials


def when(moment: str) -> str:
    """Return a record's time on the clock of this machine; as it is, if it cannot be read."""
    try:
        read = datetime.fromisoformat(moment)
    except ValueError:
        return moment or "-"
    return f"{(read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone():%Y-%m-%d %H:%M}"


def outcome(status: str, exit_code: int | None) -> str:
    """Return how a run ended: `succeeded`, `failed (3)`. One that still goes on, or was killed, is `unfinished`."""
    if status == "running":
        return "unfinished"
    return f"{status} ({exit_code})" if exit_code else status


def score(value: float) -> str:
    """Return a score with five digits."""
    return "-" if math.isnan(value) else f"{value:.5g}"


def cost(amount: float | None, currency: str) -> str:
    """Return a cost, `-` if it is not known."""
    from skjob.deploy.kubernetes.costs.prices import money

    return "-" if amount is None else money(amount, currency)


def as_json(value: Any) -> str:
    """Return plain data and dataclasses as JSON. What is no number is null, an infinite one text."""
    return shown_json(json.dumps(data_without_credentials(_plain(value)), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
