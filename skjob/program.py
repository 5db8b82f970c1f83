"""The child process that runs the user's program, and the parent's hold on it.

The cluster's client side lives in the parent: whatever the program does to its own process (a crash, `os._exit`, the
out-of-memory killer) can't stop the teardown. The child (`python -m skjob.program`) starts while the cluster starts,
imports what it needs, and waits for one line on a pipe that tells it where the scheduler is. The same pipe is its life
line: when it closes, the parent is gone, and so is the cluster, and the child ends.

To the program it looks like `python train.py`, or `python -m proj.train`: the same `__main__`, `sys.argv`,
`sys.path[0]`, working directory, standard streams and environment. What differs: joblib's backend is skjob's, and
`dask.distributed.Client.current()`, like `Client()` without an address, is the cluster (dask_programs.py). Processes
that it forks are plain Python's.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from skjob.as_module import module_command, relative_import
from skjob.errors import ConfigError, SkjobError, StartError
from skjob.mailbox import Writer
from skjob.signals import Bystander

CONNECT_TIMEOUT = 30
INTERRUPT_GRACE = 10.0
"""Seconds a program has to end after a signal before it is killed."""


@dataclass(frozen=True)
class Assignment:
    """What the child is told once the cluster is there. Certificates are files in `folder`.

    `module` is the name of a program that runs as a module, and `root` the folder whose modules belong to it. `width`
    is how many tasks can run at once when all workers are there, `workers` how many there always are.
    `packages` is a file with the distributions that workers can have from nowhere but here; `placement` is where the
    data of a declared job goes. `patience` is for how many seconds the scheduler may be away.
    """

    path: str
    module: str | None
    root: str
    arguments: tuple[str, ...]
    declared: bool
    folder: str
    address: str
    width: int
    workers: int
    wait_for_workers: float
    patience: float
    run: str
    checkpoint: str | None
    resume: bool
    packages: str | None
    placement: dict[str, Any] | None = None


def check_script(path: Path, module: str | None = None) -> None:
    """What can be known of a script before anything starts. `module` is its name if it runs as a module.

    Raises:
        ConfigError: it does not exist, can't be read, is not valid Python, or begins with what only a module can do;
            with the place.
    """
    if module is not None and path.suffix != ".py":
        return  # compiled, or in a zip file: Python reads it
    if not path.exists():
        raise ConfigError(f"there is no script `{path}`", "check the path; it is relative to the working directory")
    if path.is_dir():
        raise ConfigError(f"`{path}` is a folder", "name the script to run in it")
    # Python takes them: JSON is an expression that says nothing, up to its first `null`.
    if path.suffix == ".ipynb":
        hint = f"`jupyter nbconvert --to script {path}` makes a script of it, or use `skjob.cluster()` in it"
        raise ConfigError(f"`{path}` is a notebook", hint)
    if path.suffix in (".json", ".toml"):
        raise ConfigError(f"`{path}` is not a script", "a job file ends in `.yaml`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will show them
            source = path.read_bytes()
            compile(source, str(path), "exec", dont_inherit=True)
            found = relative_import(ast.parse(source)) if module is None else None
    except SyntaxError as error:
        # Without a place, or with one before the first column, where the file as a whole is the matter.
        place = ":".join([str(path), *(str(n) for n in (error.lineno, error.offset) if n is not None and n > 0)])
        raise ConfigError(
            f"`{place}` is not valid Python: {error.msg}", "mend the script; nothing was started"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"`{path}` can't be read as Python: {error}", "name a Python script or a job file") from error
    if found is not None:
        command = module_command(path, found.level, Path.cwd())
        hint = f"run it as a module of its package: {command}" if command else "import by the full name of the module"
        raise ConfigError(
            f"`{path}:{found.lineno}` is a relative import, which a script that is run by its path cannot do", hint
        )


class Program:
    """The parent's hold on the child process."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """Start the child; it imports `preload` and waits for its assignment."""
        self._bystander = Bystander()
        read_end, self._life_line = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skjob.program", str(read_end), *preload], pass_fds=[read_end]
        )
        os.close(read_end)

    def begin(self, assignment: Assignment) -> None:
        """Let the program run. Raises StartError where its process is gone."""
        try:
            os.write(self._life_line, (json.dumps(asdict(assignment)) + "\n").encode())
        except BrokenPipeError as error:
            raise StartError(
                f"the program's process ended before it began, with status {self.wait(1)}",
                "what it wrote above says why",
            ) from error

    def wait(self, seconds: float) -> int | None:
        """The exit status as a shell gives it, 128 + n after signal n, or None while it runs."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return status if status >= 0 else 128 - status

    def stop(self, signal_number: int, hurried: Callable[[], bool] = lambda: False) -> int:
        """End the program: the signal, then, `INTERRUPT_GRACE` seconds later or at once if `hurried`, SIGKILL.

        A signal that went to the whole process group has reached it already: a second one would cut its clean-up short.
        Returns its exit status.
        """
        status = self.wait(0)
        if status is None and not self._bystander.told(signal_number):
            self._process.send_signal(signal_number)
        deadline = time.monotonic() + INTERRUPT_GRACE
        while status is None and time.monotonic() < deadline and not hurried():
            status = self.wait(0.05)
        if status is None:
            self._process.kill()
            status = self.wait(INTERRUPT_GRACE)
        return 128 + signal.SIGKILL if status is None else status

    def close(self) -> None:
        """Cut the life line; a child that is still there ends."""
        if self._life_line >= 0:
            os.close(self._life_line)
            self._life_line = -1
        self.stop(signal.SIGTERM)
        self._bystander.close()


# ----------------------------------------------------------------------------------------------- in the child process


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
    assignment = Assignment(**{**told, "arguments": tuple(told["arguments"])})
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

    import skjob.dask_programs
    import skjob.engine.backend
    import skjob.engine.plugin  # noqa: F401

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


def _connect(assignment: Assignment) -> None:
    import joblib
    from distributed.versions import VersionMismatchWarning

    from skjob import inside
    from skjob.cluster.certificates import TlsFiles
    from skjob.dask_programs import (
        RunClient,
        RunCluster,
        close_at_exit,
        dask_backend,
        leave_run_cluster,
        use_run_cluster,
    )
    from skjob.engine.backend import DONE_HERE, SkjobBackend
    from skjob.engine.fidelity.done_here import DoneHere
    from skjob.engine.fidelity.forks import JoblibDefaults, in_children, separate_children
    from skjob.engine.finished import FinishedFits
    from skjob.equipped import equip
    from skjob.reconnecting import be_patient

    plain = JoblibDefaults.now()
    security = TlsFiles.inside(Path(assignment.folder)).security()
    # The parent has judged the versions; distributed would warn of every difference at every connection.
    warnings.simplefilter("ignore", VersionMismatchWarning)
    try:
        client = RunClient(assignment.address, security=security, timeout=CONNECT_TIMEOUT, set_as_default=True)
    except (OSError, TimeoutError) as error:
        raise StartError(f"the scheduler does not answer the program: {error}", "run it again") from error
    be_patient(client, assignment.patience)
    inside.run_client = client
    close_at_exit(client)
    root = Path(assignment.root)
    box = Writer(Path(assignment.folder))
    use_run_cluster(
        RunCluster(
            assignment.address, security, assignment.workers, assignment.wait_for_workers, partial(box.send, "note")
        )
    )
    client.extensions[DONE_HERE] = DoneHere(partial(box.send, "tasks"))
    packages = Path(assignment.packages).read_bytes() if assignment.packages is not None else None
    equip(client, root, packages, assignment.width, partial(box.send, "note"))
    fits = assignment.checkpoint and FinishedFits(
        assignment.checkpoint,
        assignment.run,
        resume=assignment.resume,
        tell=partial(box.send, "note"),
        counted=lambda tally: box.send("fits", asdict(tally)),
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
    in_children(leave_run_cluster)
    separate_children(plain)


def _run_script(assignment: Assignment) -> None:
    """As `python script.py` does it. The module stays `__main__` to the very end, for `atexit` and threads."""
    path = str(Path(assignment.path).absolute())
    sys.argv = [assignment.path, *assignment.arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    module = ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    from skjob.engine.fidelity import settings

    settings.begin()
    with _as_python_ends(assignment):
        exec(code, module.__dict__)  # noqa: S102 - running the user's program is what this process is for


def _run_module(assignment: Assignment, name: str) -> None:
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


def _run_declared(assignment: Assignment) -> None:
    from skjob.data.placement import Placement
    from skjob.declared import run_declared
    from skjob.jobfile import read_job

    path = Path(assignment.path)
    placement = assignment.placement and Placement(**assignment.placement)
    tell = partial(Writer(Path(assignment.folder)).send, "note")
    rounds = f"{assignment.checkpoint}/rounds" if assignment.checkpoint else None
    with _as_python_ends(assignment):
        run_declared(read_job(path), path.resolve().parent, placement or None, tell, rounds)


@contextmanager
def _as_python_ends(assignment: Assignment) -> Iterator[None]:
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


def _tell(assignment: Assignment, message: str) -> None:
    Writer(Path(assignment.folder)).send("failure", message)


if __name__ == "__main__":
    main()
