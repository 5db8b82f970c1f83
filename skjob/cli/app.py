"""Run the `skjob` command, and turn every error into output and an exit status.

Almost nothing is imported before `main`: during those imports, Ctrl-C would print a traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from gc import freeze
from io import BufferedWriter, FileIO, TextIOWrapper, UnsupportedOperation
from typing import Any, NoReturn

from skjob.errors import INTERNAL_FAULT, INTERRUPTED, ConfigError, SkjobError
from skjob.utils.operating_system import check_supported


def main() -> NoReturn:
    """Run the command line, and exit with a status of `skjob.errors`."""
    try:
        check_supported()
        _ready_streams()
        from skjob.cli.root import run_command_line

        code = run_command_line()
    except SkjobError as error:
        code = report(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        code = _unforeseen(error)
    # The process ends now; without this, Python would search its objects for cycles for half a second first.
    freeze()
    sys.exit(code)


class _LossyStderr(FileIO):
    """A stderr whose reader can go away: what cannot be written is dropped.

    A terminal that closes, a reader that ends or a full disk must neither end a run nor keep its cluster from removal.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _ready_streams() -> None:
    """Make every write succeed: show characters that the encoding lacks as `?`, and drop writes to a closed stream.

    Otherwise the first pipe to be opened would get the closed one's number, and the program would write into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: that of the closed one
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, closefd=False))
    with suppress(UnsupportedOperation):  # a stream in memory
        lossy = BufferedWriter(_LossyStderr(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = TextIOWrapper(lossy, sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _unforeseen(error: Exception) -> int:
    """Report a bug in skjob, or a stdout that cannot be written, and return the exit status."""
    if isinstance(error, OSError) and error.filename is None and _stdout_refuses():
        # Python would try once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return report(ConfigError(f"stdout cannot be written: {error.strerror}"))
    import traceback

    traceback.print_exception(error)
    print("\nthis is a bug in skjob; please report it with the lines above", file=sys.stderr)
    return INTERNAL_FAULT


def _stdout_refuses() -> bool:
    """Return whether stdout takes no more; if it does, it has one more empty line, before a traceback."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def report(error: SkjobError) -> int:
    """Print an error with its log, a blank line and its hint, in colour on a terminal, and return its exit status."""
    from skjob.cli.github import annotation, in_actions
    from skjob.cli.terminal import shown

    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = "\x1b[1;31merror\x1b[0m" if colour else "error"
    print(f"{label}: {shown(error.message + error.quoted_log)}", file=sys.stderr)
    if error.hint:
        print(f"\nhint: {shown(error.hint)}", file=sys.stderr)
    if in_actions():
        print(annotation(error), file=sys.stderr)
    return error.exit_code
