"""Test `skjob costs`: its table, and the values of `--since`."""

from datetime import UTC, datetime
from typing import Any

import pytest

from skjob.cli.commands.costs import By, _moment, _named, table
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.ledger import Entry, Total
from skjob.errors import ConfigError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_a_table_with_a_total_for_each_currency() -> None:
    totals = [Total("ann", 12, 4.2, "EUR"), Total("bob", 1, 3.004, "USD"), Total("", 2, 0.5, "EUR")]
    assert table(totals, By.USER) == [
        "USER   RUNS  COST",
        "ann    12    4.20  EUR",
        "bob    1     3.00  USD",
        "-      2     0.50  EUR",
        "total  14    4.70  EUR",
        "total  1     3.00  USD",
    ]


def test_a_table_has_gpu_hours_where_there_are_any() -> None:
    totals = [Total("gpu", 2, 9.0, "EUR", 3.5), Total("batch", 1, 1.0, "EUR")]
    assert table(totals, By.POOL) == [
        "POOL   RUNS  COST        GPU HOURS",
        "gpu    2     9.00   EUR  3.50",
        "batch  1     1.00   EUR  0.00",
        "total  3     10.00  EUR  3.50",
    ]


class _Everywhere(Api):
    """Ledgers of two namespaces."""

    def __init__(self) -> None:
        super().__init__(None, Context("c", "a", "https://api"))

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[Any]:
        assert (kind, namespace, fields) == ("ConfigMap", "", "metadata.name=skjob-costs")
        entry = Entry("ann", "train", "2026-11-26T09:00:00+00:00", 4.0, "USD").as_json()
        return [
            {"metadata": {"namespace": "a"}, "data": {"1": entry, "2": entry}},
            {"metadata": {"namespace": "b"}, "data": {"1": entry}},
            {"metadata": {"namespace": "c"}},
        ]


@pytest.mark.parametrize(
    ("by", "totals"),
    [
        (By.NAMESPACE, [Total("a", 2, 8.0, "USD"), Total("b", 1, 4.0, "USD")]),
        (By.USER, [Total("ann", 3, 12.0, "USD")]),
        (By.MONTH, [Total("2026-11", 3, 12.0, "USD")]),
    ],
)
def test_of_all_teams(by: By, totals: list[Total]) -> None:
    assert ledger.totals(_named(ledger.read_everywhere(_Everywhere()), by), NOW) == totals


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T06:00+02:00", datetime(2026, 11, 1, 4, tzinfo=UTC)),
        ("48h", datetime(2026, 11, 24, 12, tzinfo=UTC)),
    ],
)
def test_since_when(text: str, moment: datetime) -> None:
    assert _moment(text, NOW) == moment


def test_since_no_time() -> None:
    with pytest.raises(ConfigError) as caught:
        _moment("last week", NOW)
    assert (
        caught.value.message
        == "`--since` must be a date such as `2026-11-01` or a duration such as `48h`, not `last week`"
    )
