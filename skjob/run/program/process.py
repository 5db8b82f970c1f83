"""The parent's hold on the process that runs the program.

The cluster's client side lives in the parent: whatever the program does to its own process (a crash, `os._exit`, the
out-of-memory killer) cannot stop the teardown. The child (`python -m skjob.run.program.child`) starts while the
cluster starts, imports what it needs, and waits for one line on a pipe with the scheduler's address. The same
pipe is its life line: when it closes, the parent is gone, and so is the cluster, and the child ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from skjob.config.hash_seed import hash_seed
from skjob.errors import StartError
from skjob.run.program.spec import INTERRUPT_GRACE, ProgramSpec
from skjob.run.signals import GroupSignalProbe


class ProgramProcess:
    """The parent's hold on the child process."""

    def __init__(self, preload: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> None:
        """Start the child, with these variables too; it imports `preload` and waits to learn what to run."""
        self._probe = GroupSignalProbe()
        read_end, self._life_line = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "skjob.run.program.child", str(read_end), *preload],
            pass_fds=[read_end],
            env={**os.environ, **hash_seed(os.environ), **(variables or {})},
        )
        os.close(read_end)

    def begin(self, spec: ProgramSpec) -> None:
        """Let the program run.

        Raises:
            StartError: its process is gone.
        """
        try:
            os.write(self._life_line, (json.dumps(asdict(spec)) + "\n").encode())
        except BrokenPipeError as error:
            raise StartError(
                f"the program's process ended before it began, with status {self.wait(1)}",
                "what it wrote above says why",
            ) from error

    def wait(self, seconds: float) -> int | None:
        """Return the exit status as a shell gives it, 128 + n after signal n; None while it runs."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return status if status >= 0 else 128 - status

    def stop(self, signal_number: int, hurried: Callable[[], bool] = lambda: False) -> int:
        """End the program by a signal, then, `INTERRUPT_GRACE` seconds later or at once if `hurried`, by SIGKILL.

        A signal that went to the whole process group has reached it already: a second one would cut its clean-up short.
        Return its exit status.
        """
        status = self.wait(0)
        if status is None and not self._probe.was_hit(signal_number):
            self._process.send_signal(signal_number)
        deadline = time.monotonic() + INTERRUPT_GRACE
        while status is None and time.monotonic() < deadline and not hurried():
            status = self.wait(0.05)
        if status is None:
            self._process.kill()
            status = self.wait(INTERRUPT_GRACE)
        return 128 + signal.SIGKILL if status is None else status

    def close(self) -> None:
        """Close the pipe, which ends a child that is still there."""
        if self._life_line >= 0:
            os.close(self._life_line)
            self._life_line = -1
        self.stop(signal.SIGTERM)
        self._probe.close()
