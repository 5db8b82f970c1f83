"""Runs of `skjob run` against the tests' cluster, each in a folder of its own."""

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

# For a while: long enough to be stopped in, and never finished on its own.
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
        """What a shell would run. What stands behind `--` in the options are the program's own arguments."""
        (self.folder / "train.py").write_text(textwrap.dedent(script))
        end = options.index("--") if "--" in options else len(options)
        start = [self.python, "-m", "skjob", "run", "--on", "kubernetes", "--context", "kind-skjob"]
        own = ["--namespace", self.namespace, "--workers", "2", *options[:end]]
        return [*start, *own, "train.py", *options[end + 1 :]]

    def run(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._ended(self.command(script, *options), self.environment | environment)

    def _ended(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        python, *arguments = command
        if python == sys.executable:
            return python_server.run(arguments, self.folder, environment, timeout=DEADLINE)
        return python_server.run_new(arguments, self.folder, environment, timeout=DEADLINE, python=python)

    def run_here(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same with skjob in the tests' own process, where that is not the subject; the program has its own."""
        return run_here(self.command(script, *options)[3:], self.environment | environment, self.folder)

    @contextmanager
    def searching(self, *options: str, script: str = SEARCHING) -> Iterator[subprocess.Popen[str]]:
        """A run in the middle of its search; killed in the end, if it is still there."""
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
        """Another command than `run`, in the namespace of these runs.

        `limits` are constants of skjob's that have another value in this process, by name, such as
        `skjob.config.plan.MIN_RECONNECT_TIMEOUT`.
        """
        command = self.skjob_command(*arguments)
        if limits:
            splits = ((*name.rpartition(".")[::2], value) for name, value in limits.items())
            sets = "; ".join(f"setattr(import_module({module!r}), {name!r}, {value})" for module, name, value in splits)
            own = f"from importlib import import_module; {sets}; from skjob.cli.app import main; main()"
            command[1:3] = ["-c", own]
        return self._ended(command, self.environment)

    def skjob_here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same in the tests' own process, where that is not the subject. Not beside others in other threads."""
        return run_here(self.skjob_command(*arguments)[3:], self.environment, self.folder)

    def records(self) -> list[dict[str, Any]]:
        """Those of all runs in this folder, the first at first."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob(".skjob/runs/*/run.json"))]

    def record(self) -> dict[str, Any]:
        """That of the only one."""
        [record] = self.records()
        return record
