"""Start Python programs as forks of a process that has already imported their libraries.

The tests run hundreds of small programs, and starting Python with scikit-learn and Dask takes three seconds of CPU
time. A server imports these libraries once and forks a child for each program. The child gets the folder, environment,
streams and arguments of the request, runs the program as `__main__` like `python FILE`, `python -m MODULE` or `python
-P -m MODULE`, and ends as Python ends. `skjob` itself is imported in the child.

`ForkedProcess` has the part of `subprocess.Popen` that the tests need; `run` is like `subprocess.run`. Within
`programs_forked()`, runs of skjob in this process fork the processes of their program and of their local cluster. A new
Python starts instead for `python -c`, and if the environment sets variables that Python or a library reads only once
(`READ_AT_START`).

A server is this file, started as a program. It has only one Python thread, so that a fork is complete; pyarrow's
allocator has another thread, which it restarts in a child. All processes of one test run (`pytest -n`) share a server:
the first that needs it starts it, and it ends with the last of them.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import ModuleType
from typing import IO, Any
from unittest import mock

PRELOADED = (
    "distributed", "httpx", "joblib", "kubernetes.client", "kubernetes.config", "numpy",
    "pandas", "typer", "sklearn.compose", "sklearn.datasets", "sklearn.decomposition",
    "sklearn.dummy", "sklearn.ensemble", "sklearn.linear_model", "sklearn.manifold", "sklearn.model_selection",
    "sklearn.neighbors", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm",
)  # fmt: skip
ONE_INNER_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
READ_AT_START = re.compile("PYTHON|DASK_|OMP_|LD_|MALLOC_|LC_|LANG$|JOBLIB_|SKLEARN_|MPL|.*_NUM_THREADS$")
"""Variables that have an effect only if they are set before Python starts."""

READ_LATE = re.compile("DASK_DISTRIBUTED__(ADMIN__SYSTEM_MONITOR|ADMIN__TICK|WORKER__MEMORY|WORKER__PROFILE)__")
"""Variables among these that Dask reads when a cluster starts: the child sets them in Dask's configuration."""

PROGRAM = ["-P", "-m", "skjob.run.program.child"]
"""Arguments with which skjob starts the process of a program."""

CLUSTER = ["-P", "-m", "skjob.deploy.local"]
"""Arguments with which skjob starts the process of a local cluster."""


class Server(StrEnum):
    """Kinds of forked processes: plain `python`, the process of a program (`python -P`), or that of a local cluster,
    which sets more variables for its workers."""

    PYTHON = "python"
    PROGRAMS = "programs"
    CLUSTERS = "clusters"


USE = b"u"
"""Message, and response, of a process that needs the server until its connection is closed."""

FIRST_USE_SECONDS = 60.0
"""Seconds after which a server without users ends, as the process that started it is gone."""

START_TIMEOUT = 120.0
END_TIMEOUT = 60.0
_NewProcess = subprocess.Popen
_INITIAL_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if (name, value) not in ONE_INNER_THREAD.items()
}
_TEMPORARY_FOLDER = tempfile.gettempdir()
_TEST_RUN_ID = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process-{os.getpid()}")
_starting = threading.Lock()
_servers: dict[Server, str] = {}
"""The socket of each server that this process uses."""


