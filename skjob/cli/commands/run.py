"""`skjob run`: run a script, a module or a job file on a cluster, and remove the cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from skjob.cli.options import (
    ArchOption,
    CheckpointOption,
    ClusterOption,
    ContextOption,
    EnvOption,
    GraceOption,
    ImageOption,
    JsonOption,
    KeepOption,
    KeepTimeOption,
    MaxCostOption,
    MaxTimeOption,
    MlflowOption,
    NamespaceOption,
    NodePoolOption,
    OnOption,
    QuietOption,
    ResumeOption,
    RetriesOption,
    SecretEnvOption,
    SetEnvOption,
    StartTimeoutOption,
    VerboseOption,
    WorkerCpuOption,
    WorkerGpuOption,
    WorkerMemoryOption,
    WorkersOption,
    layers,
)
from skjob.errors import ConfigError, SkjobError


def run(
    ctx: typer.Context,
    program: Annotated[
        str,
        typer.Argument(help="A Python script, or a job file (.yaml); with -m, a module's name.", show_default=False),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="The program's own arguments.", show_default=False)
    ] = None,
    module: Annotated[
        bool, typer.Option("-m", help="Run a module, as `python -m` does: skjob run -m project.train.")
    ] = False,
    on: OnOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    cluster: ClusterOption = None,
    keep: KeepOption = False,
    workers: WorkersOption = None,
    worker_cpu: WorkerCpuOption = None,
    worker_memory: WorkerMemoryOption = None,
    worker_gpu: WorkerGpuOption = None,
    node_pool: NodePoolOption = None,
    retries: RetriesOption = None,
    image: ImageOption = None,
    arch: ArchOption = None,
    env: EnvOption = None,
    set_env: SetEnvOption = None,
    secret_env: SecretEnvOption = None,
    start_timeout: StartTimeoutOption = None,
    max_time: MaxTimeOption = None,
    max_cost: MaxCostOption = None,
    grace: GraceOption = None,
    keep_time: KeepTimeOption = None,
    checkpoint: CheckpointOption = None,
    resume: ResumeOption = False,
    mlflow: MlflowOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a script, a module or a job file, unchanged, on a cluster.

    Options stand before the program; what follows it is passed to it: skjob run --workers 20 train.py --depth 3
    """
    from skjob.cli.reporter import Reporter
    from skjob.cli.run_arguments import NOTES
    from skjob.config import sources
    from skjob.config.plan import JobSpec
    from skjob.config.settings import Place
    from skjob.report.mlflow.log import MlflowLog
    from skjob.run.program.check import check_program
    from skjob.run.program.variables import variables_of
    from skjob.run.run import RunOptions
    from skjob.run.runner import run as run_job
    from skjob.utils.run_module import find_module

    reporter = Reporter(json=json, verbose=verbose, quiet=quiet)
    try:
        for line in ctx.meta.get(NOTES, ()):
            reporter.notify(line)
        problems = sources.Problems()
        job: JobSpec | None = None
        requested: sources.ResolvedSettings | None = None
        with problems:
            path = find_module(program, Path.cwd(), sys.path) if module else Path(program)
            job = JobSpec(path, tuple(arguments or ()), program if module else None)
        with problems:
            requested = sources.resolve(layers("run", ctx.params))
            if (keep or cluster) and requested.settings.on is Place.LOCAL:
                option = "--keep" if keep else "--cluster"
                raise ConfigError(
                    f"`{option}` needs a cluster that outlives skjob", f"leave out {requested.called('on')}"
                )
        if requested is not None:
            with problems:
                reporter.mlflow = MlflowLog(mlflow, variables_of(requested).values)
                reporter.mlflow.check()
        if problems.found and job is not None:
            with problems:
                check_program(job)  # a run's first step
        problems.raise_any()
        assert job is not None  # noqa: S101 - otherwise there was a problem
        assert requested is not None  # noqa: S101
        options = RunOptions(keep=keep, resume=resume, cluster=cluster)
        code = run_job(job, requested, options, reporter, Path.cwd())
    except SkjobError as error:
        if not json:
            raise
        reporter.failed(error)
        code = error.exit_code
    raise typer.Exit(code)
