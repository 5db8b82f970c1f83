"""`skjob down`: remove kept clusters, and those whose run no longer removes them."""

from __future__ import annotations

from typing import Annotated

import typer

from skjob.cli.completion import complete_cluster
from skjob.cli.options import ContextOption, NamespaceOption


def down(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Names of clusters, as listed by `skjob ps`.",
            show_default=False,
            autocompletion=complete_cluster,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Remove all of your own clusters in the namespace.")] = False,
    everyone: Annotated[bool, typer.Option("--everyone", help="With --all: other users' clusters too.")] = False,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return without waiting until everything is removed.")
    ] = False,
) -> None:
    """Remove clusters and everything that belongs to them. A run that is still going loses its cluster."""
    import getpass

    from skjob.cli.options import connect_with_options
    from skjob.deploy.kubernetes.inventory import cleanup, runs
    from skjob.errors import ConfigError

    if bool(names) == every or (everyone and not every):
        raise ConfigError("`skjob down` takes names or `--all`", "list the names with `skjob ps`")
    api = connect_with_options("down", context, namespace)
    all_runs = runs.runs(api, api.context.namespace)
    user = None if everyone else getpass.getuser()
    chosen = runs.choose(all_runs, names or None, user)
    if not chosen:
        whose = "" if everyone else f" of `{user}`"
        typer.echo(f"skjob: no clusters{whose} in namespace `{api.context.namespace}`", err=True)
        return
    cleanup.remove_runs(api, chosen, wait=not no_wait)
    for run in chosen:
        typer.echo(f"skjob: {'requested the removal of' if no_wait else 'removed'} `{run.name}`", err=True)
