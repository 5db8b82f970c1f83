"""The traceback of a task that has failed on a worker: text, as its frames are there.

It is the cause of the task's exception, without the exception itself: the same long message twice helps nobody. What
ends a program of `skjob run` is shown as plain Python would, in one traceback that goes on in the task.
"""

from __future__ import annotations

import traceback
from pathlib import Path

HEAD = "Traceback (most recent call last):\n"

MACHINERY = str(Path(__file__).parent)
"""From its first frame in here on, a traceback tells how skjob brings an exception here."""


class RemoteTraceback(Exception):
    """The traceback of a task, as text, shown as the cause of the task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def frames_of(text: str, error: BaseException) -> str:
    """Return the traceback of a task without the lines that tell its exception, which `error` is here."""
    told = "".join(traceback.format_exception_only(error))
    return text.removesuffix(told)


def as_one(error: BaseException) -> str | None:
    """Return the traceback of an error that a task has raised, as if it had been raised here; None for any other."""
    cause = error.__cause__
    if not isinstance(cause, RemoteTraceback) or HEAD not in cause.text:
        return None
    told = "".join(traceback.format_exception_only(error))
    if cause.text.endswith(told):
        return None
    here = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(MACHINERY):
            break
        here.append(frame)
    # Before the last traceback stand those of exceptions that led to this one.
    before, _, frames = cause.text.rpartition(HEAD)
    return f"{before}{HEAD}{''.join(traceback.format_list(here))}{frames}{told}"
