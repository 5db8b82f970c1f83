"""Run the `skjob` command in the tests' own process: as from a shell, but without starting Python each time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

from skjob.cli.app import main
from support.python_server import content

Result = subprocess.CompletedProcess[str]


def run_command(
    arguments: list[str],
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Result:
    """Run `skjob` with these arguments; return its exit status and output."""
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["skjob", *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    written = capsys.readouterr()
    return Result(arguments, int(ended.value.code or 0), written.out, written.err)


def run_here(arguments: list[str], environment: Mapping[str, str], folder: Path) -> Result:
    """Run `skjob` in this folder, and also capture the output of its program and other child processes."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["skjob", *arguments])
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        stack.enter_context(_default_warnings())
        stdout, stderr = stack.enter_context(_redirected("stdout")), stack.enter_context(_redirected("stderr"))
        with pytest.raises(SystemExit) as ended:
            main()
        status = int(ended.value.code or 0)
        del ended  # its traceback holds what the run has used
        gc.collect()  # as at the end of a process: what libraries leave open warns of itself in no later test
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return Result(arguments, status, content(stdout), content(stderr))


@contextmanager
def _redirected(name: str) -> Iterator[IO[bytes]]:
    """Redirect a stream into a file, for this process and those that it starts."""
    stream, number = getattr(sys, name), getattr(sys, f"__{name}__").fileno()
    stream.flush()
    saved = os.dup(number)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
            try:
                yield file
            finally:
                setattr(sys, name, stream)
                os.dup2(saved, number)
    finally:
        os.close(saved)


@contextmanager
def _default_warnings() -> Iterator[None]:
    """Set Python's default warning filters, as users have them: the tests turn every warning into an error."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield
