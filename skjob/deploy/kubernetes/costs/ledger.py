"""The ledger of a namespace: what runs have cost, a key a run, in the ConfigMap `skjob-costs`.

Each run patches its own key while it goes on, so that no two write over each other. An entry says what was spent by
then, what an hour costs, and until when at most that goes on: of a run whose client is gone it tells what Kubernetes'
removing it at its deadline has cost, with nobody there to write it down.

A ConfigMap holds 1 MiB, some thousands of entries: the oldest are then added up by user and month, in one write that
fails where anybody has written in between. It is a record, no proof: whoever may run skjob may edit it.
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

from skjob.deploy.kubernetes.api.client import Api, Manifest
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Rejected
from skjob.deploy.kubernetes.costs.prices import HOUR
from skjob.deploy.kubernetes.manifests.labels import LEDGER_CONFIGMAP
from skjob.errors import ForbiddenError, SkjobError, StartError

MOST_ENTRIES = 2000
"""Beyond which the oldest are added up until half of them are left: at up to 300 bytes each, half of what a ConfigMap
holds."""

NO_LEDGER = (NotFound, ForbiddenError, Rejected)
"""The errors after which there is no use in trying again."""

_SUMMED = "month-"
_TRIES = 3


@dataclass(frozen=True)
class Entry:
    """What one run has cost, or, where `runs` is more than one, all of a user's in a month.

    `amount` was spent by `at`, and `rate` is spent each hour from then until `until`. Times are in ISO 8601, UTC.
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

    def by(self, now: datetime) -> float:
        """The amount by now."""
        at, until = _moment(self.at), _moment(self.until)
        if at is None or until is None:
            return self.amount
        return self.amount + self.rate * max(0.0, (min(now, until) - at).total_seconds()) / HOUR

    def goes_on(self, now: datetime) -> bool:
        """Whether it may still grow."""
        until = _moment(self.until)
        return until is not None and until > now

    @property
    def month(self) -> str:
        """In which it began, `2026-11`."""
        return self.began[:7]

    def as_json(self) -> str:
        """As it stands in the ledger."""
        return json.dumps({name: value for name, value in asdict(self).items() if value != ""})


@dataclass(frozen=True)
class Total:
    """What some runs have cost together."""

    name: str
    runs: int
    amount: float
    currency: str


def read_entries(data: Mapping[str, str]) -> dict[str, Entry]:
    """The entries of a ledger's data; what can't be read as one is left out: anybody may have written it."""
    entries = {}
    for key, text in data.items():
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            entries[key] = _entry(json.loads(text))
    return entries


def since(entries: Mapping[str, Entry], moment: datetime) -> dict[str, Entry]:
    """Those that began then or later. What was added up by month counts where its month is not over by then."""
    first = moment.astimezone(UTC).isoformat(timespec="seconds")
    return {
        key: entry
        for key, entry in entries.items()
        if (entry.month >= first[:7] if key.startswith(_SUMMED) else entry.began >= first)
    }


