"""Run `skjob` against the tests' cluster, each time in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from support import python_server
from support.command import run_here

DEADLINE = 480.0

# Long enough to be interrupted, and never finished on its own.
SEARCHING = """
    import time
    from joblib import Parallel, delayed
    print("searching", flush=True)
    Parallel()(delayed(time.sleep)(0.2) for _ in range(10_000))
"""


class Runs:
    """Runs `skjob` in a folder of its own against the tests' cluster, with the tests' Python or another one."""

    def __init__(self, folder: Path, environment: dict[str, str], namespace: str, python: str = sys.executable) -> None:
        self.folder = folder
        self.environment = environment
        self.namespace = namespace
        self.python = python

    def command(self, script: str, *options: str) -> list[str]:
        """Return the command line. Options after `--` are the program's own arguments."""
        (self.folder / "train.py").write_text(textwrap.dedent(script))
        end = options.index("--") if "--" in options else len(options)
        start = [self.python, "-m", "skjob", "run", "--on", "kubernetes", "--context", "kind-skjob"]
        arguments = ["--namespace", self.namespace, "--workers", "2", *options[:end]]
        return [*start, *arguments, "train.py", *options[end + 1 :]]

    def run(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run(self.command(script, *options), self.environment | environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        python, *arguments = command
        if python == sys.executable:
            return python_server.run(arguments, self.folder, environment, timeout=DEADLINE)
        return python_server.run_new(arguments, self.folder, environment, timeout=DEADLINE, python=python)

    def run_here(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script with skjob in the tests' own process, if that is not what is tested; the program has its own
        process."""
        return run_here(self.command(script, *options)[3:], self.environment | environment, self.folder)

    @contextmanager
    def searching(self, *options: str, script: str = SEARCHING) -> Iterator[subprocess.Popen[str]]:
        """Start a run and wait until its search is running; kill it at the end if it is still running."""
        with subprocess.Popen(
            self.command(script, *options), cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "searching\n", process.stderr.read() if process.stderr else ""
                yield process
            finally:
                process.kill()

    def skjob_command(self, *arguments: str) -> list[str]:
        where = ["--context", "kind-skjob", "--namespace", self.namespace]
        return [self.python, "-m", "skjob", *arguments, *where]

    def skjob(
        self, *arguments: str, limits: Mapping[str, float] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        """Run another command than `run`, in the namespace of these runs.

        `limits` overrides constants of skjob in that process, by full name such as
        `skjob.config.plan.MIN_RECONNECT_TIMEOUT`.
        """
        command = self.skjob_command(*arguments)
        if limits:
            splits = ((*name.rpartition(".")[::2], value) for name, value in limits.items())
            sets = "; ".join(f"setattr(import_module({module!r}), {name!r}, {value})" for module, name, value in splits)
            code = f"from importlib import import_module; {sets}; from skjob.cli.app import main; main()"
            command[1:3] = ["-c", code]
        return self._run(command, self.environment)

    def skjob_here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the tests' own process, if that is not what is tested. Not thread-safe."""
        return run_here(self.skjob_command(*arguments)[3:], self.environment, self.folder)

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all runs in this folder, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(".skjob/runs/*/run.json"))]

    def record(self) -> dict[str, Any]:
        """Return the record of the only run in this folder."""
        [record] = self.records()
        return record
