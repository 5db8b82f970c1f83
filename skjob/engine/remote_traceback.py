"""The traceback of a task that failed on a worker, as text, with the frames it had there.

It is the cause of the task's exception, without the exception itself: the same long message twice helps nobody. What
ends a program of `skjob run` is shown as in plain Python: one traceback, which goes on in the task.
"""

from __future__ import annotations

import linecache
import pickle
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEAD = "Traceback (most recent call last):\n"

MACHINERY = str(Path(__file__).parent)
"""Where the frames begin that only show how skjob brings an exception here."""

_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)')


class RemoteTraceback(Exception):
    """The traceback of a task, as text, shown as the cause of the task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True)
class Causes:
    """What led to an exception: the pickles of its cause and its context, with what led to these."""

    cause: tuple[bytes, Causes] | None = None
    context: tuple[bytes, Causes] | None = None
    suppressed: bool = False


NO_CAUSES = Causes()


def load_error(content: bytes, traceback_text: str, causes: Causes = NO_CAUSES) -> BaseException:
    """Return the exception that a task raised, from its pickle, with the task's traceback as its first cause."""
    error = _loaded(content, causes)
    *_, first = _causes_of(error)
    first.__cause__ = RemoteTraceback(frames_of(with_source(traceback_text), error))
    return error


def _loaded(content: bytes, causes: Causes) -> BaseException:
    error: BaseException = pickle.loads(content)  # noqa: S301 - from our own workers, over mutual TLS
    if causes.cause is not None:
        error.__cause__ = _loaded(*causes.cause)
    if causes.context is not None:
        error.__context__ = _loaded(*causes.context)
    error.__suppress_context__ = causes.suppressed
    return error


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on."""
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:  # `raise error from error` has no end
        seen.add(id(each))
        yield each
        each = each.__cause__


def with_source(text: str) -> str:
    """Return a traceback from a worker, with the lines of those source files that only this machine has."""
    lines = text.splitlines(keepends=True)
    completed = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        completed.append(line)
        frame = _FRAME.match(line)
        if frame and not following.startswith("    "):
            source = linecache.getline(frame["file"], int(frame["line"])).strip()
            completed += [f"    {source}\n"] * bool(source)
    return "".join(completed)


def frames_of(text: str, error: BaseException) -> str:
    """Return the traceback of a task without the lines of its exception, which is `error` here."""
    shown = "".join(traceback.format_exception_only(error))
    return text.removesuffix(shown)


def as_one(error: BaseException) -> str | None:
    """Return the traceback of an error that a task raised, as if it had been raised here; None for any other."""
    *_, cause = _causes_of(error)
    if not isinstance(cause, RemoteTraceback) or HEAD not in cause.text:
        return None
    shown = "".join(traceback.format_exception_only(error))
    if cause.text.endswith(shown):
        return None
    here = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(MACHINERY):
            break
        here.append(frame)
    # Before the last traceback stand those of exceptions that led to this one.
    before, _, frames = cause.text.rpartition(HEAD)
    return f"{before}{HEAD}{''.join(traceback.format_list(here))}{frames}{shown}"
