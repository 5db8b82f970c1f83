"""The process of the user's program: connect to the cluster, run the program as Python would, end as it would.

To the program it looks like `python train.py`, or `python -m proj.train`: the same `__main__`, `sys.argv`,
`sys.path[0]`, working directory, standard streams and environment. What differs: joblib's backend is skjob's, and
`dask.distributed.Client.current()`, like `Client()` without an address, is the cluster (dask_programs.py). Processes
that it forks are plain Python's.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from skjob.errors import SkjobError, StartError
from skjob.run.program.messages import MessageWriter
from skjob.run.program.spec import INTERRUPT_GRACE, ProgramSpec

CONNECT_TIMEOUT = 30


def main() -> None:
    """Wait for the assignment, connect, run."""
    inherited = signal.getsignal(signal.SIGINT)
    early: list[int] = []
    if inherited is not signal.SIG_IGN:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, lambda number, _: early.append(number))
    life_line = os.fdopen(int(sys.argv[1]), "rb", buffering=0)
    os.set_inheritable(life_line.fileno(), False)
    _import_ahead(sys.argv[2:])
    line = life_line.readline()
    if not line:
        os._exit(0)  # the cluster did not come; the parent has said why
    told = json.loads(line)
    assignment = ProgramSpec(**{**told, "arguments": tuple(told["arguments"])})
    _end_with_parent(life_line, Path(assignment.folder))
    with _as_python_ends(assignment):
        _connect(assignment)
        signal.signal(signal.SIGINT, inherited)
        if early:  # Ctrl-C before there was a program: the parent does not tell it anew
            signal.raise_signal(signal.SIGINT)
    if assignment.declared:
        _run_declared(assignment)
    elif assignment.module is not None:
        _run_module(assignment, assignment.module)
    else:
        _run_script(assignment)


def _import_ahead(preload: Sequence[str]) -> None:
    """The slow imports that every program needs, and those of this one, while the cluster starts anyway."""
    import distributed  # noqa: F401

    for name in preload:
        with suppress(Exception):  # where the program does it, it is told
            importlib.import_module(name)


def _end_with_parent(life_line: Any, private: Path) -> None:
    def watch() -> None:
        life_line.read()
        shutil.rmtree(private, ignore_errors=True)  # of a parent that was killed, nobody else would
        print("\nskjob has ended, and this program with it", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(INTERRUPT_GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="skjob-life-line", daemon=True).start()


def _connect(assignment: ProgramSpec) -> None:
    import joblib
    from distributed.versions import VersionMismatchWarning

    from skjob.engine.backend import SkjobBackend
    from skjob.engine.checkpoint.fit_cache import FitCache
    from skjob.engine.fidelity.forks import JoblibDefaults, run_in_children, separate_children
    from skjob.engine.fidelity.local_tasks import COUNTER, LocalTaskCounter
    from skjob.run.program.dask_programs import (
        RunClient,
        RunCluster,
        close_at_exit,
        dask_backend,
        leave_run_cluster,
        use_run_cluster,
    )
    from skjob.run.program.prepare import prepare_client
    from skjob.utils import current_client
    from skjob.utils.reconnect import set_reconnect_timeout
    from skjob.utils.tls import TlsFiles

    plain = JoblibDefaults.now()
    security = TlsFiles.inside(Path(assignment.folder)).security()
    # The parent has judged the versions; distributed would warn of every difference at every connection.
    warnings.simplefilter("ignore", VersionMismatchWarning)
    try:
        client = RunClient(assignment.address, security=security, timeout=CONNECT_TIMEOUT, set_as_default=True)
    except (OSError, TimeoutError) as error:
        raise StartError(f"the scheduler does not answer the program: {error}", "run it again") from error
    set_reconnect_timeout(client, assignment.patience)
    current_client.run_client = client
    close_at_exit(client)
    root = Path(assignment.root)
    box = MessageWriter(Path(assignment.folder))
    use_run_cluster(
        RunCluster(
            assignment.address, security, assignment.workers, assignment.wait_for_workers, partial(box.send, "note")
        )
    )
    client.extensions[COUNTER] = LocalTaskCounter(partial(box.send, "tasks"))
    packages = Path(assignment.packages).read_bytes() if assignment.packages is not None else None
    prepare_client(client, root, packages, assignment.width, partial(box.send, "note"))
    fits = assignment.checkpoint and FitCache(
        assignment.checkpoint,
        assignment.run,
        resume=assignment.resume,
        notify=partial(box.send, "note"),
        report_counts=lambda counts: box.send("fits", asdict(counts)),
    )
    arguments: dict[str, Any] = {
        "client": client,
        "width": assignment.width,
        "root": root,
        "wait_for_workers": assignment.wait_for_workers,
        "checkpoint": fits,
        "notify": partial(box.send, "note"),
        "notify_at_end": partial(box.send, "last"),
    }
    # The first is for this thread, whose choice also overrules an estimator's wish for threads; the second is for
    # threads that the script starts.
    joblib.parallel_config(backend=SkjobBackend(**arguments))
    joblib.register_parallel_backend("skjob", lambda **extra: SkjobBackend(**{**arguments, **extra}), make_default=True)
    joblib.register_parallel_backend("dask", dask_backend(arguments))
    run_in_children(leave_run_cluster)
    separate_children(plain)


def _run_script(assignment: ProgramSpec) -> None:
    """As `python script.py` does it. The module stays `__main__` to the very end, for `atexit` and threads."""
    path = str(Path(assignment.path).absolute())
    sys.argv = [assignment.path, *assignment.arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    module = ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    from skjob.engine.fidelity.settings import snapshot

    snapshot.set_baseline()
    with _as_python_ends(assignment):
        exec(code, module.__dict__)  # noqa: S102 - running the user's program is what this process is for


def _run_module(assignment: ProgramSpec, name: str) -> None:
    """As `python -m name` does it: the packages that it is in are imported first, with `-m` in the place of its file.

    A module that is gone since it was looked for, or that has no code, is told in Python's words.
    """
    sys.argv = ["-m", *assignment.arguments]
    sys.path.insert(0, assignment.root)
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    with _as_python_ends(assignment):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
        find_code = getattr(spec and spec.loader, "get_code", None)
        code = find_code(spec.name) if spec is not None and find_code is not None else None
        if spec is None or code is None:
            raise ImportError(f"No code object available for {name}")
        module.__spec__ = spec
        module.__loader__ = spec.loader
        module.__package__ = spec.parent
        module.__file__ = spec.origin
        module.__dict__["__cached__"] = spec.cached
        sys.argv[0] = spec.origin or name
        exec(code, module.__dict__)  # noqa: S102 - running the user's program is what this process is for


def _run_declared(assignment: ProgramSpec) -> None:
    from skjob.jobfile.data.placement import Placement
    from skjob.jobfile.loader import read_job
    from skjob.jobfile.runner import run_declared

    path = Path(assignment.path)
    placement = assignment.placement and Placement(**assignment.placement)
    tell = partial(MessageWriter(Path(assignment.folder)).send, "note")
    rounds = f"{assignment.checkpoint}/rounds" if assignment.checkpoint else None
    with _as_python_ends(assignment):
        run_declared(read_job(path), path.resolve().parent, placement or None, tell, rounds)


@contextmanager
def _as_python_ends(assignment: ProgramSpec) -> Iterator[None]:
    """What the program raises ends this process as it would end `python train.py`; the parent is told the cause.

    What ends a forked child of the program is not what ends the run.
    """
    owner = os.getpid()

    def tell(message: str) -> None:
        if os.getpid() == owner:
            _tell(assignment, message)

    try:
        yield
    except SystemExit:
        raise
    except SkjobError as error:
        tell(error.message)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BaseException as error:
        words = str(error).strip()  # scikit-learn begins one with an empty line
        tell(f"{type(error).__name__}: {words}" if words else type(error).__name__)
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            _die_of_interrupt()
        sys.exit(1)


def _show(error: BaseException) -> None:
    """Print the traceback from the user's first line on, through the hook that the script may have set.

    What has failed on a worker is shown as if it had failed here: one traceback, and the message once.
    """
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    from skjob.engine.remote_traceback import as_one

    error = error.with_traceback(traceback)
    whole = as_one(error) if sys.excepthook is sys.__excepthook__ else None
    if whole is None:
        sys.excepthook(type(error), error, traceback)
        return
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(whole, end="", file=sys.stderr, flush=True)


def _die_of_interrupt() -> None:
    """End as an interrupted program does, so that the parent and the shell see the signal."""
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _tell(assignment: ProgramSpec, message: str) -> None:
    MessageWriter(Path(assignment.folder)).send("failure", message)


if __name__ == "__main__":
    main()
