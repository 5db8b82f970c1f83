"""`skjob doctor`: check the cluster; one line and one fix per problem."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.options import ContextOption, NamespaceOption

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.doctor import Check, DoctorReport

_COLOURS = {"ok": "32", "warn": "33", "fail": "1;31", "skip": "2"}


def doctor(
    ctx: typer.Context,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    image: Annotated[str | None, typer.Option(help="The image to check. [default: the one a run would use]")] = None,
    worker_cpu: Annotated[
        str | None, typer.Option(metavar="CORES", help="Check that a node has this much for a worker.")
    ] = None,
    worker_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Check that a node has this much for a worker.")
    ] = None,
    worker_gpu: Annotated[
        str | None, typer.Option(metavar="N", help="Check that a node has this many GPUs for a worker.")
    ] = None,
    node_pool: Annotated[str | None, typer.Option(metavar="NAME", help="Check the nodes of this node pool.")] = None,
    skip_image: Annotated[
        bool, typer.Option("--skip-image", help="Do not start the short-lived pod that reports the image's versions.")
    ] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for that pod.")] = "2m",
    role: Annotated[
        bool,
        typer.Option("--role", help="Print the Role that a user of skjob needs, as YAML, without checking anything."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Check everything that a run needs. The exit status is 0, or that of the first failed check."""
    from skjob.cli.options import layers, namespace_of, resolved

    requested, seconds = resolved("doctor", layers("doctor", ctx.params), timeout)
    if role:
        _print_role(namespace_of(requested.settings))
        return

    from skjob.deploy.kubernetes.doctor import examine

    report = examine(requested, check_image=not skip_image, timeout=seconds, on_check=_ignore if json else _show)
    if json:
        typer.echo(_as_json(report))
    raise typer.Exit(report.exit_code)


def _show(check: Check) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    mark = f"{check.outcome:<4}"
    mark = f"\x1b[{_COLOURS[check.outcome]}m{mark}\x1b[0m" if colour else mark
    typer.echo(f"{mark}  {check.name:<11}  {check.detail}")
    if check.remedy:
        typer.echo(f"      {'':<11}  → {check.remedy}")


def _ignore(_: Check) -> None:
    """Print nothing: all checks are printed at the end."""


def _as_json(report: DoctorReport) -> str:
    import json
    from dataclasses import asdict

    return json.dumps({"exit_code": report.exit_code, "checks": [asdict(check) for check in report.checks]}, indent=2)


def _print_role(namespace: str) -> None:
    import yaml

    from skjob.deploy.kubernetes.api.rbac import role

    typer.echo(yaml.safe_dump(role(namespace), sort_keys=False), nl=False)
