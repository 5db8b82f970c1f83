"""Runs on the scheduler: XGBoost's tracker, by which a training's parts find each other, gets a process of its own.

`xgboost.dask` runs it in the scheduler's process. There it takes the scheduler along, and the run with it, when a
worker dies while the others are still meeting: the tracker then sends to all of them, from threads of which none
catches what a closed connection throws (XGBoost 3.2, `RabitTracker::Bootstrap`). Gone when
`test_xgboosts_tracker_aborts_when_a_worker_has_died_that_waited_for_the_last_one` says so; then this module and
`tracker_process.py` go.

A process that can't be started leaves the training to XGBoost's own way, in the scheduler's process: it needs the
defect to go wrong, and is told in the scheduler's log.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from skjob.boosters.scheduler_plugin import OVER, meeting_of, part_of
from skjob.utils.import_hooks import when_imported

NAME = "skjob-trackers"

PARAMETERS = ("n_workers", "addr_from_dask", "addr_from_user", "timeout")
"""Of the function that starts a tracker, as it is known here; another one is left alone."""

PROGRAM = Path(__file__).with_name("tracker_process.py")

START_TIMEOUT = 20.0
"""Seconds; 0.13 were seen on a busy machine, 0.02 of them on a CPU."""

ENDS = 5.0
"""Seconds that a tracker gets to tell the other parts, and to end by itself, when a part is over."""

logger = logging.getLogger(__name__)


class NoTracker(RuntimeError):
    """A tracker has not started in a process of its own."""


class TrackerProcess:
    """A tracker that runs. `arguments` are what the workers are given to find it.

    Raises:
        NoTracker: it has not started, by its own fault or that of what it was given.
        OSError: the same, and no process at all.
    """

    def __init__(self, library: str, workers: int, addresses: Sequence[tuple[str | None, int]], timeout: int) -> None:
        asked = {"workers": workers, "addresses": addresses, "timeout": timeout}
        self._ended = False
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        # In a session of its own: Ctrl-C is for the program, which ends it in time.
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), library],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, name=NAME, daemon=True).start()
        try:
            self.arguments = self._ask(json.dumps(asked))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End it, whatever it does."""
        self._ended = True
        self.process.kill()

    def _ask(self, asked: str) -> Mapping[str, Any]:
        assert self.process.stdin is not None  # noqa: S101 - a pipe
        try:
            self.process.stdin.write(f"{asked}\n")
            self.process.stdin.flush()
            answer = self._answer.get(timeout=START_TIMEOUT)
            arguments: Mapping[str, Any] = json.loads(answer)
        except queue.Empty:
            raise NoTracker(f"it has not started within {START_TIMEOUT:.0f} s") from None
        except ValueError:
            raise NoTracker("it has ended at once") from None
        return arguments

    def _listen(self) -> None:
        """Until it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101, PT018 - pipes
        self._answer.put(self.process.stdout.readline())
        self.process.wait()
        self.process.stdout.close()
        with suppress(BrokenPipeError):  # a question that it has not read
            self.process.stdin.close()
        if self.process.returncode < 0 and not self._ended:
            name = signal.Signals(-self.process.returncode).name
            logger.warning("XGBoost's tracker has ended with %s, and its training with it", name)


class Trackers(SchedulerPlugin):  # type: ignore[misc]
    """The trackers of a scheduler, each as long as there are parts that may need it."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self.running: dict[str, TrackerProcess] = {}
        """By what the parts of its training are given."""

    async def start(self, scheduler: Any) -> None:
        """Called by the scheduler."""
        self._scheduler = scheduler
        when_imported("xgboost.dask", keep_apart)

    async def begin(self, asked: Mapping[str, Any], library: str) -> Mapping[str, Any] | None:
        """Start a tracker; what the workers are given to find it, or None where it can't be started."""
        user, dask = asked["addr_from_user"], asked["addr_from_dask"]
        addresses = [(None, 0) if user is None else tuple(user), (dask, 0)]
        try:
            tracker = await asyncio.to_thread(
                TrackerProcess, library, asked["n_workers"], addresses, asked["timeout"] or 0
            )
        except (NoTracker, OSError) as error:
            logger.warning("XGBoost's tracker gets no process of its own, and runs in the scheduler's: %s", error)
            return None
        self.running[meeting_of(tracker.arguments)] = tracker
        return tracker.arguments

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Called by the scheduler: the part that is over may have been the last."""
        if not self.running or finish not in OVER:
            return
        part = part_of(self._scheduler.tasks[key])
        if part is not None and part.meeting in self.running:
            asyncio.get_running_loop().call_later(ENDS, self._end_if_alone, part.meeting)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when a client has gone: there may be trackers whose training has never begun."""
        if not scheduler.clients.keys() - {"fire-and-forget"}:
            self._end_all()

    async def close(self) -> None:
        """Called by the scheduler as it ends."""
        self._end_all()

    def _end_if_alone(self, meeting: str) -> None:
        parts = (part_of(task) for task in self._scheduler.tasks.values() if task.state not in OVER)
        if not any(part is not None and part.meeting == meeting for part in parts):
            tracker = self.running.pop(meeting, None)
            if tracker is not None:
                tracker.end()

    def _end_all(self) -> None:
        while self.running:
            self.running.popitem()[1].end()


def keep_apart(module: ModuleType) -> None:
    """Have `xgboost.dask` start its trackers in processes of their own, on schedulers that have `Trackers`."""
    original = getattr(module, "_start_tracker", None)
    if original is None or tuple(inspect.signature(original).parameters) != PARAMETERS:
        return

    async def start_tracker(*arguments: Any, dask_scheduler: Any = None, **keywords: Any) -> Any:
        trackers = dask_scheduler.plugins.get(NAME) if dask_scheduler is not None else None
        if trackers is not None:
            import xgboost.core

            asked = inspect.signature(original).bind(*arguments, **keywords).arguments
            found = await trackers.begin(asked, xgboost.core._LIB._name)
            if found is not None:
                return dict(found)
        return original(*arguments, **keywords)

    # A client sends the function by its name, and each scheduler has its own of that name: one without skjob too.
    start_tracker.__module__ = original.__module__
    start_tracker.__name__ = original.__name__
    start_tracker.__qualname__ = original.__qualname__
    start_tracker.__doc__ = original.__doc__
    module._start_tracker = start_tracker  # type: ignore[attr-defined]
