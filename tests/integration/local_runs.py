"""`skjob run --on local` in the tests' own process, on a cluster that stays warm from one run to the next.

A run started from a shell costs five Python processes. Here the command runs in the process of the test, the cluster
is lent to one run after the other, and the process of the program is forked (support/python_server.py): a twentieth of
the time. All else is the product's own: the command line, the plan, the certificates, what the program's process does,
the record and the exit status. A test of signals, of the terminal, or of a cluster's start and end starts the command
as a process.

    def test_a_program(local_runs: LocalRuns) -> None:
        ended = local_runs.run("import sys; print(sys.argv)", "--retries", "2", arguments=["--depth", "3"])
        assert (ended.returncode, ended.stdout) == (0, "['train.py', '--depth', '3']\n"), ended.stderr
        assert ended.record["outcome"]["status"] == "succeeded"

`python` runs the same program by plain Python, to compare. What a program leaves on the cluster does not reach the next
run, as on a cluster of `skjob up`: modules are replaced, credentials are taken away, data goes with its client; and the
workers are as many as before, in the working directory of their run. What they keep are their libraries, imported, and
the environment of the tests: one of `LocalRuns.environment` is its program's. Variables that a run sets are set on them
as on those of such a cluster. A run that asks for other workers than `WORKERS`, for larger ones, for another number of
`--retries`, or for `own_cluster`, has a cluster of its own.
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
from waiting import DEADLINE, LOOK_AGAIN

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
"""What the workers have imported before the first run."""

IDLE = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""Dask's timers, slower: between two runs the cluster would take 8 % of a core, and takes 1 %."""

OwnCluster = local.LocalCluster


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit status, what it and skjob wrote, and the record of its run."""

    returncode: int
    stdout: str
    stderr: str
    record: dict[str, Any]

    @property
    def own_stderr(self) -> str:
        """What the program itself wrote there."""
        return "".join(line for line in self.stderr.splitlines(keepends=True) if not line.startswith("skjob: "))


class LocalRuns:
    """Runs programs in one folder, as `train.py`, with no settings and no kubeconfig of whoever runs the tests.

    `environment` is that of all its runs. Temporary files go to `scratch`, where they can be counted.
    """

    def __init__(self, folder: Path, clusters: WarmClusters) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.environment = environment_of_a_user(folder) | {"TMPDIR": str(self.scratch)}
        self.clusters = clusters

    def run(
        self,
        program: str | Path,
        *options: str,
        arguments: Sequence[str] = (),
        stdin: str = "",
        on: str = "local",
        own_cluster: bool = False,
    ) -> Ended:
        """`skjob run` with these options; `arguments` are the program's own.

        `program` is a script's text, or a path relative to the folder. With another place than `local` the options say
        how many workers there are.
        """
        path = self._written(program)
        place = ["--on", on, *(["--workers", str(WORKERS)] if "--workers" not in options else [])]
        before = set(self._records())
        lent = nullcontext() if own_cluster else self.clusters.lent()
        with pytest.MonkeyPatch.context() as patch, _reading(stdin), lent, programs_forked():
            patch.setattr(tempfile, "tempdir", None)  # it is looked for once a process
            ended = run_here(["run", *place, *options, str(path), *arguments], self.environment, self.folder)
        gc.unfreeze()  # the command leaves its garbage to the end of its process, and that is ours
        records = [json.loads(record.read_text()) for record in set(self._records()) - before]
        return Ended(ended.returncode, ended.stdout, ended.stderr, records[0] if records else {})

    def python(self, program: str | Path, *arguments: str, stdin: str = "") -> Ended:
        """The same program by plain Python."""
        command = [str(self._written(program)), *arguments]
        ended = python_server.run(command, self.folder, self.environment, stdin=stdin, timeout=DEADLINE)
        return Ended(ended.returncode, ended.stdout, ended.stderr, {})

    def _written(self, program: str | Path) -> Path:
        if isinstance(program, Path):
            return program
        (self.folder / "train.py").write_text(textwrap.dedent(program))
        return Path("train.py")

    def _records(self) -> Iterator[Path]:
        return (self.folder / ".skjob" / "runs").glob("*/run.json")


def environment_of_a_user(folder: Path) -> dict[str, str]:
    """No setting and no kubeconfig of whoever runs the tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SKJOB_")}
    return ours | {"KUBECONFIG": str(folder / "none"), "NO_COLOR": "1"}


