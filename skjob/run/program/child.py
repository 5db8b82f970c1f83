"""The process of the user's program: connect to the cluster, run the program as Python would, end as it would.

To the program it looks like `python train.py`, or `python -m proj.train`: the same `__main__`, `sys.argv`,
`sys.path[0]`, working directory, standard streams and environment. What differs: joblib's backend is skjob's, and
`dask.distributed.Client.current()`, like `Client()` without an address, is the cluster (dask_programs.py). Processes
that it forks are plain Python's.
"""

from __future__ import annotations

import atexit
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

from skjob.errors import SkjobError, StartError, hide
from skjob.run.program.messages import MessageWriter
from skjob.run.program.spec import INTERRUPT_GRACE, ProgramSpec
from skjob.run.program.variables import ProgramVariables

_CONNECT_TIMEOUT = 30


def main() -> None:
    """Wait to learn what to run, connect, and run it."""
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
    fields = json.loads(line)
    variables = ProgramVariables(**fields["variables"])
    spec = ProgramSpec(**{**fields, "arguments": tuple(fields["arguments"]), "variables": variables})
    os.environ.update(variables.inherited)
    hide(os.environ[name] for name in variables.secret)
    _end_with_parent(life_line, Path(spec.folder))
    with _as_python_ends(spec):
        _connect(spec)
        signal.signal(signal.SIGINT, inherited)
        if early:  # Ctrl-C before there was a program: the parent does not send it again
            signal.raise_signal(signal.SIGINT)
    if spec.declared:
        _run_declared(spec)
    elif spec.module is not None:
        _run_module(spec, spec.module)
    else:
        _run_script(spec)


def _import_ahead(preload: Sequence[str]) -> None:
    """Do the slow imports that every program needs, and those of this one, while the cluster starts."""
    import distributed  # noqa: F401

    for name in preload:
        with suppress(Exception):  # the program reports it when it imports the module itself
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


def _connect(spec: ProgramSpec) -> None:
    import joblib
    from distributed.versions import VersionMismatchWarning

    from skjob.engine.backend import SkjobBackend
    from skjob.engine.checkpoint.fit_cache import FitCache
    from skjob.engine.fidelity.forks import JoblibDefaults, run_in_children, separate_children
    from skjob.engine.fidelity.local_tasks import COUNTER, LocalTaskCounter
    from skjob.engine.reporting.call_events import RunEvents
    from skjob.run.events.file import EventsWriter
    from skjob.run.events.mlflow_runs import MlflowRuns
    from skjob.run.program.dask_programs import (
        RunClient,
        RunCluster,
        close_at_exit,
        dask_backend,
        leave_run_cluster,
        use_run_cluster,
    )
    from skjob.run.program.prepare import prepare_client
    from skjob.utils import dask_client
    from skjob.utils.reconnect import set_reconnect_timeout
    from skjob.utils.tls import TlsFiles

    plain = JoblibDefaults.now()
    security = TlsFiles.inside(Path(spec.folder)).security()
    # The parent has judged the versions; distributed would warn of every difference at every connection.
    warnings.simplefilter("ignore", VersionMismatchWarning)
    try:
        client = RunClient(spec.address, security=security, timeout=_CONNECT_TIMEOUT, set_as_default=True)
    except (OSError, TimeoutError) as error:
        raise StartError(f"the scheduler does not answer the program: {error}", "run it again") from error
    set_reconnect_timeout(client, spec.reconnect_timeout)
    dask_client.run_client = client
    close_at_exit(client)
    root = Path(spec.root)
    messages = MessageWriter(Path(spec.folder))
    notify = partial(messages.send, "note")
    use_run_cluster(RunCluster(spec.address, security, spec.workers, spec.wait_for_workers, notify))
    client.extensions[COUNTER] = LocalTaskCounter(partial(messages.send, "tasks"))
    packages = Path(spec.packages).read_bytes() if spec.packages is not None else None
    prepare_client(client, root, packages, spec.width, notify, spec.variables)
    fits = spec.checkpoint and FitCache(
        spec.checkpoint,
        spec.run,
        resume=spec.resume,
        notify=notify,
        report_counts=lambda counts: messages.send("fits", asdict(counts)),
    )
    mlflow_runs = MlflowRuns(EventsWriter(Path(spec.record)).report, partial(messages.send, "mlflow"))
    atexit.register(mlflow_runs.close)  # after what MLflow, imported later, does then
    arguments: dict[str, Any] = {
        "client": client,
        "width": spec.width,
        "root": root,
        "wait_for_workers": spec.wait_for_workers,
        "checkpoint": fits,
        "notify": notify,
        "notify_at_end": partial(messages.send, "last"),
        "report": RunEvents(mlflow_runs.report),
    }
    # The first is for this thread, whose choice also overrules an estimator's wish for threads; the second is for
    # threads that the script starts.
    joblib.parallel_config(backend=SkjobBackend(**arguments))
    joblib.register_parallel_backend("skjob", lambda **extra: SkjobBackend(**{**arguments, **extra}), make_default=True)
    joblib.register_parallel_backend("dask", dask_backend(arguments))
    run_in_children(leave_run_cluster)
    separate_children(plain)


