"""Test the ledger of costs: an entry's amount over time, totals, and compacting past months without losing a cent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry, Total, aggregate, read_entries, since, totals
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import ForbiddenError, StartError

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ENDED = Entry("ann", "train", "2026-11-26T09:00:00+00:00", 4.0, "USD")
GOING = replace(ENDED, rate=2.0, at="2026-11-26T11:00:00+00:00", until="2026-11-26T13:00:00+00:00")


class _Ledger(Api):
    """A ConfigMap that somebody else changes before each of the first `races` conditional patches."""

    def __init__(self, data: dict[str, str] | None, races: int = 0) -> None:
        super().__init__(None, Context("c", "team", "https://api"))
        self.data = data
        self.races = races
        self.version = 1

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest:
        assert (kind, name, namespace) == ("ConfigMap", "skjob-costs", "team")
        if self.data is None:
            raise NotFound("configmaps not found")
        return {"metadata": {"resourceVersion": str(self.version)}, "data": dict(self.data)}

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest, *, timeout: float | None = None) -> Manifest:
        assert (kind, name, namespace) == ("ConfigMap", "skjob-costs", "team")
        if self.data is None:
            raise NotFound("configmaps not found")
        if "metadata" in patch and self.races:
            self.races -= 1
            self.version += 1
            self.data["race"] = replace(ENDED, user="bob").as_json()
        if "metadata" in patch and patch["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("it has changed")
        changes: dict[str, Any] = patch["data"]
        self.data = {key: text for key, text in (self.data | changes).items() if text is not None}
        self.version += 1
        return {}


@pytest.mark.parametrize(
    ("entry", "after", "amount"),
    [
        (ENDED, 0.0, 4.0),
        (ENDED, 1000.0, 4.0),
        (GOING, 0.0, 6.0),
        (GOING, 0.5, 7.0),
        (GOING, 1000.0, 8.0),  # its client died: by then Kubernetes has removed it
        (GOING, -2.0, 4.0),
    ],
)
def test_what_an_entry_tells_later(entry: Entry, after: float, amount: float) -> None:
    assert entry.by(NOON + timedelta(hours=after)) == amount


def test_an_entry_as_it_is_written() -> None:
    assert read_entries({"a": ENDED.as_json(), "b": GOING.as_json()}) == {"a": ENDED, "b": GOING}


@pytest.mark.parametrize(
    "text",
    ["", "5", "[]", "{}", '{"user": "a", "began": "x", "amount": 1, "currency": "USD"}',
     ENDED.as_json().replace("4.0", "NaN"), ENDED.as_json().replace("4.0", "-4.0"),
     GOING.as_json().replace("2026-11-26T13", "later"), replace(GOING, until="0001-01-01T00:00:00+14:00").as_json(),
     ENDED.as_json().replace('"runs": 1', '"runs": Infinity')],
)  # fmt: skip
def test_what_is_no_entry_is_left_out(text: str) -> None:
    assert read_entries({"a": text, "b": ENDED.as_json()}) == {"b": ENDED}


ENTRIES = {
    "1": ENDED,
    "2": GOING,
    "3": replace(ENDED, user="bob", began="2026-10-30T00:00:00+00:00", amount=1.0),
    "4": replace(ENDED, user="bob", currency="EUR", amount=3.0),
    "month-2026-10.ann.USD": replace(ENDED, program="", began="2026-10-02T00:00:00+00:00", amount=9.0, runs=7),
}


def _by(name: str, entries: dict[str, Entry]) -> list[tuple[str, Entry]]:
    return [(getattr(entry, name), entry) for entry in entries.values()]


def test_totals_by_user_and_month() -> None:
    assert totals(_by("user", ENTRIES), NOON) == [
        Total("ann", 9, 19.0, "USD"),
        Total("bob", 1, 3.0, "EUR"),
        Total("bob", 1, 1.0, "USD"),
    ]
    assert totals(_by("month", ENTRIES), NOON) == [
        Total("2026-10", 8, 10.0, "USD"),
        Total("2026-11", 2, 10.0, "USD"),
        Total("2026-11", 1, 3.0, "EUR"),
    ]


def test_since_a_day() -> None:
    assert [*since(ENTRIES, datetime(2026, 11, 1, tzinfo=UTC))] == ["1", "2", "4"]
    # Of a compacted month, nothing but the month is known.
    assert [*since(ENTRIES, datetime(2026, 10, 31, tzinfo=UTC))] == ["1", "2", "4", "month-2026-10.ann.USD"]


def test_the_oldest_are_added_up_by_user_and_month() -> None:
    october = "2026-10-30T00:00:00+00:00"
    entries = ENTRIES | {
        "5": replace(ENDED, began=october, amount=0.5),
        "6": replace(GOING, began=october),  # goes on
        "7": replace(ENDED, user="Zoë B.", began=october, amount=2.0),
    }
    assert aggregate(entries, NOON, len(entries)) == {}
    changes = aggregate(entries, NOON, 5)
    assert {key: entry and (entry.user, entry.amount, entry.runs) for key, entry in changes.items()} == {
        "3": None,
        "5": None,
        "7": None,
        "month-2026-10.bob.USD": ("bob", 1.0, 1),
        "month-2026-10.ann.USD": ("ann", 9.5, 8),
        "month-2026-10.Zo_eb__20_B_2e_.USD": ("Zoë B.", 2.0, 1),
    }
    after = {key: entry for key, entry in (entries | changes).items() if entry is not None}
    for by in ("user", "month"):
        assert totals(_by(by, after), NOON) == totals(_by(by, entries), NOON)
    left = {key for key, entry in aggregate(after, NOON, 0).items() if entry is None}
    assert left == {"1", "4"}  # running entries and compacted ones stay


def test_what_is_added_up_keeps_pool_and_gpu_hours() -> None:
    """Sums from before there were pools stay as they are, and take what was in no pool."""
    began = "2026-10-30T00:00:00+00:00"
    gpu = replace(ENDED, began=began, pool="gpu-a", gpu_hours=1.5)
    entries = {"month-2026-10.ann.USD": ENTRIES["month-2026-10.ann.USD"]} | {
        "1": gpu,
        "2": gpu,
        "3": replace(gpu, pool="gpu.b"),
        "4": replace(ENDED, began=began),
    }
    added = {key: entry for key, entry in (entries | aggregate(entries, NOON, 0)).items() if entry is not None}
    assert {key: (entry.pool, entry.runs, entry.gpu_hours) for key, entry in added.items()} == {
        "month-2026-10.ann.USD": ("", 8, 0.0),
        "month-2026-10.ann.USD.gpu_2d_a": ("gpu-a", 2, 3.0),
        "month-2026-10.ann.USD.gpu_2e_b": ("gpu.b", 1, 1.5),
    }
    assert read_entries({key: entry.as_json() for key, entry in added.items()}) == added
    for by in ("pool", "user", "month"):
        assert totals(_by(by, added), NOON) == totals(_by(by, entries), NOON)
    # The next time, more of the same goes into the same sums.
    again = aggregate(added | {"5": gpu}, NOON, 0)
    assert [*again] == ["month-2026-10.ann.USD.gpu_2d_a", "5"]


@pytest.mark.parametrize("races", [0, 1, 9])
def test_many_entries_are_tidied_up_and_none_is_lost(races: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_ENTRIES", 3)
    old = replace(ENDED, began="2026-10-30T00:00:00+00:00")
    api = _Ledger({str(number): old.as_json() for number in range(5)}, races)
    ledger.compact(api, "team", NOON)
    assert api.data is not None
    entries = read_entries(api.data)
    assert sum(entry.amount for entry in entries.values() if entry.user == "ann") == 20.0
    assert len(entries) == (5 + 1 if races > 3 else 2)


def test_few_entries_stay_as_they_are() -> None:
    api = _Ledger({"1": replace(ENDED, began="2025-10-30T00:00:00+00:00").as_json()})
    ledger.compact(api, "team", NOON)
    assert api.version == 1


def test_runs_write_over_nobodys_entry() -> None:
    api = _Ledger({"theirs": ENDED.as_json()})
    ledger.record(api, "team", "ours", GOING)
    ledger.record(api, "team", "ours", replace(GOING, amount=5.0))
    assert read_entries(api.data or {}) == {"theirs": ENDED, "ours": replace(GOING, amount=5.0)}


def test_what_was_removed_costs_no_more() -> None:
    api = _Ledger({"a": GOING.as_json(), "b": ENDED.as_json()})
    for key in ("a", "b", "absent"):
        ledger.change(api, "team", key, NOON)
    assert read_entries(api.data or {}) == {"a": replace(ENDED, amount=6.0), "b": ENDED}


def test_what_is_left_costs_less() -> None:
    api = _Ledger({"a": GOING.as_json()})
    ledger.change(api, "team", "a", NOON, rate=0.5, lives=7200.0)
    entry = read_entries(api.data or {})["a"]
    assert [entry.by(NOON + timedelta(hours=hours)) for hours in (0, 1, 2, 3)] == [6.0, 6.5, 7.0, 7.0]


def test_without_a_ledger() -> None:
    api = _Ledger(None)
    ledger.change(api, "team", "a", NOON)
    ledger.compact(api, "team", NOON)
    with pytest.raises(StartError) as caught:
        ledger.read_ledger(api, "team")
    assert caught.value.message == "namespace `team` has no ledger of costs"
    assert "kubectl -n team create configmap skjob-costs" in caught.value.hint


def test_why_nothing_is_written() -> None:
    assert ledger.why_not(NotFound("x"), "team").startswith(
        "costs are not added to the team's totals: namespace `team` has no ConfigMap `skjob-costs`; the chart"
    )
    assert "not allowed to patch ConfigMap `skjob-costs`" in ledger.why_not(ForbiddenError("x"), "team")
