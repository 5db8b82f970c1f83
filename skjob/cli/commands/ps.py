"""`skjob ps`: list skjob's clusters, and when they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.options import ContextOption, NamespaceOption
from skjob.cli.tables import aligned

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.inventory.runs import RunningCluster


def ps(
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List every namespace; requires permission to do so.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the clusters that skjob has in Kubernetes: those of runs, and those that were kept or left behind."""
    from skjob.cli.options import connect_with_options, hint_if_forbidden
    from skjob.deploy.kubernetes.inventory import runs

    api = connect_with_options("ps", context, namespace)
    with hint_if_forbidden(all_namespaces=all_namespaces):
        clusters = runs.runs(api, None if all_namespaces else api.context.namespace)
    if json:
        typer.echo(_as_json(clusters))
        return
    if not clusters:
        where = "any namespace" if all_namespaces else f"namespace `{api.context.namespace}`"
        typer.echo(f"skjob: no clusters in {where} of context `{api.context.name}`", err=True)
        return
    for line in table(clusters, with_namespace=all_namespaces):
        typer.echo(line)


def table(clusters: list[RunningCluster], *, with_namespace: bool) -> list[str]:
    """Return the lines of the table, starting with its heading."""
    from skjob.deploy.kubernetes.costs.prices import money

    heading = ["NAME", "USER", "PROGRAM", "AGE", "WORKERS", "COST", "STATE", "EXPIRES"]
    rows = [
        [
            run.name,
            run.user or "-",
            run.program or "-",
            duration(run.age_seconds),
            f"{run.workers}/{run.workers_asked}",
            "-" if run.cost is None else money(run.cost, run.currency),
            str(run.state),
            expiry(run),
        ]
        for run in clusters
    ]
    if any(run.used_by for run in clusters):
        heading.append("USED BY")
        for row, run in zip(rows, clusters, strict=True):
            row.append(run.used_by)
    if with_namespace:
        heading.insert(0, "NAMESPACE")
        for row, run in zip(rows, clusters, strict=True):
            row.insert(0, run.namespace)
    return aligned([heading, *rows])


def expiry(run: RunningCluster) -> str:
    """Return when Kubernetes will remove a cluster. Heartbeats renew a run's cluster while its skjob lives."""
    if run.expires_in is None:
        return "never"
    renewed = " unless renewed" if run.state in ("starting", "running") else ""
    return f"in {duration(run.expires_in)}{renewed}"


def duration(seconds: float) -> str:
    """Return a duration as `42s`, `5m`, `2h05m` or `3d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _as_json(clusters: list[RunningCluster]) -> str:
    import json
    from dataclasses import asdict

    return json.dumps([asdict(run) for run in clusters], indent=2, default=str)
