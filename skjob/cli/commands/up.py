"""`skjob up`: a cluster that waits for the programs that `skjob run --cluster NAME` brings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skjob.cli.options import ContextOption, NamespaceOption

Text = str | None


def up(
    name: Annotated[str, typer.Argument(help="What the cluster will be called.", show_default=False)],
    workers: Annotated[
        Text,
        typer.Option(metavar="N|MIN:MAX", help="Workers: a number, or a range that runs scale it in. [default: 1:4]"),
    ] = None,
    idle_timeout: Annotated[
        Text, typer.Option(metavar="TIME", help="How long it lives after its last use. [default: 4h]")
    ] = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    image: Annotated[Text, typer.Option(help="The image of scheduler and workers. [default: Python's own]")] = None,
    env: Annotated[
        Text, typer.Option(metavar="auto|none|FILE", help="What the pods must have, as for a run. [default: auto]")
    ] = None,
    worker_cpu: Annotated[Text, typer.Option(metavar="CORES", help="Cores a worker requests. [default: 500m]")] = None,
    worker_memory: Annotated[
        Text, typer.Option(metavar="BYTES", help="A worker's memory limit. [default: 2Gi]")
    ] = None,
    start_timeout: Annotated[
        Text, typer.Option(metavar="TIME", help="How long to wait for the first worker. [default: 5m]")
    ] = None,
) -> None:
    """Start a cluster that stays: `skjob run --cluster NAME` begins on it at once, one run at a time.

    It goes when nobody has used it for its idle timeout, or with `skjob down NAME`.
    """
    from skjob.cli.options import layers
    from skjob.run.warm_cluster import up as start

    given = {
        "workers": workers,
        "idle_timeout": idle_timeout,
        "context": context,
        "namespace": namespace,
        "image": image,
        "env": env,
        "worker_cpu": worker_cpu,
        "worker_memory": worker_memory,
        "start_timeout": start_timeout,
    }
    raise typer.Exit(start(name, layers("up", **given), Path.cwd(), _say))


def _say(line: str) -> None:
    typer.echo(f"skjob: {line}", err=True)
