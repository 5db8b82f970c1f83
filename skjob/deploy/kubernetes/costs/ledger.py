"""Keep a namespace's ledger: what runs have cost, one key per run, in the ConfigMap `skjob-costs`.

Each run patches its own key while it goes on, so that no two overwrite each other. An entry records what was spent so
far, the hourly rate, and until when it can go on at most: if a run's client dies, that is its cost until Kubernetes
removes it at its deadline, although nobody is there to record it.

A ConfigMap holds 1 MiB, some thousands of entries; the oldest are then added up by user, month and node pool, in one
write that fails if anybody has written in between. It is a record, not proof: every user of skjob may edit it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Rejected
from skjob.deploy.kubernetes.costs.prices import HOUR
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP
from skjob.errors import ForbiddenError, SkjobError, StartError

MAX_ENTRIES = 2000
"""Above this the oldest entries are added up until half as many are left.

At up to 300 bytes each, they fill half of what a ConfigMap holds.
"""

NO_LEDGER = (NotFound, ForbiddenError, Rejected)
"""Errors after which retrying is pointless."""

_MONTH_PREFIX = "month-"
_TRIES = 3


@dataclass(frozen=True)
class Entry:
    """Costs of one run or, if `runs` is more than one, of all runs of a user in a month and a node pool.

    `amount` was spent by `at`; from then until `until`, `rate` is spent per hour. Times are in ISO 8601, UTC.
    `pool` is the node pool of its workers. They had GPUs for `gpu_hours` by `at`, and have `gpus` from then on.
    """

    user: str
    program: str
    began: str
    amount: float
    currency: str
    rate: float = 0.0
    at: str = ""
    until: str = ""
    runs: int = 1
    pool: str = ""
    gpu_hours: float = 0.0
    gpus: int = 0

    def by(self, now: datetime) -> float:
        """Return the amount spent by a time."""
        return self.amount + self.rate * self._hours_since(now)

    def gpu_hours_by(self, now: datetime) -> float:
        """Return the GPU hours used by a time."""
        return self.gpu_hours + self.gpus * self._hours_since(now)

    def _hours_since(self, now: datetime) -> float:
        at, until = _moment(self.at), _moment(self.until)
        if at is None or until is None:
            return 0.0
        return max(0.0, (min(now, until) - at).total_seconds()) / HOUR

    def goes_on(self, now: datetime) -> bool:
        """Return whether the amount may still grow."""
        until = _moment(self.until)
        return until is not None and until > now

    @property
    def month(self) -> str:
        """The month in which it began, such as `2026-11`."""
        return self.began[:7]

    def as_json(self) -> str:
        """Return the entry as it is stored in the ledger."""
        unused = {name for name in ("pool", "gpu_hours", "gpus") if not getattr(self, name)}
        return json.dumps({name: value for name, value in asdict(self).items() if value != "" and name not in unused})


@dataclass(frozen=True)
class Total:
    """Total cost of several runs."""

    name: str
    runs: int
    amount: float
    currency: str
    gpu_hours: float = 0.0


def read_entries(data: Mapping[str, str]) -> dict[str, Entry]:
    """Return the entries in a ledger's data. Skip what cannot be parsed: any user may have written it."""
    entries = {}
    for key, text in data.items():
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            entries[key] = _entry(json.loads(text))
    return entries


def since(entries: Mapping[str, Entry], moment: datetime) -> dict[str, Entry]:
    """Return the entries that began at a time or later. A month's total counts unless the month was over by then."""
    first = moment.astimezone(UTC).isoformat(timespec="seconds")
    return {
        key: entry
        for key, entry in entries.items()
        if (entry.month >= first[:7] if key.startswith(_MONTH_PREFIX) else entry.began >= first)
    }


def totals(named: Iterable[tuple[str, Entry]], now: datetime) -> list[Total]:
    """Return the totals of entries with the same name, the highest first. Each currency has its own."""
    grouped: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for name, entry in named:
        grouped[name, entry.currency].append(entry)
    listed = [
        Total(
            name,
            sum(each.runs for each in entries),
            sum(each.by(now) for each in entries),
            currency,
            sum(each.gpu_hours_by(now) for each in entries),
        )
        for (name, currency), entries in grouped.items()
    ]
    return sorted(listed, key=lambda total: (-total.amount, total.name))


def aggregate(entries: Mapping[str, Entry], now: datetime, max_entries: int) -> dict[str, Entry | None]:
    """Return the patch that adds up the oldest finished entries until `max_entries` are left.

    None removes an entry.
    """
    ended = {
        key: entry for key, entry in entries.items() if not key.startswith(_MONTH_PREFIX) and not entry.goes_on(now)
    }
    oldest = sorted(ended, key=lambda key: (ended[key].began, key))[: max(0, len(entries) - max_entries)]
    changes: dict[str, Entry | None] = {}
    for key in oldest:
        entry = ended[key]
        parts = [
            entry.month,
            _as_key(entry.user),
            _as_key(entry.currency),
            *([_as_key(entry.pool)] if entry.pool else []),
        ]
        sum_key = f"{_MONTH_PREFIX}{'.'.join(parts)}"
        empty = replace(entry, program="", amount=0.0, runs=0, gpu_hours=0.0)
        so_far = changes.get(sum_key) or entries.get(sum_key) or empty
        changes[sum_key] = replace(
            so_far,
            amount=so_far.amount + entry.by(now),
            runs=so_far.runs + entry.runs,
            rate=0.0,
            at="",
            until="",
            gpu_hours=so_far.gpu_hours + entry.gpu_hours_by(now),
            gpus=0,
        )
        changes[key] = None
    return changes