class ForkedProcess:
    """A program that a server has forked. `wait`, `poll` and signals work as in `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: str,
        environment: Mapping[str, str],
        descriptors: Mapping[int, int],
        *,
        own_session: bool = False,
    ) -> None:
        """Start `python ARGUMENTS…`; `descriptors` maps descriptor numbers in the program to open files of this
        process.

        With `own_session`, all processes that the program leaves in its group are killed when it ends.
        """
        self.args = [sys.executable, *arguments]
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        safe_path = arguments[0] == "-P"
        used = []
        if list(arguments[:2]) == ["-m", "skjob"]:
            used = [Server.PROGRAMS, *([Server.CLUSTERS] if "local" in arguments else [])]
        request = {
            "arguments": list(arguments[1:] if safe_path else arguments),
            "folder": folder,
            "environment": dict(environment),
            "descriptors": list(descriptors),
            "own_session": own_session,
            "servers": {server: _server(server) for server in used},
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_server(_server_for(arguments)))
        socket.send_fds(self._connection, [b"\n"], list(descriptors.values()))
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile("rb", buffering=0)
        self.pid = int(self._answers.readline())
        self._descriptor = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises subprocess.TimeoutExpired if the program runs on for longer."""
        with self._waiting:
            if self.returncode is None:
                self._connection.settimeout(0.001 if timeout == 0 else timeout)
                try:
                    self._connection.recv(1, socket.MSG_PEEK)
                except TimeoutError as error:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from error
                self._connection.settimeout(None)
                self.returncode = int(self._answers.readline())
                os.close(self._descriptor)
                self._answers.close()
                self._connection.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send the program a signal if it is still running."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """End the program at once."""
        self.send_signal(signal.SIGKILL)


class PipedProcess(ForkedProcess):
    """A program in a session of its own, with pipes to its streams."""

    def __init__(self, arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
        """Start `python ARGUMENTS…`."""
        pipes = [os.pipe() for _ in range(3)]
        theirs = {number: pipe[0 if number == 0 else 1] for number, pipe in enumerate(pipes)}
        super().__init__(arguments, folder, environment, theirs, own_session=True)
        for descriptor in theirs.values():
            os.close(descriptor)
        self.stdin = os.fdopen(pipes[0][1], "w")
        self.stdout, self.stderr = (os.fdopen(pipe[0]) for pipe in pipes[1:])


def run(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    stdin: str = "",
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS…` to its end and capture its output, like subprocess.run.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    if arguments[0] == "-c" or not _can_fork(arguments, environment):
        return run_new(arguments, folder, environment, stdin=stdin, timeout=timeout)
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        streams = {0: given.fileno(), 1: out.fileno(), 2: err.fileno()}
        process = ForkedProcess(arguments, str(folder), environment, streams, own_session=True)
        late = None
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            late = error
        finally:
            process.kill()
            status = process.wait(END_TIMEOUT)
        written, errors = content(out), content(err)
    if late is not None:
        raise subprocess.TimeoutExpired(command, timeout, written, errors)
    return subprocess.CompletedProcess(command, status, written, errors)


def run_new(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    stdin: str = "",
    timeout: float,
    python: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run `PYTHON ARGUMENTS…` in a new Python process, like subprocess.run."""
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, input=stdin,
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


@contextmanager
def programs_forked() -> Iterator[None]:
    """Within the block, skjob in this process forks the processes of its program and of its cluster."""
    with mock.patch.object(subprocess, "Popen", _ForkingPopen):
        yield


class _ForkingPopen(_NewProcess):  # type: ignore[type-arg]
    """`subprocess.Popen`, except that the processes of programs and clusters are forked."""

    def __new__(cls, args: Any, *_: Any, **options: Any) -> Any:
        """Return a forked process for a program or a cluster."""
        arguments = list(args)[1:]
        if arguments[:3] not in (PROGRAM, CLUSTER) or not _can_fork(arguments, options["env"]):
            return super().__new__(cls)
        if arguments == CLUSTER:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            assert options == {**pipes, "text": True, "start_new_session": True, "env": options["env"]}
            return PipedProcess(arguments, str(Path.cwd()), options["env"])
        assert set(options) == {"pass_fds", "env"}
        numbers = [0, 1, 2, *options["pass_fds"]]
        return ForkedProcess(arguments, str(Path.cwd()), options["env"], dict(zip(numbers, numbers, strict=True)))


def content(file: IO[bytes]) -> str:
    """Return all that was written to a temporary file."""
    file.seek(0)
    return file.read().decode()


def _server_for(arguments: Sequence[str]) -> Server:
    if list(arguments[:3]) == CLUSTER:
        return Server.CLUSTERS
    return Server.PROGRAMS if arguments[0] == "-P" else Server.PYTHON


def _can_fork(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    return _read_at_start(environment) == _read_at_start(_environment_of(_server_for(arguments), _INITIAL_ENVIRONMENT))


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if READ_AT_START.match(name) and not READ_LATE.match(name)
    }


