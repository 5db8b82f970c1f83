"""What GitHub Actions makes of output: annotations, a summary on the job's page, and lines that it takes as commands.

A runner acts on each line of output that begins with `::`, or has `##[` in it. A message with such a line in it, which
may be a value of the program's, must not become one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from skjob.errors import SkjobError
from skjob.utils.notify import Notify
from skjob.utils.text import visible

if TYPE_CHECKING:
    from skjob.run.record import Record

_COMMAND = re.compile(r"^(\s*)::|##\[", re.MULTILINE)


def in_actions(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether GitHub Actions reads the output."""
    return environment.get("GITHUB_ACTIONS") == "true"


def without_commands(text: str) -> str:
    """Return the text with a space within what a runner would take as the beginning of a command."""
    return _COMMAND.sub(lambda found: f"{found[1]}: :" if found[1] is not None else "# #[", text)


def json_without_commands(text: str) -> str:
    """Return the same JSON without what a runner would take as the beginning of a command, which strings may have."""
    return text.replace("##[", r"##\u005b")


def annotation(error: SkjobError) -> str:
    """Return the command that shows an error on the page of the job and its commit."""
    text = f"{error.message}\nhint: {error.hint}" if error.hint else error.message
    encoded = visible(text, lines=True).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title=skjob::{encoded}"


def append_summary(record: Record, folder: Path, notify: Notify, environment: Mapping[str, str] = os.environ) -> None:
    """Append the summary of a run to the file that GitHub Actions shows on the job's page, if there is one.

    A file that cannot be written to ends no run: `notify` gets a line.
    """
    path = environment.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from skjob.report.markdown import summary
    from skjob.run.events.file import read_events
    from skjob.run.history.collect import add_up
    from skjob.run.record import run_file

    text = summary(add_up(record, read_events((folder / run_file(record.run_id)).parent)))
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        notify(f"the summary for GitHub Actions cannot be written: {error.strerror}")
