"""`skjob report`: write the report of a past run as an HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skjob.cli.commands.history.show import RunArgument


def report(
    run: RunArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write it. [default: report.html beside the run's record]"
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of a run, one HTML file that needs no network, and print its path.

    It shows the scores against each parameter, the best candidates, fit times, failures, a timeline of the workers,
    costs and versions.
    """
    from skjob.errors import ConfigError
    from skjob.report.page import write_report
    from skjob.run.history.records import find_run

    past = find_run(Path.cwd(), run)
    path = output or past.folder / "report.html"
    try:
        write_report(past, path)
    except OSError as error:
        raise ConfigError(
            f"the report `{path}` cannot be written: {error.strerror}", "write it elsewhere with `--output FILE`"
        ) from error
    typer.echo(path if output else path.relative_to(Path.cwd()))
    if open_browser:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            typer.echo("skjob: cannot open a browser here", err=True)
