"""`skjob dashboard`: open a way to the Dask dashboard of a cluster on Kubernetes, for as long as the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.completion import complete_cluster
from skjob.cli.options import ContextOption, NamespaceOption

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.api.client import Api

POLL_INTERVAL = 5.0
MAX_MISSED = 3
"""How often the dashboard may not answer, one time after the other, before it is taken for gone."""


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

    from skjob.cli.options import connect_as_asked

    api = connect_as_asked("dashboard", context, namespace)
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
    found = [run.name for run in runs.runs(api, api.context.namespace) if run.user == user]
    if len(found) != 1:
        names = f": {', '.join(f'`{each}`' for each in found)}" if found else ""
        raise ConfigError(
            f"`{user}` has {len(found)} clusters in namespace `{api.context.namespace}`{names}",
            "name one: `skjob dashboard NAME`; `skjob ps` lists the names",
        )
    return found[0]


async def _serve(api: Api, name: str, *, open_it: bool) -> None:
    """Print the link, and return never.

    Raises:
        ConfigError: the cluster is not there, or its scheduler has no dashboard.
        Unanswered: the scheduler does not answer.
        ClusterLost: it does not answer any more.
    """
    import asyncio
    import webbrowser

    from skjob.deploy.dashboard import Pages, link_to, pages_at
    from skjob.deploy.kubernetes.kubecluster import forwarded_pages
    from skjob.errors import ClusterLost, ConfigError, Unanswered

    async with forwarded_pages(api.context, name) as port:
        pages = await asyncio.to_thread(pages_at, port)
        if pages is Pages.WITHOUT_BOKEH:
            raise ConfigError(
                f"the scheduler of `{name}` has no dashboard: bokeh is not in its environment",
                "install `bokeh` where you start clusters, and start it again",
            )
        if pages is Pages.SILENT:
            raise Unanswered(f"the scheduler of `{name}` does not answer", "`skjob ps` shows whether it is there")
        link = link_to(port)
        typer.echo(link)
        typer.echo("skjob: Ctrl-C ends the way to it", err=True)
        if open_it:
            webbrowser.open(link)
        missed = 0
        while missed < MAX_MISSED:
            await asyncio.sleep(POLL_INTERVAL)
            missed = missed + 1 if await asyncio.to_thread(pages_at, port) is Pages.SILENT else 0
        raise ClusterLost(f"the dashboard of `{name}` does not answer any more", "`skjob ps` shows whether it is there")