@contextmanager
def _reading(text: str) -> Iterator[None]:
    """Let this process's standard input, and that of the processes it starts, be this text."""
    kept = os.dup(0)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.seek(0)
            os.dup2(file.fileno(), 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


class WarmClusters:
    """The cluster of this machine that runs in this process are lent. It starts with the first run that wants it.

    `folder` makes an empty folder for it.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._environment = os.environ | IDLE
        settings = Settings(on=Place.LOCAL, workers=WorkerRange(WORKERS, WORKERS))
        self._plan = make_plan(settings, Place.LOCAL, "", ThisMachine(), "")
        self._cluster: _Warm | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Within the block, a run that would start a cluster of its own gets the warm one, if it is of its size."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "LocalCluster", self._for_a_run)
            yield

    def found_by_dask(self) -> dict[str, str]:
        """The variables with which `Client()` is a client of the warm cluster, in a program that plain Python runs."""
        cluster = self._started().cluster
        settings = {"scheduler-address": cluster.address, **cluster.tls.dask_config()}
        return {
            f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value) for name, value in settings.items()
        }

    def close(self) -> None:
        """End it."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def _for_a_run(
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
        warm = self._started()
        if variables:  # the next run takes them away
            register_plugin(warm.client, WorkerVariables(variables))
        return _Lent(warm, name, folder)

    def _started(self) -> _Warm:
        if self._cluster is not None and not self._cluster.make_ready(Path.cwd()):
            self.close()
        if self._cluster is None:  # in the folder of the run, but with the environment of the tests: it outlives it
            with mock.patch.dict(os.environ, self._environment, clear=True), programs_forked():
                self._cluster = _Warm(self._folder(), self._plan)
        return self._cluster


class _Warm:
    """A cluster that is there, with a client of its own."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.cluster = OwnCluster("skjob-tests", folder, WORKERS, plan.size, plan.retries, PRELOAD)
        self.cluster.start()
        self.client = Client(self.cluster.address, security=self.cluster.tls.security(), set_as_default=False)
        self.client.wait_for_workers(WORKERS, timeout=DEADLINE)

    def close(self) -> None:
        """End it."""
        self.client.close(timeout=2)
        self.cluster.close()

    def make_ready(self, folder: Path) -> bool:
        """Take what the last run has left, and let all workers be in `folder`, also those that come later: they are
        started by the process that the scheduler is in. Whether that can be done: else the cluster is of no use."""
        if self.cluster.lost_reason() is not None:
            return False
        forget(self.client)
        self.client.run_on_scheduler(os.chdir, str(folder))
        deadline = time.monotonic() + DEADLINE
        while self._others() or len(self.client.run(os.chdir, str(folder), on_error="ignore")) != WORKERS:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_AGAIN)
        return True

    def _others(self) -> list[str]:
        """The clients of the last run that the scheduler has not yet seen go."""
        clients: list[str] = self.client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
        return [client for client in clients if client not in (self.client.id, "fire-and-forget")]


class _Lent:
    """Implements `skjob.deploy.base.Cluster` for the length of one run: its start and its end do nothing."""

    def __init__(self, warm: _Warm, name: str, folder: Path) -> None:
        self.name = name
        self._warm = warm
        self._log = warm.cluster.logs()
        theirs, self.tls = warm.cluster.tls, TlsFiles.inside(folder)
        for there, here in zip(vars(theirs).values(), vars(self.tls).values(), strict=True):
            copy(there, here)

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """It is there."""

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """It stays."""

    def logs(self) -> Mapping[str, str]:
        """What this run has added."""
        return {name: text.removeprefix(self._log[name]) for name, text in self._warm.cluster.logs().items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm.cluster, name)