def totals(named: Iterable[tuple[str, Entry]], now: datetime) -> list[Total]:
    """Of entries of the same name, the dearest first. Currencies are not added up."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    runs: dict[tuple[str, str], int] = defaultdict(int)
    for name, entry in named:
        sums[name, entry.currency].append(entry.by(now))
        runs[name, entry.currency] += entry.runs
    found = [Total(name, runs[name, currency], sum(each), currency) for (name, currency), each in sums.items()]
    return sorted(found, key=lambda total: (-total.amount, total.name))


def aggregate(entries: Mapping[str, Entry], now: datetime, most: int) -> dict[str, Entry | None]:
    """The patch that adds up the oldest until `most` are left, as far as they are over: None for what then goes."""
    ended = {key: entry for key, entry in entries.items() if not key.startswith(_SUMMED) and not entry.goes_on(now)}
    oldest = sorted(ended, key=lambda key: (ended[key].began, key))[: max(0, len(entries) - most)]
    changes: dict[str, Entry | None] = {}
    for key in oldest:
        entry = ended[key]
        sum_key = f"{_SUMMED}{entry.month}.{_as_key(entry.user)}.{_as_key(entry.currency)}"
        so_far = changes.get(sum_key) or entries.get(sum_key) or replace(entry, program="", amount=0.0, runs=0)
        amount, count = so_far.amount + entry.by(now), so_far.runs + entry.runs
        changes[sum_key] = replace(so_far, amount=amount, runs=count, rate=0.0, at="", until="")
        changes[key] = None
    return changes


def record(api: Api, namespace: str, key: str, entry: Entry) -> None:
    """Write a run's entry, in place of what it has written before.

    Raises:
        NotFound: the namespace has no ledger.
        ForbiddenError: it may not be written.
    """
    api.patch("ConfigMap", LEDGER_CONFIGMAP, namespace, {"data": {key: entry.as_json()}}, timeout=_PATIENCE)


def change(api: Api, namespace: str, key: str, now: datetime, *, rate: float = 0.0, lives: float = 0.0) -> None:
    """From now on it costs something else, for so many seconds; nothing, where it was removed.

    Nothing happens where there is no entry, or where it can't be written.
    """
    with suppress(SkjobError):
        entry = read_entries(_ledger(api, namespace).get("data") or {}).get(key)
        if entry is not None:
            at, until = (moment.isoformat(timespec="seconds") for moment in (now, now + timedelta(seconds=lives)))
            changed = replace(entry, amount=entry.by(now), rate=rate, at=at, until=until)
            record(api, namespace, key, changed if lives else replace(changed, rate=0.0, at="", until=""))


def compact(api: Api, namespace: str, now: datetime) -> None:
    """Add up the oldest where there are many entries. Whoever can't, leaves it to the next."""
    with suppress(SkjobError):
        for _ in range(_TRIES):
            ledger = _ledger(api, namespace)
            data = ledger.get("data") or {}
            if len(data) <= MOST_ENTRIES:
                return
            changes = aggregate(read_entries(data), now, MOST_ENTRIES // 2)
            if not changes:
                return
            patch = {
                # With the version that was seen, so that nothing is lost that somebody writes meanwhile.
                "metadata": {"resourceVersion": ledger["metadata"]["resourceVersion"]},
                "data": {key: entry and entry.as_json() for key, entry in changes.items()},
            }
            with suppress(Conflict):
                api.patch("ConfigMap", LEDGER_CONFIGMAP, namespace, patch)
                return


def read(api: Api, namespace: str) -> dict[str, Entry]:
    """All entries of a namespace's ledger.

    Raises:
        StartError: there is no ledger; with what makes one.
        ForbiddenError: it may not be read.
    """
    try:
        return read_entries(_ledger(api, namespace).get("data") or {})
    except NotFound as error:
        raise StartError(f"there is no ledger of costs in namespace `{namespace}`", remedy(namespace)) from error


def read_everywhere(api: Api) -> dict[str, dict[str, Entry]]:
    """The entries of all ledgers, by namespace. Raises ForbiddenError where not all may be read."""
    ledgers = api.list("ConfigMap", fields=f"metadata.name={LEDGER_CONFIGMAP}")
    return {each["metadata"]["namespace"]: read_entries(each.get("data") or {}) for each in ledgers}


def why_not(error: SkjobError, namespace: str) -> str:
    """In one line, why what a run costs is not written down."""
    if isinstance(error, NotFound):
        cause = f"namespace `{namespace}` has no ConfigMap `{LEDGER_CONFIGMAP}`"
    elif isinstance(error, ForbiddenError):
        cause = f"you may not patch ConfigMap `{LEDGER_CONFIGMAP}` in namespace `{namespace}`"
    else:
        cause = error.message
    return f"what this costs is not added to the team's totals: {cause}; {remedy(namespace)}"


def remedy(namespace: str) -> str:
    """Who makes a ledger."""
    return f"the chart `helm/skjob` makes it, or `kubectl -n {namespace} create configmap {LEDGER_CONFIGMAP}`"


_PATIENCE = 5.0


def _ledger(api: Api, namespace: str) -> Manifest:
    return api.get("ConfigMap", LEDGER_CONFIGMAP, namespace)


def _entry(read: dict[str, Any]) -> Entry:
    entry = Entry(
        user=str(read["user"]),
        program=str(read.get("program", "")),
        began=str(read["began"]),
        amount=float(read["amount"]),
        currency=str(read["currency"]),
        rate=float(read.get("rate", 0.0)),
        at=str(read.get("at", "")),
        until=str(read.get("until", "")),
        runs=int(read.get("runs", 1)),
    )
    for text in (entry.began, entry.at or entry.began, entry.until or entry.began):
        _moment(text)
    if not (0 <= entry.amount < inf and 0 <= entry.rate < inf and entry.runs >= 0):
        raise ValueError("no amount of money")
    return entry


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _as_key(text: str) -> str:
    """Characters that a ConfigMap's key may have; others as their number, so that no two become one."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in text)
