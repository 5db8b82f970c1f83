"""A Dask cluster on this machine, in a process of its own.

Not in the user's process, because workers are spawned, and a spawned process imports the main module again: a script
without `if __name__ == "__main__"` would run once more in every worker. And not in skjob's, so that the same code
serves the command line and the Python API. The process (`python -m skjob.deploy.local`) takes orders as JSON lines on
its standard input, and ends with everything it started as soon as that closes: however its parent dies, nothing stays.

Its workers are forks of it: fork_server.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from skjob.config.plan import WorkerSize
from skjob.deploy import fork_server
from skjob.deploy.base import Problem
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.errors import StartError
from skjob.utils.tls import TlsFiles, make_certificates

START_TIMEOUT = 60.0
_ANSWER_TIMEOUT = 30.0
CLOSE_TIMEOUT = 15.0
LINES_KEPT = 200


class LocalCluster:
    """Implement `skjob.deploy.base.Cluster` on this machine.

    It listens on the loopback only, and uses TLS all the same: other users of a shared machine can reach the loopback.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        workers: int,
        size: WorkerSize,
        retries: int,
        preload: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start with so many `workers`, which have imported `preload`, and `variables` of their own."""
        self.name = name
        self.address = ""
        self.tls = make_certificates(name).write(folder)
        self.environment: dict[str, object] = {}
        self._folder = folder
        self._size = size
        self._retries = retries
        self._preload = list(preload)
        self._variables = dict(variables or {})
        self._requested = workers
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._log: deque[str] = deque(maxlen=LINES_KEPT)
        self._orders = count()
        self._one_order = threading.Lock()

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start the process, its scheduler and the first workers; return when a client can connect, in seconds.

        What this process needs to connect is imported meanwhile.
        """
        # A session of its own: Ctrl-C in the terminal is for the script, whose results these workers still hold.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skjob.deploy.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=fork_server.process_environment({**os.environ, **self._variables}),
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_log)]
        for reader in self._readers:
            reader.start()
        import distributed  # noqa: F401 - while the other process does the same

        order = {
            "folder": str(self._folder),
            "workers": self._requested,
            "threads": self._size.threads,
            "memory": self._size.memory,
            "retries": self._retries,
            "preload": self._preload,
        }
        self.address = self._ask(order, START_TIMEOUT)["address"]

    def add_workers(self, total: int) -> None:
        """Request workers until there are `total`."""
        self._requested = max(self._requested, total)
        self._ask({"total": self._requested}, _ANSWER_TIMEOUT)

    def remove_workers(self, names: list[str]) -> None:
        """End these workers and no others."""
        self._ask({"remove": names}, _ANSWER_TIMEOUT)
        self._requested -= len(names)

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """End up to `maximum` workers that have not connected."""
        self._requested -= int(self._ask({"cancel": maximum, "connected": connected}, _ANSWER_TIMEOUT)["ended"])

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return none: this is the machine."""
        return []

    def cost(self) -> Cost | None:
        """Return None: this machine costs nothing."""
        return None

    def requested(self) -> int:
        """Return how many workers were requested."""
        return self._requested

    def running(self) -> int:
        """Return how many worker processes run."""
        return int(self._ask({"count": True}, _ANSWER_TIMEOUT)["running"])

    def verify_lock(self, client: Any) -> None:
        """Do nothing: no other run knows of it."""

    def lost_reason(self) -> Problem | None:
        """Return why its process has ended, if it has: nobody starts another."""
        return Problem(*self._why_ended()) if self._has_ended() else None

    def pending_problems(self) -> list[Problem]:
        """Return none: a process that cannot start ends `start`, or is seen missing. Raise StartError if the cluster
        ended."""
        if self._has_ended():
            raise self._ended()
        return []

    def logs(self) -> dict[str, str]:
        """Return the last lines that scheduler and workers wrote."""
        return {"local": "\n".join(self._log)}

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Close the process's standard input, upon which it ends everything; kill it if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101
        with suppress(OSError):  # it may have ended already
            process.stdin.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline and not hurried():
            time.sleep(0.05)
        _kill_session(process)
        process.wait(CLOSE_TIMEOUT)
        for reader in self._readers:  # each closes what it reads, at its end
            reader.join(CLOSE_TIMEOUT)

    def _ask(self, order: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send an order and wait for the answer to it; one that came too late for its own order is passed over."""
        process = self._process
        if process is None or process.stdin is None:
            raise self._ended()
        number = next(self._orders)
        with self._one_order:
            try:
                process.stdin.write(json.dumps({**order, "number": number}) + "\n")
                process.stdin.flush()
                answer = self._answers.get(timeout=timeout)
                while answer is not None and answer["number"] != number:
                    answer = self._answers.get(timeout=timeout)
            except (OSError, ValueError):
                answer = None
            except queue.Empty:
                raise StartError(f"the cluster on this machine did not answer within {timeout:.0f} s") from None
        if answer is None:
            raise self._ended()
        return answer

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _ended(self) -> StartError:
        return StartError(*self._why_ended())

    def _why_ended(self) -> tuple[str, str]:
        return f"the cluster on this machine has ended: {self._last_words()}", "`skjob run -v` shows its log"

    def _last_words(self) -> str:
        return next((line for line in reversed(self._log) if line.strip()), "it wrote nothing")

    def _read_answers(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        with self._process.stdout as answers:
            for line in answers:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def _read_log(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stderr is not None  # noqa: S101
        with self._process.stderr as log:
            for line in log:
                self._log.append(line.rstrip())


def _kill_session(process: subprocess.Popen[str]) -> None:
    """End the process and its children, which share its session and nothing else does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def serve() -> None:
    """Run the process: start as the first line says, then follow orders until the standard input closes."""
    import distributed
    from dask import config

    fork_server.apply_user_settings()
    first = sys.stdin.readline()
    if not first:
        return
    order = json.loads(first)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what workers print is log, not an answer
    fork_server.start(order["preload"], order["folder"])
    tls = TlsFiles.inside(Path(order["folder"]))
    config.set(
        {
            **tls.dask_config(),
            "temporary-directory": order["folder"],
            # It would cut shared data back to one copy between two calls, and each would send it again.
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.allowed-failures": order["retries"],
            # A worker that is missing this long after it died is given up for good, even if its nanny has restarted it
            # meanwhile and it has just died again.
            "distributed.deploy.lost-worker-timeout": "30 days",
        }
    )
    cluster = distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=order["threads"],
        memory_limit=order["memory"],
        protocol="tls://",
        security=tls.security(),
        # None would take the usual port, which another run may have.
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        local_directory=order["folder"],
        silence_logs=False,
    )
    _answer(answers, order, {"address": cluster.scheduler_address})
    cluster.scale(order["workers"])
    for line in sys.stdin:
        _follow(cluster, json.loads(line), answers)
    # Nothing needs the scheduler and the workers any more: an orderly end would take half a second.
    for process in multiprocessing.active_children():
        process.kill()
    shutil.rmtree(order["folder"], ignore_errors=True)  # if the parent was killed, nobody else would
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _follow(cluster: Any, order: dict[str, Any], answers: Any) -> None:
    names = {str(name): name for name in cluster.worker_spec}
    ended = []
    if "total" in order:
        cluster.scale(order["total"])
    elif "remove" in order:
        ended = [names[name] for name in order["remove"] if name in names]
    elif "cancel" in order:
        ended = [names[name] for name in names if name not in order["connected"]][: order["cancel"]]
    if ended:
        cluster.sync(cluster.scale_down, ended)
    _answer(answers, order, {"running": len(cluster.workers), "ended": len(ended)})


def _answer(answers: Any, order: dict[str, Any], value: dict[str, Any]) -> None:
    answers.write(json.dumps({**value, "number": order["number"]}) + "\n")
    answers.flush()


if __name__ == "__main__":
    serve()