def _environment_of(server: Server, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with which processes of this kind start."""
    if server is Server.PYTHON:
        return dict(own)
    from skjob.config.hash_seed import hash_seed
    from skjob.deploy.fork_server import process_environment

    return process_environment(own) if server is Server.CLUSTERS else {**own, **hash_seed(own)}


def _server(server: Server) -> str:
    """Return the socket of a server; start the server if no process of this test run has done so."""
    with _starting:
        if server not in _servers:
            known = Path(_TEMPORARY_FOLDER) / f"skjob-{_TEST_RUN_ID}-{os.getuid()}-{server}"
            with known.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                address = file.read()
                if not address or not _use(address):
                    address = _start_server(server, known)
                    assert _use(address), "the server ended at once"
                    file.truncate(0)
                    file.write(address)
            _servers[server] = address
        return _servers[server]


def _use(address: str) -> bool:
    """Tell a server that this process needs it; return whether the server is running."""
    use = socket.socket(socket.AF_UNIX)
    try:
        use.connect(address)
        use.sendall(USE)
        if use.recv(1) == USE:
            atexit.register(use.close)
            return True
    except OSError:
        pass
    use.close()
    return False


def _start_server(server: Server, known: Path) -> str:
    folder = tempfile.mkdtemp(prefix="skjob-server-", dir=_TEMPORARY_FOLDER)
    safe_path = [] if server is Server.PYTHON else ["-P"]
    subprocess.run(
        [sys.executable, *safe_path, __file__, folder, str(known)],
        env=_environment_of(server, _INITIAL_ENVIRONMENT) | ONE_INNER_THREAD, check=True, timeout=START_TIMEOUT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    return f"{folder}/socket"


# ---------------------------------------------------------------------------------------------------------- the server


class _Server:
    """Forks a child for each request, and reports the child's process id and exit status to the requester.

    Its socket is in `folder`; the file `known` has the socket's path for other processes.
    """

    def __init__(self, folder: Path, known: Path) -> None:
        self._folder = folder
        self._known = known
        self._uses: dict[int, socket.socket] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / "socket"))
        self._listening.listen()
        self._selector = DefaultSelector()
        self._selector.register(self._listening, EVENT_READ)
        self._children: dict[int, _Child] = {}

    def serve(self) -> dict[str, Any] | None:
        """Serve until the last user has ended. In a child, return the request that it has to run."""
        used = False
        while self._uses or not used:
            ready = self._selector.select(None if used else FIRST_USE_SECONDS)
            if not ready:
                break
            for key, _ in ready:
                if key.fd in self._children:
                    self._report(key.fd)
                elif key.fd in self._uses:
                    self._selector.unregister(key.fd)
                    self._uses.pop(key.fd).close()
                elif (request := self._accept()) is not None:
                    return request
            used = used or bool(self._uses)
        shutil.rmtree(self._folder)
        if self._known.exists() and self._known.read_text() == f"{self._folder}/socket":
            self._known.unlink(missing_ok=True)
        return None

    def _accept(self) -> dict[str, Any] | None:
        connection, _ = self._listening.accept()
        message, descriptors, *_ = socket.recv_fds(connection, 1, 16)
        if message == b"\n":
            return self._fork(connection, descriptors)
        if message == USE:
            connection.sendall(USE)
            self._uses[connection.fileno()] = connection
            self._selector.register(connection, EVENT_READ)
        else:
            connection.close()
        return None

    def _fork(self, connection: socket.socket, descriptors: list[int]) -> dict[str, Any] | None:
        with connection.makefile("rb") as stream:
            request: dict[str, Any] = json.loads(stream.readline())
        pid = os.fork()
        if not pid:
            self._close_in_child(connection)
            _move_descriptors(dict(zip(request["descriptors"], descriptors, strict=True)))
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        child = _Child(pid, connection, own_session=request["own_session"])
        watched = os.pidfd_open(pid)
        self._children[watched] = child
        self._selector.register(watched, EVENT_READ)
        child.answer(pid)
        return None

    def _report(self, watched: int) -> None:
        self._selector.unregister(watched)
        os.close(watched)
        self._children.pop(watched).end()

    def _close_in_child(self, connection: socket.socket) -> None:
        """Close the server's descriptors in a child."""
        connection.close()
        for watched, child in self._children.items():
            os.close(watched)
            child.connection.close()
        for use in self._uses.values():
            use.close()
        self._selector.close()
        self._listening.close()


@dataclass
class _Child:
    pid: int
    connection: socket.socket
    own_session: bool

    def answer(self, number: int) -> None:
        with suppress(OSError):  # the requester is gone
            self.connection.sendall(f"{number}\n".encode())

    def end(self) -> None:
        """Kill the rest of the child's session, so that nothing is left, and report the child's exit status."""
        if self.own_session:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.answer(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        self.connection.close()


def _move_descriptors(descriptors: dict[int, int]) -> None:
    """Move each open file to the descriptor number that the program expects."""
    above = max([*descriptors, *descriptors.values()]) + 1
    copies = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for number, descriptor in descriptors.items()}
    for descriptor in descriptors.values():
        os.close(descriptor)
    for number, copied in copies.items():
        os.dup2(copied, number)
        os.close(copied)


def _become(request: dict[str, Any]) -> None:
    """Turn this process into the program's: set its folder, its environment, and what libraries read from that."""
    if request["own_session"]:
        os.setsid()
    _open_streams()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None  # cached once per process
    import numpy as np

    # As on NumPy's import. After `seed`, skjob would assume that the program had seeded it.
    np.random.set_state(np.random.MT19937().state)
    late = {name: value for name, value in os.environ.items() if READ_LATE.match(name)}
    if late:
        import dask.config

        dask.config.update(dask.config.config, dask.config.collect_env(late))
    if request["servers"]:
        _servers.update({Server(server): address for server, address in request["servers"].items()})
        subprocess.Popen = _ForkingPopen  # type: ignore[misc]


def _open_streams() -> None:
    """Create the standard streams as Python does, because their files differ from the server's."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
        raw.name = f"<{name}>"  # type: ignore[misc]
        unbuffered = number != 0 and before.write_through
        buffer: Any = io.BufferedReader(raw) if number == 0 else raw if unbuffered else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(
            buffer, before.encoding, before.errors, newline="\n",
            line_buffering=number == 2 or raw.isatty(), write_through=unbuffered,
        )  # fmt: skip
        stream.mode = raw.mode[0]  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(arguments: list[str]) -> None:
    """Run the program as `__main__`, as Python does."""
    if arguments[0] == "-m":
        import runpy

        sys.argv[:] = arguments[1:]
        sys.orig_argv[:] = [sys.executable, *(["-P"] if sys.flags.safe_path else []), *arguments]
        if not sys.flags.safe_path:
            sys.path[0] = str(Path.cwd())
        # As with `python -m`, and unlike `run_module`, the existing `__main__` module becomes the program's.
        sys.modules["__main__"] = main = _main_module("")
        main.__dict__.clear()
        main.__dict__["__name__"] = "__main__"
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
    else:
        path = arguments[0]
        sys.argv[:] = arguments
        sys.path[0] = str(Path(path).resolve().parent)
        sys.modules["__main__"] = main = _main_module(path)
        exec(compile(Path(path).read_bytes(), str(Path(path).absolute()), "exec"), main.__dict__)  # noqa: S102


def _show(error: Exception) -> None:
    """Show the program's error as Python does, without the frames of this file."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _main_module(path: str) -> ModuleType:
    import builtins
    from importlib.machinery import SourceFileLoader

    main = ModuleType("__main__")
    main.__dict__.update(
        __annotations__={}, __builtins__=builtins, __spec__=None, __loader__=SourceFileLoader("__main__", path)
    )
    if path:
        main.__dict__.update(__file__=str(Path(path).absolute()), __cached__=None)
    return main


if __name__ == "__main__":
    for library in PRELOADED:
        import_module(library)
    assert threading.active_count() == 1, "a library has started a thread"
    gc.freeze()  # children do not collect objects of the server
    server = _Server(Path(sys.argv[1]), Path(sys.argv[2]))
    if os.fork():
        os._exit(0)  # the server is ready, and the caller continues
    this_module = sys.modules["__main__"]  # keep the module, as its functions are running
    request = server.serve()
    if request is not None:
        _become(request)
        try:
            _run(request["arguments"])
        except Exception as error:
            _show(error)
            sys.exit(1)
