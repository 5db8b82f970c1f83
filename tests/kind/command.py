"""The `skjob` command in the tests' own process: as the shell would run it, without a start of Python each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from skjob.cli.app import main

Result = subprocess.CompletedProcess[str]


def run_command(
    arguments: list[str],
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Result:
    """`skjob` with these arguments: its exit status and what it wrote."""
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["skjob", *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    written = capsys.readouterr()
    return Result(arguments, int(ended.value.code or 0), written.out, written.err)
