"""The subcommands of `skjob`, and what its command line makes of the words that were typed.

This file and those beside it import only what is light at the top: `skjob --help` answers before a slow import would
be done.
"""

from __future__ import annotations

from typing import Annotated

import typer

from skjob.cli.commands.costs import costs
from skjob.cli.commands.dashboard import dashboard
from skjob.cli.commands.doctor import doctor
from skjob.cli.commands.down import down
from skjob.cli.commands.env import env
from skjob.cli.commands.gc import gc
from skjob.cli.commands.history.report import report
from skjob.cli.commands.history.runs import runs
from skjob.cli.commands.history.show import show
from skjob.cli.commands.install import install
from skjob.cli.commands.ps import ps
from skjob.cli.commands.run import run
from skjob.cli.commands.schema import schema
from skjob.cli.commands.up import up
from skjob.cli.help import Command
from skjob.cli.run_arguments import RunCommand
from skjob.errors import INTERRUPTED, ConfigError

# Without typer's rich formatting: importing it would double the time that `skjob --help` takes.
app = typer.Typer(
    name="skjob",
    help="Run a scikit-learn program, unchanged, on your own Kubernetes cluster.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=RunCommand)(run)
for command in (runs, show, report, up, ps, dashboard, down, gc, costs, install, doctor, schema):
    app.command(cls=Command)(command)
app.add_typer(env, name="env")


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"skjob {version('skjob')}")
        raise typer.Exit


@app.callback()
def skjob(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run a scikit-learn program, unchanged, on your own Kubernetes cluster."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run_command_line() -> int:
    """Run what was typed, and return its exit status.

    Raises:
        SkjobError: it failed, or there is no such command or option.
    """
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        raise _usage_error(error) from error
    except typer.Abort:
        return INTERRUPTED
    except typer.Exit as exit_:
        return exit_.exit_code
    return code if isinstance(code, int) else 0


def _usage_error(error: typer.TyperException) -> ConfigError:
    command = getattr(getattr(error, "ctx", None), "command_path", "skjob")
    # Typer 0.29 quotes pydantic's own words if a value is none of an Enum's
    message = error.format_message().rstrip(".").replace(": Value error, ", ": ")
    message = message[0].lower() + message[1:]
    hint = f"`{command} --help` lists what there is"
    if command == "skjob run" and message.startswith("no such option"):
        hint += "; the script's own arguments go after it: `skjob run train.py --depth 3`"
    return ConfigError(message, hint)
