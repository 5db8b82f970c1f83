"""`skjob run --on local` in the tests' own process, on a cluster that stays warm from one run to the next.

A run from a shell starts five Python processes. Here, the command runs in the process of the test, runs share one
cluster, and the program's process is forked (support/python_server.py), which takes a twentieth of the time. Everything
else is as in a real run: the command line, the plan, the certificates, the program's process, the record and the exit
status. Tests of signals, of the terminal, or of the start and end of a cluster start the command as a process.

    def test_a_program(local_runs: LocalRuns) -> None:
        ended = local_runs.run("import sys; print(sys.argv)", "--retries", "2", arguments=["--depth", "3"])
        assert (ended.returncode, ended.stdout) == (0, "['train.py', '--depth', '3']\n"), ended.stderr
        assert ended.record["outcome"]["status"] == "succeeded"

`python` runs the same program with plain Python, for comparison. As on a cluster of `skjob up`, a run leaves nothing
for the next one: modules are replaced, and credentials and data are removed; lost workers are restarted, in the working
directory of the new run. Workers keep their imported libraries and the environment of the tests; variables in
`LocalRuns.environment` are the program's only. Variables that a run sets for workers are set as on such a cluster. A
run has a cluster of its own if it requests another number or size of workers or `--retries`, or with `own_cluster`.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import Any
from unittest import mock

import pytest
from distributed import Client
from support import python_server
from support.command import run_here
from support.python_server import programs_forked
from waiting import DEADLINE, POLL_INTERVAL

from skjob.config.plan import Plan, WorkerSize, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.deploy import local
from skjob.deploy.machine import ThisMachine
from skjob.engine.transfer.worker_plugins import register_plugin
from skjob.run.program.storage_credentials import forget
from skjob.run.program.worker_variables import WorkerVariables
from skjob.utils.tls import TlsFiles

WORKERS = 2
PRELOAD = ("sklearn.ensemble", "sklearn.model_selection")
"""Modules that workers import before the first run."""

SLOW_TIMERS = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""Slower timers for Dask: the idle cluster uses 1 % of a core instead of 8 %."""

OwnCluster = local.LocalCluster


@dataclass(frozen=True)
class FinishedRun:
    """A completed program: its exit status, its output and skjob's, and the record of its run."""

    returncode: int
    stdout: str
    stderr: str
    record: dict[str, Any]

    @property
    def program_stderr(self) -> str:
        """The stderr of the program, without skjob's lines."""
        return "".join(line for line in self.stderr.splitlines(keepends=True) if not line.startswith("skjob: "))


class LocalRuns:
    """Runs programs in one folder, as `train.py`, without the settings and kubeconfig of the user who runs the tests.

    All runs have the variables of `environment`. Temporary files are created in `scratch`, where tests can count them.
    """

    def __init__(self, folder: Path, clusters: WarmClusters) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.environment = user_environment(folder) | {"TMPDIR": str(self.scratch)}
        self.clusters = clusters

    def run(
        self,
        program: str | Path,
        *options: str,
        arguments: Sequence[str] = (),
        stdin: str = "",
        on: str = "local",
        own_cluster: bool = False,
    ) -> FinishedRun:
        """Run `skjob run` with these options and these `arguments` of the program.

        `program` is a script's text, or a path relative to the folder.
        """
        path = self._write(program)
        place = ["--on", on, *(["--workers", str(WORKERS)] if "--workers" not in options else [])]
        before = set(self._records())
        shared = nullcontext() if own_cluster else self.clusters.shared()
        with pytest.MonkeyPatch.context() as patch, _stdin(stdin), shared, programs_forked():
            patch.setattr(tempfile, "tempdir", None)  # cached once per process
            ended = run_here(["run", *place, *options, str(path), *arguments], self.environment, self.folder)
        gc.unfreeze()  # the command freezes the garbage collector until its process ends, which is this one
        records = [json.loads(record.read_text()) for record in set(self._records()) - before]
        return FinishedRun(ended.returncode, ended.stdout, ended.stderr, records[0] if records else {})

    def python(self, program: str | Path, *arguments: str, stdin: str = "") -> FinishedRun:
        """Run the program with plain Python."""
        command = [str(self._write(program)), *arguments]
        ended = python_server.run(command, self.folder, self.environment, stdin=stdin, timeout=DEADLINE)
        return FinishedRun(ended.returncode, ended.stdout, ended.stderr, {})

    def _write(self, program: str | Path) -> Path:
        if isinstance(program, Path):
            return program
        (self.folder / "train.py").write_text(textwrap.dedent(program))
        return Path("train.py")

    def _records(self) -> Iterator[Path]:
        return (self.folder / ".skjob" / "runs").glob("*/run.json")


