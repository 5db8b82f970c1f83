"""`skjob gc`: remove the remains of runs that have ended, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.options import ContextOption, NamespaceOption

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.inventory.garbage import Garbage, Terminating


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, without removing it.")
    ] = False,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace; requires the permissions for that.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array of the objects' runs.")] = False,
) -> None:
    """Remove what is left of runs that are over, regardless of owner: what nothing owns, or should be gone by now.

    Runs under way, and kept clusters that are not due yet, are left alone. So is what
    Kubernetes has just begun to remove.
    """
    from skjob.cli.options import connect_with_options, hint_if_forbidden
    from skjob.deploy.kubernetes.inventory import garbage

    api = connect_with_options("gc", context, namespace)
    with hint_if_forbidden(all_namespaces=all_namespaces):
        result = garbage.find_garbage(api, None if all_namespaces else api.context.namespace)
    if json:
        typer.echo(_as_json(result.garbage))
    else:
        for each in result.garbage:
            run = each.run
            verb = "would remove" if dry_run else "removing"
            typer.echo(f"skjob: {verb} `{run.name}` of `{run.user}` in `{run.namespace}`: {each.why}", err=True)
        if not result.garbage and not result.terminating:
            typer.echo("skjob: nothing to clean up", err=True)
    for terminating in result.terminating:
        typer.echo(_describe(terminating), err=True)
    if result.garbage and not dry_run:
        garbage.remove_garbage(api, result.garbage)


def _describe(terminating: Terminating) -> str:
    from math import ceil

    run = terminating.run
    seconds = terminating.due_in
    due = "" if seconds is None else f"; `skjob gc` removes it in {ceil(seconds)} s, if it still exists"
    return f"skjob: `{run.name}` of `{run.user}` in `{run.namespace}` is being removed: {terminating.why}{due}"


def _as_json(result: list[Garbage]) -> str:
    import json
    from dataclasses import asdict

    return json.dumps([asdict(each) for each in result], indent=2, default=str)
