"""`skjob dashboard`: forward a port to the Dask dashboard of a cluster on Kubernetes while the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.completion import complete_cluster
from skjob.cli.options import ContextOption, NamespaceOption

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.api.client import Api

POLL_INTERVAL = 5.0
MAX_MISSED = 3
"""Checks that may fail in a row before the scheduler counts as gone."""


def dashboard(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The cluster, as `skjob ps` names it. [default: yours, if there is one]",
            show_default=False,
            autocompletion=complete_cluster,
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Show the Dask dashboard of a cluster at an address of this machine, until Ctrl-C."""
    import asyncio

    from skjob.cli.options import connect_with_options

    api = connect_with_options("dashboard", context, namespace)
    try:
        asyncio.run(_serve(api, name or _only_name(api), open_it=open_it))
    except KeyboardInterrupt:
        return


def _only_name(api: Api) -> str:
    """Return the name of the user's only cluster."""
    import getpass

    from skjob.deploy.kubernetes.inventory import runs
    from skjob.errors import ConfigError

    user = getpass.getuser()
    names = [run.name for run in runs.choose(runs.runs(api, api.context.namespace), None, user)]
    if len(names) != 1:
        clusters = f"{len(names)} clusters" if names else "no cluster"
        listing = f": {', '.join(f'`{each}`' for each in names)}" if names else ""
        raise ConfigError(
            f"`{user}` has {clusters} in namespace `{api.context.namespace}`{listing}",
            "name one: `skjob dashboard NAME`; `skjob ps` lists the names",
        )
    return names[0]


async def _serve(api: Api, name: str, *, open_it: bool) -> None:
    """Print the link; never returns.

    Raises:
        ConfigError: the cluster is not there, or its scheduler has no dashboard, or nothing says how to reach it.
        Unanswered: the scheduler does not answer.
        ClusterLost: it does not answer any more.
    """
    import asyncio
    import webbrowser

    from skjob.deploy.dashboard import Pages, answers_at, link_form, link_to, pages_at
    from skjob.deploy.kubernetes.kubecluster import forwarded_pages
    from skjob.errors import ClusterLost, ConfigError, Unanswered

    async with forwarded_pages(api.context, name) as port:
        pages = await asyncio.to_thread(pages_at, port)
        if pages is Pages.WITHOUT_BOKEH:
            raise ConfigError(
                f"the scheduler of `{name}` has no dashboard: bokeh is not in its environment",
                "skjob's own image brings it; another image must have it, or, with `--env auto`, your environment"
                " where you start the cluster",
            )
        if pages is Pages.SILENT:
            raise Unanswered(f"the scheduler of `{name}` does not answer", "`skjob ps` shows whether it is there")
        form = link_form()
        link = link_to(port, form)
        if link:
            typer.echo(link)
        else:
            _print_ssh_command(port, form)
        typer.echo("skjob: press Ctrl-C to stop forwarding", err=True)
        if open_it and link:
            webbrowser.open(link)
        missed = 0
        while missed < MAX_MISSED:
            await asyncio.sleep(POLL_INTERVAL)
            missed = 0 if await asyncio.to_thread(answers_at, port) else missed + 1
        raise ClusterLost(f"the dashboard of `{name}` does not answer any more", "`skjob ps` shows whether it is there")


def _print_ssh_command(port: int, form: str) -> None:
    """Say how to reach the port from a browser on another machine, over SSH.

    Raises:
        ConfigError: Dask's setting makes no link, or nothing says how to get there.
    """
    import getpass

    from skjob.deploy.dashboard import PLAIN_LINK, ssh_command
    from skjob.errors import ConfigError

    if form != PLAIN_LINK:
        raise ConfigError(
            f"Dask's setting `distributed.dashboard.link`, `{form}`, makes no link here",
            "each `{NAME}` in it must be `scheme`, `host`, `port` or an environment variable",
        )
    command = ssh_command(port, getpass.getuser())
    if not command:
        raise ConfigError(
            "your browser is on another machine, and nothing says how it reaches this one",
            "set `DASK_DISTRIBUTED__DASHBOARD__LINK`, for example to `{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status`",
        )
    typer.echo(f"skjob: port {port} of this machine; run `{command}` where your browser is, and open there", err=True)
    typer.echo(f"http://127.0.0.1:{port}/status")
