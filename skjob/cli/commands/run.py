"""`skjob run`: a script or a job file, on a cluster, and the cluster away again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from skjob.errors import ConfigError, SkjobError

Text = str | None


def run(
    typed: typer.Context,
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
    workers: Annotated[
        Text,
        typer.Option(
            metavar="N|MIN:MAX",
            help="Workers: a number, or a range to scale in. [default: 1:4; on this machine one for each core]",
        ),
    ] = None,
    on: Annotated[
        Text,
        typer.Option(metavar="PLACE", help="kubernetes, local, or auto: Kubernetes where it is ready. [default: auto]"),
    ] = None,
    context: Annotated[Text, typer.Option(help="The kubeconfig's context. [default: the current one]")] = None,
    namespace: Annotated[Text, typer.Option(help="The namespace. [default: the context's]")] = None,
    image: Annotated[Text, typer.Option(help="The image of scheduler and workers. [default: Python's own]")] = None,
    env: Annotated[
        Text,
        typer.Option(
            metavar="auto|none|FILE",
            help="What the pods must have: the environment here, what the image has, or a file of requirements."
            " [default: auto]",
        ),
    ] = None,
    cluster: Annotated[
        Text, typer.Option(metavar="NAME", help="Run on a cluster of `skjob up` or `--keep`, and leave it again.")
    ] = None,
    worker_cpu: Annotated[
        Text, typer.Option(metavar="CORES", help="Cores a worker requests: 500m, 2. [default: 500m]")
    ] = None,
    worker_memory: Annotated[
        Text, typer.Option(metavar="BYTES", help="A worker's memory limit. [default: 2Gi]")
    ] = None,
    start_timeout: Annotated[
        Text, typer.Option(metavar="TIME", help="How long to wait for the first worker: 90s. [default: 5m]")
    ] = None,
    max_time: Annotated[
        Text, typer.Option(metavar="TIME", help="How long the whole run may take: 2h. [default: no limit]")
    ] = None,
    max_cost: Annotated[
        Text,
        typer.Option(
            metavar="AMOUNT", help="What the run may cost, where the platform team tells prices: 5. [default: no limit]"
        ),
    ] = None,
    grace: Annotated[
        Text, typer.Option(metavar="TIME", help="How long the cluster outlives a skjob that was killed. [default: 5m]")
    ] = None,
    keep_time: Annotated[
        Text, typer.Option(metavar="TIME", help="How long a cluster that is kept lives. [default: 4h]")
    ] = None,
    checkpoint: Annotated[
        Text,
        typer.Option(
            metavar="ADDRESS",
            help="Where finished fits are kept: a folder, an fsspec address, or none. [default: .skjob/fits]",
        ),
    ] = None,
    retries: Annotated[
        Text, typer.Option(metavar="N", help="How often a fit is tried again whose worker died. [default: 1]")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an earlier run: its fits without a random_state are taken too."),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster; print how to use and remove it.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Report on stderr as JSON lines; the run's record is one of them.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the cluster's logs when a run fails.")] = False,
) -> None:
    """Run a script, a module or a job file, unchanged, on a cluster.

    Options stand before the program; what stands after it is its own: skjob run --workers 20 train.py --depth 3
    """
    from skjob.cli.options import layers
    from skjob.cli.reporter import Reporter
    from skjob.cli.typed import NOTES
    from skjob.config import sources
    from skjob.config.plan import JobSpec
    from skjob.config.settings import Place
    from skjob.run.program.check import check_program
    from skjob.run.run import RunOptions
    from skjob.run.runner import run as run_job
    from skjob.utils.run_module import find_module

    given = {
        "workers": workers,
        "on": on,
        "context": context,
        "namespace": namespace,
        "image": image,
        "env": env,
        "worker_cpu": worker_cpu,
        "worker_memory": worker_memory,
        "start_timeout": start_timeout,
        "max_time": max_time,
        "max_cost": max_cost,
        "grace": grace,
        "keep_time": keep_time,
        "checkpoint": checkpoint,
        "retries": retries,
    }
    reporter = Reporter(json=json, verbose=verbose)
    try:
        for line in typed.meta.get(NOTES, ()):
            reporter.notify(line)
        problems = sources.Problems()
        job: JobSpec | None = None
        asked: sources.ResolvedSettings | None = None
        with problems:
            path = find_module(program, Path.cwd(), sys.path) if module else Path(program)
            job = JobSpec(path, tuple(arguments or ()), program if module else None)
        with problems:
            asked = sources.resolve(layers("run", **given))
            if (keep or cluster) and asked.settings.on is Place.LOCAL:
                option = "--keep" if keep else "--cluster"
                raise ConfigError(f"`{option}` needs a cluster that outlives skjob", f"leave out {asked.called('on')}")
        if problems.found and job is not None:
            with problems:
                check_program(job)  # which a run begins with
        problems.raise_any()
        assert job is not None  # noqa: S101 - else there was a problem
        assert asked is not None  # noqa: S101
        options = RunOptions(keep=keep, resume=resume, cluster=cluster)
        code = run_job(job, asked, options, reporter, Path.cwd())
    except SkjobError as error:
        if not json:
            raise
        reporter.failed(error)
        code = error.exit_code
    raise typer.Exit(code)