def _run_script(spec: ProgramSpec) -> None:
    """Run the script as `python script.py` does. Its module stays `__main__` to the end, for `atexit` and threads."""
    path = str(Path(spec.path).absolute())
    sys.argv = [spec.path, *spec.arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    module = ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    from skjob.engine.fidelity.settings import snapshot

    snapshot.set_baseline()
    with _as_python_ends(spec):
        exec(code, module.__dict__)  # noqa: S102 - running the user's program is what this process is for


def _run_module(spec: ProgramSpec, name: str) -> None:
    """Run a module as `python -m name` does: its packages are imported first, with `-m` in the place of its file.

    A module that has gone since it was found, or that has no code, is reported in Python's words.
    """
    sys.argv = ["-m", *spec.arguments]
    sys.path.insert(0, spec.root)
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    with _as_python_ends(spec):
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations is not None:
            found = importlib.util.find_spec(f"{name}.__main__")
        find_code = getattr(found and found.loader, "get_code", None)
        code = find_code(found.name) if found is not None and find_code is not None else None
        if found is None or code is None:
            raise ImportError(f"No code object available for {name}")
        module.__spec__ = found
        module.__loader__ = found.loader
        module.__package__ = found.parent
        module.__file__ = found.origin
        module.__dict__["__cached__"] = found.cached
        sys.argv[0] = found.origin or name
        exec(code, module.__dict__)  # noqa: S102 - running the user's program is what this process is for


def _run_declared(spec: ProgramSpec) -> None:
    from skjob.jobfile.data.placement import Placement
    from skjob.jobfile.loader import read_job
    from skjob.jobfile.runner import run_declared

    path = Path(spec.path)
    placement = spec.placement and Placement(**spec.placement)
    notify = partial(MessageWriter(Path(spec.folder)).send, "note")
    rounds = f"{spec.checkpoint}/rounds" if spec.checkpoint else None
    with _as_python_ends(spec):
        run_declared(read_job(path), path.resolve().parent, placement or None, notify, rounds)


@contextmanager
def _as_python_ends(spec: ProgramSpec) -> Iterator[None]:
    """End this process as `python train.py` would end by what the program raises, and report the cause to the parent.

    What ends a forked child of the program does not end the run.
    """
    owner = os.getpid()

    def report(message: str) -> None:
        if os.getpid() == owner:
            MessageWriter(Path(spec.folder)).send("failure", message)

    try:
        yield
    except SystemExit:
        raise
    except SkjobError as error:
        report(error.message)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BaseException as error:
        words = str(error).strip()  # scikit-learn begins one with an empty line
        report(f"{type(error).__name__}: {words}" if words else type(error).__name__)
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


if __name__ == "__main__":
    main()
