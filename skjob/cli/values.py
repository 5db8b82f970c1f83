"""How values of a past run are written in a terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from typing import Any

from skjob.cli.terminal import shown_json
from skjob.engine.events import json_number
from skjob.errors import data_without_credentials


def when(moment: str) -> str:
    """Return a record's time on the clock of this machine; as it is, if it cannot be read."""
    from skjob.run.record import read_moment

    read = read_moment(moment)
    return moment or "-" if read is None else f"{read.astimezone():%Y-%m-%d %H:%M}"


def outcome(status: str, exit_code: int | None) -> str:
    """Return how a run ended: `succeeded`, `failed (3)`. One that still goes on, or was killed, is `unfinished`."""
    if status == "running":
        return "unfinished"
    return f"{status} ({exit_code})" if exit_code else status


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
    return json_number(value) if isinstance(value, float) else value