def record(api: Api, namespace: str, key: str, entry: Entry) -> None:
    """Write a run's entry, replacing its previous one.

    Raises:
        NotFound: the namespace has no ledger.
        ForbiddenError: the user may not write it.
    """
    api.patch("ConfigMap", LEDGER_CONFIGMAP, namespace, {"data": {key: entry.as_json()}}, timeout=_WRITE_TIMEOUT)


def change(
    api: Api, namespace: str, key: str, now: datetime, *, rate: float = 0.0, lives: float = 0.0, gpus: int = 0
) -> None:
    """Set the rate and the GPUs that an entry goes on with for `lives` seconds; stop it without them.

    Do nothing if there is no entry, or if it cannot be written.
    """
    with suppress(SkjobError):
        entry = read_entries(_ledger(api, namespace).get("data") or {}).get(key)
        if entry is not None:
            changed = replace(entry, amount=entry.by(now), gpu_hours=entry.gpu_hours_by(now), rate=0.0, gpus=0)
            changed = replace(changed, at="", until="")
            if lives:
                at, until = (moment.isoformat(timespec="seconds") for moment in (now, now + timedelta(seconds=lives)))
                changed = replace(changed, rate=rate, gpus=gpus, at=at, until=until)
            record(api, namespace, key, changed)


def compact(api: Api, namespace: str, now: datetime) -> None:
    """Add up the oldest entries if there are too many. If that fails, a later run does it."""
    with suppress(SkjobError):
        for _ in range(_TRIES):
            ledger = _ledger(api, namespace)
            data = ledger.get("data") or {}
            if len(data) <= MAX_ENTRIES:
                return
            changes = aggregate(read_entries(data), now, MAX_ENTRIES // 2)
            if not changes:
                return
            patch = {
                # With the version that was read, so that concurrent writes are not lost.
                "metadata": {"resourceVersion": ledger["metadata"]["resourceVersion"]},
                "data": {key: entry and entry.as_json() for key, entry in changes.items()},
            }
            with suppress(Conflict):
                api.patch("ConfigMap", LEDGER_CONFIGMAP, namespace, patch)
                return


def read_ledger(api: Api, namespace: str) -> dict[str, Entry]:
    """Return all entries of a namespace's ledger.

    Raises:
        StartError: there is no ledger; the hint says how to create one.
        ForbiddenError: the user may not read it.
    """
    try:
        return read_entries(_ledger(api, namespace).get("data") or {})
    except NotFound as error:
        raise StartError(f"namespace `{namespace}` has no ledger of costs", remedy(namespace)) from error


def read_everywhere(api: Api) -> dict[str, dict[str, Entry]]:
    """Return the entries of all ledgers, by namespace. Raise ForbiddenError if the user may not read all of them."""
    ledgers = api.list("ConfigMap", fields=f"metadata.name={LEDGER_CONFIGMAP}")
    return {each["metadata"]["namespace"]: read_entries(each.get("data") or {}) for each in ledgers}


def why_not(error: SkjobError, namespace: str) -> str:
    """Return one line that explains why a run's costs are not recorded."""
    if isinstance(error, NotFound):
        cause = f"namespace `{namespace}` has no ConfigMap `{LEDGER_CONFIGMAP}`"
    elif isinstance(error, ForbiddenError):
        cause = f"not allowed to patch ConfigMap `{LEDGER_CONFIGMAP}` in namespace `{namespace}`"
    else:
        cause = error.message
    return f"costs are not added to the team's totals: {cause}; {remedy(namespace)}"


def remedy(namespace: str) -> str:
    """Return how to create a ledger."""
    return f"the chart `helm/skjob` creates it, or `kubectl -n {namespace} create configmap {LEDGER_CONFIGMAP}`"


_WRITE_TIMEOUT = 5.0


def _ledger(api: Api, namespace: str) -> Manifest:
    return api.get("ConfigMap", LEDGER_CONFIGMAP, namespace)


def _entry(data: dict[str, Any]) -> Entry:
    entry = Entry(
        user=str(data["user"]),
        program=str(data.get("program", "")),
        began=str(data["began"]),
        amount=float(data["amount"]),
        currency=str(data["currency"]),
        rate=float(data.get("rate", 0.0)),
        at=str(data.get("at", "")),
        until=str(data.get("until", "")),
        runs=int(data.get("runs", 1)),
        pool=str(data.get("pool", "")),
        gpu_hours=float(data.get("gpu_hours", 0.0)),
        gpus=int(data.get("gpus", 0)),
    )
    for text in (entry.began, entry.at or entry.began, entry.until or entry.began):
        _moment(text)
    numbers = (entry.amount, entry.rate, entry.runs, entry.gpu_hours, entry.gpus)
    if not all(0 <= number < inf for number in numbers):
        raise ValueError("not an amount of money")
    return entry


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _as_key(text: str) -> str:
    """Return a text as a ConfigMap's key. Other characters become their number, so that keys stay distinct."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in text)