def user_environment(folder: Path) -> dict[str, str]:
    """Return this process's environment without settings of skjob and with no kubeconfig."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return inherited | {"KUBECONFIG": str(folder / "none"), "NO_COLOR": "1"}


@contextmanager
def _stdin(text: str) -> Iterator[None]:
    """Replace the standard input of this process and its children by this text."""
    saved = os.dup(0)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.seek(0)
            os.dup2(file.fileno(), 0)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


class WarmClusters:
    """A local cluster that runs in this process share. It starts with the first run that needs it.

    `folder` creates an empty folder for the cluster.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._environment = os.environ | SLOW_TIMERS
        settings = Settings(on=Place.LOCAL, workers=WorkerRange(WORKERS, WORKERS))
        self._plan = make_plan(settings, Place.LOCAL, "", ThisMachine(), "")
        self._cluster: _WarmCluster | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Within the block, runs use the warm cluster instead of starting one of the same size."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "LocalCluster", self._cluster_for_run)
            yield

    def dask_client_variables(self) -> dict[str, str]:
        """Return the variables with which `Client()` in a program under plain Python connects to the warm cluster."""
        cluster = self._warm_cluster().cluster
        settings = {"scheduler-address": cluster.address, **cluster.tls.dask_config()}
        return {
            f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value) for name, value in settings.items()
        }

    def close(self) -> None:
        """Close the cluster."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def _cluster_for_run(
        self,
        name: str,
        folder: Path,
        workers: int,
        size: WorkerSize,
        retries: int,
        preload: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Any:
        if (workers, size, retries) != (WORKERS, self._plan.size, self._plan.retries):
            return OwnCluster(name, folder, workers, size, retries, preload, variables)
        warm = self._warm_cluster()
        if variables:  # `make_ready` removes them for the next run
            register_plugin(warm.client, WorkerVariables(variables))
        return _SharedCluster(warm, name, folder)

    def _warm_cluster(self) -> _WarmCluster:
        if self._cluster is not None and not self._cluster.make_ready(Path.cwd()):
            self.close()
        if self._cluster is None:  # with the environment of the tests, because it outlives the run
            with mock.patch.dict(os.environ, self._environment, clear=True), programs_forked():
                self._cluster = _WarmCluster(self._folder(), self._plan)
        return self._cluster


class _WarmCluster:
    """A running cluster, with a client of its own."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.cluster = OwnCluster("skjob-tests", folder, WORKERS, plan.size, plan.retries, PRELOAD)
        self.cluster.start()
        self.client = Client(self.cluster.address, security=self.cluster.tls.security(), set_as_default=False)
        self.client.wait_for_workers(WORKERS, timeout=DEADLINE)

    def close(self) -> None:
        """Close the cluster."""
        self.client.close(timeout=2)
        self.cluster.close()

    def make_ready(self, folder: Path) -> bool:
        """Remove what the last run has left, and make `folder` the working directory of all workers.

        The scheduler's process also changes its directory, as it starts later workers. Return False if the cluster
        cannot be used any more.
        """
        if self.cluster.lost_reason() is not None:
            return False
        forget(self.client)
        self.client.run_on_scheduler(os.chdir, str(folder))
        deadline = time.monotonic() + DEADLINE
        while self._stale_clients() or len(self.client.run(os.chdir, str(folder), on_error="ignore")) != WORKERS:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL)
        return True

    def _stale_clients(self) -> list[str]:
        """Return clients of the last run that are still connected to the scheduler."""
        clients: list[str] = self.client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
        return [client for client in clients if client not in (self.client.id, "fire-and-forget")]


class _SharedCluster:
    """Implements `skjob.deploy.base.Cluster` for one run on the warm cluster, which it neither starts nor closes."""

    def __init__(self, warm: _WarmCluster, name: str, folder: Path) -> None:
        self.name = name
        self._warm = warm
        self._log = warm.cluster.logs()
        source, self.tls = warm.cluster.tls, TlsFiles.inside(folder)
        for file, copied in zip(vars(source).values(), vars(self.tls).values(), strict=True):
            copy(file, copied)

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Do nothing: the cluster is running."""

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Do nothing: the cluster stays open."""

    def logs(self) -> Mapping[str, str]:
        """Return the lines that were logged during this run."""
        return {name: text.removeprefix(self._log[name]) for name, text in self._warm.cluster.logs().items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm.cluster, name)
