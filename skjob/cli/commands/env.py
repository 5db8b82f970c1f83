"""`skjob env`: show what would be sent to workers and why; `skjob env build`: build an image with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.help import Command, Group
from skjob.cli.options import EnvOption

if TYPE_CHECKING:
    from skjob.environment.transfer_plan import TransferPlan

BUILD_TIMEOUT = 3600
"""Seconds for an image: some have to download gigabytes."""

env = typer.Typer(cls=Group, invoke_without_command=True, rich_markup_mode=None)

ProgramOption = Annotated[
    Path | None,
    typer.Option("--program", metavar="FILE", help="The script or job file whose imports count. [default: none]"),
]


@env.callback()
def show(
    context: typer.Context,
    env: EnvOption = None,
    program: ProgramOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show what a run would send to workers from this environment, and why."""
    if context.invoked_subcommand is not None:
        context.obj = {"env": env, "program": program}
        return
    plan = _plan(env, program)
    if json:
        typer.echo(_as_json(plan))
        raise typer.Exit(_exit_code(plan))
    for line in table(plan):
        typer.echo(line)
    typer.echo(f"\nskjob: {summary(plan)}", err=True)
    _require_no_problems(plan)


@env.command(cls=Command)
def build(
    context: typer.Context,
    env: EnvOption = None,
    program: ProgramOption = None,
    base: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="What to start from: an image with Python and pip.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="Build the image, under this name, with docker or podman.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write all files an image is built from into this folder.")
    ] = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the Dockerfile. [default: if neither --tag nor --output is given]")
    ] = False,
) -> None:
    """Build an image with this environment, for `skjob run --image`."""
    from skjob.environment.image_build import dockerfile, write_context
    from skjob.errors import ConfigError

    outer = context.obj or {}
    plan = _plan(env or outer.get("env"), program or outer.get("program"), into_image=True)
    if not plan.pins:
        raise ConfigError("`--env none` leaves nothing to build", "name a file of requirements, or use `auto`")
    _require_no_problems(plan)
    archive = plan.packed.content if plan.packed.sizes else b""
    text = dockerfile(plan.python, plan.pins, local=bool(archive), base=base)
    if print_ or (tag is None and output is None):
        typer.echo(text, nl=False)
    if output is not None:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ConfigError(f"the folder `{output}` of `--output` already exists", "name a new or empty folder")
        try:
            write_context(output, text, plan.pins, archive)
        except OSError as error:
            raise ConfigError(f"`{output}` cannot be written: {error.strerror}", "choose another folder") from error
        typer.echo(f"skjob: wrote the files of an image to `{output}`: {summary(plan)}", err=True)
    if tag is not None:
        with tempfile.TemporaryDirectory(prefix="skjob-build-") as folder:
            write_context(Path(folder, "context"), text, plan.pins, archive)
            _build(tag, Path(folder))
        typer.echo(
            f"skjob: built `{tag}`; use it with `skjob run --image {tag}` once the cluster can pull it", err=True
        )


def table(plan: TransferPlan) -> list[str]:
    """Return the lines of a table, one per distribution."""
    from skjob.cli.tables import aligned

    rows = [[item.name, item.version, str(item.how), item.why] for item in plan.items]
    return aligned([["NAME", "VERSION", "HOW", "WHY"], *rows])


def summary(plan: TransferPlan) -> str:
    """Summarize how many distributions are sent in which way, and the size of the archive."""
    from skjob.environment.transfer_plan import TransferMethod

    number = {way: sum(item.how is way for item in plan.items) for way in TransferMethod}
    archive = f", {len(plan.packed.content):,} bytes" if number[TransferMethod.ARCHIVE] else ""
    return (
        f"Python {plan.python} ({plan.tool}): {number[TransferMethod.INDEX]} from an index, "
        f"{number[TransferMethod.ARCHIVE]} as an archive{archive}, {number[TransferMethod.NOT_SENT]} not sent"
    )


def _plan(env: str | None, program: Path | None, *, into_image: bool = False) -> TransferPlan:
    from skjob.cli.options import layers
    from skjob.config import sources
    from skjob.config.plan import JobSpec
    from skjob.environment.local.imports import imported_by
    from skjob.environment.transfer_plan import plan_transfer
    from skjob.errors import ConfigError

    if program is not None and not program.is_file():
        raise ConfigError(f"`--program` names `{program}`, which is not a file")
    settings = sources.resolve(layers("env build" if into_image else "env", {"env": env})).settings
    imported = imported_by(JobSpec(program)) if program is not None else set()
    return plan_transfer(settings.env, imported, into_image=into_image)


def _require_no_problems(plan: TransferPlan) -> None:
    from skjob.errors import EnvironmentFault

    if plan.problems:
        raise EnvironmentFault.collect([*plan.problems], "`--env none` uses the image as it is")


def _exit_code(plan: TransferPlan) -> int:
    from skjob.errors import EnvironmentFault

    return EnvironmentFault.exit_code if plan.problems else 0


def _as_json(plan: TransferPlan) -> str:
    import json
    from collections import Counter
    from dataclasses import asdict

    return json.dumps(
        {
            "env": plan.env,
            "python": plan.python,
            "tool": plan.tool,
            "distributions": [asdict(item) for item in plan.items],
            "totals": Counter(item.how for item in plan.items),
            "archive_bytes": len(plan.packed.content) if plan.packed.sizes else 0,
            "compiled": plan.packed.compiled,
            "problems": plan.problems,
        },
        indent=2,
    )


def _build(tag: str, folder: Path) -> None:
    """Build the image in `folder/context`; the builder's output goes to this command's output."""
    from skjob.environment.image_build import write_secrets
    from skjob.environment.index.discovery import index_settings
    from skjob.errors import ConfigError

    builder = _builder()
    secrets = write_secrets(folder, index_settings(os.environ, Path.cwd()))
    command = [builder, "build", "--tag", tag]
    for name, file in secrets.items():
        command += ["--secret", f"id={name},src={file}"]
    try:
        ended = subprocess.run(
            [*command, str(folder / "context")],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            timeout=BUILD_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"`{builder} build` did not finish within {BUILD_TIMEOUT} s") from error
    if ended.returncode:
        raise ConfigError(
            f"`{builder} build` ended with status {ended.returncode}; its output is above",
            "`skjob env build --output FOLDER` writes the files, so that you can fix and build them by hand",
        )


def _builder() -> str:
    """Return `docker` or `podman`, whichever works first.

    Raises:
        ConfigError: neither works.
    """
    from skjob.errors import ConfigError

    problems = []
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            problems.append(f"`{name}` is not installed")
            continue
        try:
            result = subprocess.run([name, "info"], capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            problems.append(f"`{name} info` does not answer")
            continue
        if result.returncode == 0:
            return name
        problems.append(f"`{name} info` fails")
    raise ConfigError(
        f"no image can be built here: {', '.join(problems)}",
        "start one of them, or build the files elsewhere: `skjob env build --output FOLDER`",
    )
