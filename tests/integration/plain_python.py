"""Plain Python for many small programs, without a start of Python and an import of scikit-learn for each.

A server imports what the programs import, once, and forks a child for each: that runs the program as `python FILE` or
`python -m MODULE` does, as `__main__`, with its own arguments, folder, environment and standard streams, and ends as
Python ends. The server has no thread, so that a fork of it is whole; libraries have one inner thread, as on workers.

`PlainPython` is the tests' side of it; the server is this file, started as a program.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

IMPORTED = (
    "joblib", "numpy", "pandas", "sklearn.compose", "sklearn.datasets", "sklearn.decomposition", "sklearn.dummy",
    "sklearn.ensemble", "sklearn.linear_model", "sklearn.manifold", "sklearn.model_selection", "sklearn.neighbors",
    "sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm",
)  # fmt: skip
ONE_INNER_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
START_SECONDS = 120.0


class PlainPython:
    """The server, which starts with the first program."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: Any = None

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        stdin: str,
        seconds: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS…`, as subprocess.run does. `arguments` begin with a path or with `-m` and a module.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        if self._process is None:
            self._start()
        request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
        with tempfile.TemporaryDirectory() as streams:
            (Path(streams) / "stdin").write_text(stdin)
            self._answers.write(json.dumps(request | {"streams": streams, "seconds": seconds}).encode() + b"\n")
            self._answers.flush()
            answer = self._answers.readline()
            assert answer, "the server of plain Python has ended"
            status = json.loads(answer)
            written, told = ((Path(streams) / name).read_text() for name in ("stdout", "stderr"))
        if status is None:
            raise subprocess.TimeoutExpired(list(arguments), seconds, written, told)
        return subprocess.CompletedProcess(list(arguments), status, written, told)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | ONE_INNER_THREAD,
            )  # fmt: skip
        with ours:
            self._answers = ours.makefile("rwb")
        assert self._answers.readline() == b"ready\n", "the server of plain Python did not start"

    def close(self) -> None:
        """End the server."""
        process, self._process = self._process, None
        if process is not None:
            self._answers.close()
            process.wait(START_SECONDS)


# ---------------------------------------------------------------------------------------------------------- the server


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer requests until there are no more. Returns one in the child that is to run it, and None in the server."""
    with connection, connection.makefile("rwb") as stream:
        stream.write(b"ready\n")
        stream.flush()
        while line := stream.readline():
            request: dict[str, Any] = json.loads(line)
            child = os.fork()
            if not child:
                return request
            stream.write(json.dumps(_status_of(child, request["seconds"])).encode() + b"\n")
            stream.flush()
    return None


def _status_of(child: int, seconds: float) -> int | None:
    """Wait for a child, and end it if it takes longer; either way nothing of it is left."""
    from selectors import EVENT_READ, DefaultSelector

    descriptor = os.pidfd_open(child)
    with DefaultSelector() as selector:
        selector.register(descriptor, EVENT_READ)
        ended = bool(selector.select(seconds))
    os.close(descriptor)
    with suppress(ProcessLookupError):
        os.kill(child, 9)  # before it could have made its group
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if ended else None


def _become(request: dict[str, Any]) -> None:
    """Make this process the program's: its folder, its environment, its streams and its arguments."""
    os.setsid()
    streams = Path(request["streams"])
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDWR), (2, "stderr", os.O_RDWR)):
        os.dup2(os.open(streams / name, flags | os.O_CREAT, 0o600), number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # it is looked for once a process


def _run(arguments: list[str]) -> None:
    """Run the program as `__main__`, as Python does."""
    if arguments[0] == "-m":
        import runpy

        sys.argv[:] = arguments[1:]
        sys.path[0] = str(Path.cwd())
        # Not `run_module`: as with `python -m`, the module that is there as `__main__` is the program's.
        sys.modules["__main__"] = main = _main_module("")
        main.__dict__.clear()
        main.__dict__["__name__"] = "__main__"
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
    else:
        path = arguments[0]
        sys.argv[:] = arguments
        sys.path[0] = str(Path(path).resolve().parent)
        sys.modules["__main__"] = main = _main_module(path)
        exec(compile(Path(path).read_bytes(), path, "exec"), main.__dict__)  # noqa: S102


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


def _imported() -> None:
    from importlib import import_module

    for name in IMPORTED:
        import_module(name)


if __name__ == "__main__":
    _imported()
    mine = sys.modules["__main__"]  # kept, as its functions are running
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
        _run(asked["arguments"])
