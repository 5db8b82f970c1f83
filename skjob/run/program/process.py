"""What can be known of a program before it runs, and the parent's hold on the process that runs it.

The cluster's client side lives in the parent: whatever the program does to its own process (a crash, `os._exit`, the
out-of-memory killer) can't stop the teardown. The child (`python -m skjob.run.program.child`) starts while the
cluster starts, imports what it needs, and waits for one line on a pipe that tells it where the scheduler is. The same
pipe is its life line: when it closes, the parent is gone, and so is the cluster, and the child ends.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from skjob.errors import ConfigError, StartError
from skjob.run.program.spec import INTERRUPT_GRACE, ProgramSpec
from skjob.run.signals import GroupSignalProbe
from skjob.utils.run_module import module_command, relative_import


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
            f"`{place}` is not valid Python: {error.msg}", "fix the script; nothing was started"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"`{path}` can't be read as Python: {error}", "name a Python script or a job file") from error
    if found is not None:
        command = module_command(path, found.level, Path.cwd())
        hint = f"run it as a module of its package: {command}" if command else "import by the full name of the module"
        raise ConfigError(
            f"`{path}:{found.lineno}` is a relative import, which a script that is run by its path cannot do", hint
        )


class ProgramProcess:
    """The parent's hold on the child process."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """Start the child; it imports `preload` and waits for its assignment."""
        self._bystander = GroupSignalProbe()
        read_end, self._life_line = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skjob.run.program.child", str(read_end), *preload], pass_fds=[read_end]
        )
        os.close(read_end)

    def begin(self, assignment: ProgramSpec) -> None:
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
