"""The `skjob` command: its subcommands, and the one place where an error becomes output and an exit status.

Only light imports here and at the top of the files beside this one: `skjob --help` answers before a slow import would
be done.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from skjob.cli.doctor import doctor
from skjob.cli.down import down
from skjob.cli.env import env
from skjob.cli.install import install
from skjob.cli.ps import ps
from skjob.cli.run import run
from skjob.cli.schema import schema
from skjob.errors import INTERNAL_FAULT, INTERRUPTED, ConfigError, SkjobError

# Without typer's rich formatting: importing it would double the time that `skjob --help` takes.
app = typer.Typer(
    name="skjob",
    help="Run a scikit-learn program, unchanged, on your own Kubernetes cluster.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (run, ps, down, install, doctor, schema):
    app.command()(command)
app.add_typer(env, name="env")


def _version(asked: bool) -> None:
    if asked:
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


def main() -> NoReturn:
    """Run the command line; the exit statuses are those of `skjob.errors`."""
    try:
        code = app(standalone_mode=False)
    except SkjobError as error:
        code = report(error)
    except typer.TyperException as error:
        code = report(_usage_error(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except typer.Exit as exit_:
        code = exit_.exit_code
    except Exception:
        traceback.print_exc()
        print("\nthis is a fault of skjob itself; please report it with the lines above", file=sys.stderr)
        code = INTERNAL_FAULT
    sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: typer.TyperException) -> ConfigError:
    command = getattr(getattr(error, "ctx", None), "command_path", "skjob")
    message = error.format_message().rstrip(".")
    message = message[0].lower() + message[1:]
    hint = f"`{command} --help` lists what there is"
    if command == "skjob run" and message.startswith("no such option"):
        hint += "; the script's own arguments go after `--`: `skjob run train.py -- --depth 3`"
    return ConfigError(message, hint)


def report(error: SkjobError) -> int:
    """Print an error, a blank line and its hint, in colour where a terminal shows it; its exit status."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = "\x1b[1;31merror\x1b[0m" if colour else "error"
    print(f"{label}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"\nhint: {error.hint}", file=sys.stderr)
    return error.exit_code
