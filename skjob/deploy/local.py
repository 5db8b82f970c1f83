"""Run a Dask cluster on this machine, in a process of its own.

Not in the user's process: workers are spawned, and a spawned process imports the main module again, so a script without
`if __name__ == "__main__"` would run again in every worker. And not in skjob's process, so that the same code serves
the command line and the Python API. The process (`python -m skjob.deploy.local`) reads requests as JSON lines from its
standard input, and ends with everything it started as soon as that closes: nothing is left, however its parent dies.

Its workers are forks of it: see fork_server.py.
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
_RESPONSE_TIMEOUT = 30.0
CLOSE_TIMEOUT = 15.0
LINES_KEPT = 200


class LocalCluster:
    """Implement `skjob.deploy.base.Cluster` on this machine.

    It listens on the loopback only, and still uses TLS: other users of a shared machine can reach the loopback.
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
        """Create a cluster of `workers`, which import `preload` and get the environment `variables`."""
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
        self._dashboard_port: int | None = None
        self._process: subprocess.Popen[str] | None = None
        self._responses: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._log: deque[str] = deque(maxlen=LINES_KEPT)
        self._request_ids = count()
        self._request_lock = threading.Lock()

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start the process, its scheduler and the first workers; return when a client can connect.

        Meanwhile import what this process needs to connect.
        """
        # In its own session: Ctrl-C in the terminal is meant for the script, whose results these workers still hold.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skjob.deploy.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=fork_server.process_environment({**os.environ, **self._variables}),
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_responses, self._read_log)]
        for reader in self._readers:
            reader.start()
        import distributed  # noqa: F401 - while the other process does the same

        request = {
            "folder": str(self._folder),
            "workers": self._requested,
            "threads": self._size.threads,
            "memory": self._size.memory,
            "retries": self._retries,
            "preload": self._preload,
        }
        response = self._request(request, START_TIMEOUT)
        self.address, self._dashboard_port = response["address"], response["dashboard"]

    def add_workers(self, total: int) -> None:
        """Request workers until there are `total`."""
        self._requested = max(self._requested, total)
        self._request({"total": self._requested}, _RESPONSE_TIMEOUT)

    def remove_workers(self, names: list[str]) -> None:
        """Stop these workers and no others."""
        self._request({"remove": names}, _RESPONSE_TIMEOUT)
        self._requested -= len(names)

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """Stop up to `maximum` workers that have not connected."""
        self._requested -= int(self._request({"cancel": maximum, "connected": connected}, _RESPONSE_TIMEOUT)["ended"])

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return none: all workers are on this machine."""
        return []

    def cost(self) -> Cost | None:
        """Return None: this machine costs nothing."""
        return None

    def requested(self) -> int:
        """Return how many workers were requested."""
        return self._requested

    def running(self) -> int:
        """Return how many worker processes run."""
        return int(self._request({"count": True}, _RESPONSE_TIMEOUT)["running"])

    def verify_lock(self, client: Any) -> None:
        """Do nothing: no other run can use this cluster."""

    def lost_reason(self) -> Problem | None:
        """Return why its process has ended, if it has: nothing restarts it."""
        return Problem(*self._why_ended()) if self._has_ended() else None

    def pending_problems(self) -> list[Problem]:
        """Return none: a process that cannot start makes `start` fail, or is noticed as missing.

        Raises:
            StartError: the cluster has ended.
        """
        if self._has_ended():
            raise self._ended()
        return []

    def dashboard_port(self) -> int | None:
        """Return the port of the scheduler's pages."""
        return self._dashboard_port

    def logs(self) -> dict[str, str]:
        """Return the last lines that the scheduler and workers wrote."""
        return {"local": "\n".join(self._log)}

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Close the process's standard input, which makes it end everything; kill it if it does not."""
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
        for reader in self._readers:  # each closes its stream when that ends
            reader.join(CLOSE_TIMEOUT)

    def _request(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send a request and wait for its response; skip late responses to earlier requests."""
        process = self._process
        if process is None or process.stdin is None:
            raise self._ended()
        number = next(self._request_ids)
        with self._request_lock:
            try:
                process.stdin.write(json.dumps({**request, "number": number}) + "\n")
                process.stdin.flush()
                response = self._responses.get(timeout=timeout)
                while response is not None and response["number"] != number:
                    response = self._responses.get(timeout=timeout)
            except (OSError, ValueError):
                response = None
            except queue.Empty:
                raise StartError(f"the cluster on this machine did not answer within {timeout:.0f} s") from None
        if response is None:
            raise self._ended()
        return response

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _ended(self) -> StartError:
        return StartError(*self._why_ended())

    def _why_ended(self) -> tuple[str, str]:
        return f"the cluster on this machine has ended: {self._last_log_line()}", "`skjob run -v` shows its log"

    def _last_log_line(self) -> str:
        return next((line for line in reversed(self._log) if line.strip()), "it wrote nothing")

    def _read_responses(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        with self._process.stdout as responses:
            for line in responses:
                self._responses.put(json.loads(line))
        self._responses.put(None)

    def _read_log(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stderr is not None  # noqa: S101
        with self._process.stderr as log:
            for line in log:
                self._log.append(line.rstrip())


def _kill_session(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children, which alone share its session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def serve() -> None:
    """Run the process: start as the first line says, then handle requests until the standard input closes."""
    import distributed
    from dask import config

    from skjob.deploy import scheduler_dashboard

    fork_server.apply_user_settings()
    first = sys.stdin.readline()
    if not first:
        return
    request = json.loads(first)
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what workers print goes to the log, not to the responses
    fork_server.start(request["preload"], request["folder"])
    tls = TlsFiles.inside(Path(request["folder"]))
    config.set(
        {
            **tls.dask_config(),
            "temporary-directory": request["folder"],
            # It would reduce shared data to one copy between two calls, and each call would send it again.
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.allowed-failures": request["retries"],
            # A worker that is missing this long after it died is given up for good, even if its nanny has restarted it
            # meanwhile and it has just died again.
            "distributed.deploy.lost-worker-timeout": "30 days",
        }
    )
    cluster = distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=request["threads"],
        memory_limit=request["memory"],
        protocol="tls://",
        security=tls.security(),
        # None would mean the default port, which another run may have.
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        local_directory=request["folder"],
        silence_logs=False,
        scheduler_kwargs={"dashboard": False},  # until somebody opens it
    )
    scheduler_dashboard.dask_setup(cluster.scheduler)
    pages = cluster.scheduler.http_server.port
    _respond(responses, request, {"address": cluster.scheduler_address, "dashboard": pages})
    cluster.scale(request["workers"])
    for line in sys.stdin:
        _handle(cluster, json.loads(line), responses)
    # Nothing needs the scheduler and the workers any more: an orderly shutdown would take half a second.
    for process in multiprocessing.active_children():
        process.kill()
    shutil.rmtree(request["folder"], ignore_errors=True)  # if the parent was killed, nobody else does
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _handle(cluster: Any, request: dict[str, Any], responses: Any) -> None:
    names = {str(name): name for name in cluster.worker_spec}
    ended = []
    if "total" in request:
        cluster.scale(request["total"])
    elif "remove" in request:
        ended = [names[name] for name in request["remove"] if name in names]
    elif "cancel" in request:
        ended = [names[name] for name in names if name not in request["connected"]][: request["cancel"]]
    if ended:
        cluster.sync(cluster.scale_down, ended)
    _respond(responses, request, {"running": len(cluster.workers), "ended": len(ended)})


def _respond(responses: Any, request: dict[str, Any], value: dict[str, Any]) -> None:
    responses.write(json.dumps({**value, "number": request["number"]}) + "\n")
    responses.flush()


if __name__ == "__main__":
    serve()
