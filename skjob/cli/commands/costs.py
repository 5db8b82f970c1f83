"""`skjob costs`: add up the costs of a namespace's runs, from its ledger."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.options import ContextOption, NamespaceOption
from skjob.cli.tables import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from skjob.deploy.kubernetes.costs.ledger import Entry, Total

    Ledgers = Mapping[str, Mapping[str, Entry]]


class By(StrEnum):
    """How costs are grouped."""

    USER = "user"
    MONTH = "month"
    POOL = "pool"
    PROGRAM = "program"
    NAMESPACE = "namespace"


def costs(
    by: Annotated[
        By | None,
        typer.Option("--by", help="How to group costs. [default: user; with --all-namespaces, namespace]"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="DATE|TIME", help="Only runs that began since then: 2026-11-01 or 48h. [default: all]"),
    ] = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Include every namespace; requires permission to list them.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object, with each entry of the ledger.")] = False,
) -> None:
    """Add up the costs of a namespace's runs. A run's costs count at the time it began.

    Running programs count with their costs so far. The platform team sets the prices.
    """
    from datetime import UTC, datetime

    from skjob.cli.options import connect_with_options, hint_if_forbidden
    from skjob.deploy.kubernetes.costs import ledger

    now = datetime.now(UTC)
    first = _moment(since, now) if since is not None else None
    api = connect_with_options("costs", context, namespace)
    current = api.context.namespace
    with hint_if_forbidden(all_namespaces=all_namespaces):
        ledgers = ledger.read_everywhere(api) if all_namespaces else {current: ledger.read_ledger(api, current)}
    if first is not None:
        ledgers = {namespace: ledger.since(entries, first) for namespace, entries in ledgers.items()}
    by = by or (By.NAMESPACE if all_namespaces else By.USER)
    totals = ledger.totals(_named(ledgers, by), now)
    if by is By.MONTH:
        totals.sort(key=lambda total: total.name)
    if json:
        typer.echo(_as_json(totals, ledgers, now))
    elif not totals:
        where = "any namespace" if all_namespaces else f"namespace `{current}`"
        typer.echo(f"skjob: no run in {where} has cost anything", err=True)
    else:
        for line in table(totals, by):
            typer.echo(line)


def _named(ledgers: Ledgers, by: By) -> Iterator[tuple[str, Entry]]:
    """Yield each entry with the name of its group."""
    for namespace, entries in ledgers.items():
        for entry in entries.values():
            yield namespace if by is By.NAMESPACE else str(getattr(entry, by)), entry


def table(totals: list[Total], by: By) -> list[str]:
    """Return the lines of the table: its heading, the groups, and a total per currency."""
    from skjob.deploy.kubernetes.costs.ledger import Total

    sums = []
    for currency in dict.fromkeys(total.currency for total in totals):
        same = [total for total in totals if total.currency == currency]
        runs, amount = sum(total.runs for total in same), sum(total.amount for total in same)
        sums.append(Total("total", runs, amount, currency, sum(total.gpu_hours for total in same)))
    rows = [
        [total.name or "-", str(total.runs), f"{total.amount:.2f}", total.currency, f"{total.gpu_hours:.2f}"]
        for total in (*totals, *sums)
    ]
    rows.insert(0, [by.name, "RUNS", "COST", "", "GPU HOURS"])
    has_gpus = any(total.gpu_hours for total in totals)
    return aligned([row if has_gpus else row[:-1] for row in rows])


def _moment(text: str, now: datetime) -> datetime:
    """Return the start of a day in UTC, or the time `text` ago."""
    from datetime import UTC, datetime, timedelta

    from skjob.config.parsers import parse_seconds
    from skjob.errors import ConfigError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(seconds=parse_seconds(text))
        except ValueError as error:
            raise ConfigError(
                f"`--since` must be a date such as `{now:%Y-%m}-01` or a duration such as `48h`, not `{text}`",
                "see `skjob costs --help`",
            ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _as_json(totals: list[Total], ledgers: Ledgers, now: datetime) -> str:
    import json
    from dataclasses import asdict

    listed = [
        {
            "namespace": namespace,
            "run_id": key,
            **asdict(entry),
            "amount": entry.by(now),
            "gpu_hours": entry.gpu_hours_by(now),
        }
        for namespace, entries in ledgers.items()
        for key, entry in entries.items()
    ]
    return json.dumps({"totals": [asdict(total) for total in totals], "entries": listed}, indent=2)
