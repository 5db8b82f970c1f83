"""How text reaches a person: control characters visible, and in GitHub Actions no line a command to its runner."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from skjob.cli.github import in_actions, json_without_commands, without_commands
from skjob.errors import without_credentials
from skjob.utils.text import visible


def shown(text: str) -> str:
    """Return text of one or more lines as it may be written to a terminal, a file or the log of a job.

    Passwords of addresses are left out.
    """
    text = visible(without_credentials(text), lines=True)
    return without_commands(text) if in_actions() else text


def shown_json(text: str) -> str:
    """Return JSON, whose control characters are escaped already, as it may be written."""
    return json_without_commands(text) if in_actions() else text


def write(lines: Iterable[str]) -> None:
    """Write lines to stdout."""
    for line in lines:
        typer.echo(shown(line))
