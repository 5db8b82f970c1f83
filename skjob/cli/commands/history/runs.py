"""`skjob runs`: list the runs that were started in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skjob.cli.tables import aligned
from skjob.cli.terminal import shown, write

if TYPE_CHECKING:
    from skjob.run.history.summary import RunSummary

LATEST = 20
"""How many runs are listed without `--all`."""


def runs(
    every: Annotated[bool, typer.Option("--all", help=f"List all runs. [default: the latest {LATEST}]")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the runs that were started in this folder, latest first, with their outcomes, times and costs.

    It needs no cluster: each run leaves a record below `.skjob/runs`.
    """
    from skjob.cli.values import as_json
    from skjob.errors import ConfigError
    from skjob.run.history.records import read_run, run_ids
    from skjob.run.history.summary import summarize

    folder = Path.cwd()
    known = run_ids(folder)
    summaries = []
    for run_id in known if every else known[:LATEST]:
        try:
            summaries.append(summarize(read_run(folder, run_id)))
        except ConfigError as error:
            typer.echo(f"skjob: {shown(error.message)}", err=True)
    if json:
        typer.echo(as_json(summaries))
        return
    if not known:
        typer.echo("skjob: no run was started in this folder", err=True)
        return
    write(table(summaries))
    if len(known) > LATEST and not every:
        typer.echo(f"skjob: {len(known) - LATEST} older runs are not listed; use `skjob runs --all`", err=True)


def table(summaries: list[RunSummary]) -> list[str]:
    """Return the lines of the table, starting with its heading."""
    from skjob.cli.values import cost, outcome, when
    from skjob.utils.text import shortened
    from skjob.utils.units import format_duration, format_score

    heading = ["RUN", "STARTED", "PROGRAM", "WHERE", "OUTCOME", "FITS", "BEST", "TIME", "COST"]
    rows = [
        [
            run.run_id,
            when(run.started),
            shortened(run.program, 40) or "-",
            run.place or "-",
            outcome(run.status, run.exit_code),
            fits(run),
            "-" if run.best is None else format_score(run.best),
            "-" if run.seconds is None else format_duration(run.seconds),
            cost(run.cost, run.currency),
        ]
        for run in summaries
    ]
    return aligned([heading, *rows])


def fits(run: RunSummary) -> str:
    """Format the number of fits of a run, as `160` or `160 (40 reused, 2 failed)`."""
    from skjob.utils.text import counts

    if run.fits is None:
        return "-"
    parts = counts(reused=run.reused, failed=run.failed)
    return f"{run.fits} ({', '.join(parts)})" if parts else str(run.fits)
