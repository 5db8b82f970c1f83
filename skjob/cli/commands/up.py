"""`skjob up`: start a cluster for later runs of `skjob run --cluster NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skjob.cli.options import (
    ArchOption,
    ContextOption,
    EnvOption,
    IdleTimeoutOption,
    ImageOption,
    NamespaceOption,
    NodePoolOption,
    SecretEnvOption,
    SetEnvOption,
    StartTimeoutOption,
    WorkerCpuOption,
    WorkerGpuOption,
    WorkerMemoryOption,
    WorkersOption,
    layers,
)


def up(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The cluster's name.", show_default=False)],
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    workers: WorkersOption = None,
    worker_cpu: WorkerCpuOption = None,
    worker_memory: WorkerMemoryOption = None,
    worker_gpu: WorkerGpuOption = None,
    node_pool: NodePoolOption = None,
    image: ImageOption = None,
    arch: ArchOption = None,
    env: EnvOption = None,
    set_env: SetEnvOption = None,
    secret_env: SecretEnvOption = None,
    start_timeout: StartTimeoutOption = None,
    idle_timeout: IdleTimeoutOption = None,
) -> None:
    """Start a cluster that stays: `skjob run --cluster NAME` starts on it at once, one run at a time.

    It is removed when it has been unused for its idle timeout, or by `skjob down NAME`.
    """
    from skjob.run.warm_cluster import start_warm_cluster

    raise typer.Exit(start_warm_cluster(name, layers("up", ctx.params), Path.cwd(), _write))


def _write(line: str) -> None:
    typer.echo(f"skjob: {line}", err=True)
