"""Run XGBoost's tracker, by which a training's parts find each other, in a process of its own. Runs on the scheduler.

`xgboost.dask` runs it in the scheduler's process. There it aborts the scheduler, and the run with it, when a worker
dies while the others are still connecting: the tracker then sends to all of them, from threads that do not catch what a
closed connection throws (XGBoost 3.2, `RabitTracker::Bootstrap`). GONE WHEN
`test_xgboost_tracker_aborts_after_a_waiting_worker_dies` fails; then this module and
`tracker_process.py` go.

If the process cannot be started, the tracker runs in the scheduler's process, as XGBoost does it: only the defect above
makes that fail, and the scheduler's log has a line about it.
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

from skjob.boosters.scheduler_plugin import FINAL_STATES, as_training_part, meeting_of
from skjob.utils.import_hooks import when_imported

TRACKER_PLUGIN = "skjob-trackers"

PARAMETERS = ("n_workers", "addr_from_dask", "addr_from_user", "timeout")
"""Parameters of the function that starts a tracker; a function with others is not patched."""

PROGRAM = Path(__file__).with_name("tracker_process.py")

TRACKER_START_TIMEOUT = 20.0
"""Seconds; a busy machine took 0.13, of which 0.02 on a CPU."""

TRACKER_END_TIMEOUT = 5.0
"""Seconds for a tracker to inform the other parts, and to end by itself, after a part has ended."""

logger = logging.getLogger(__name__)


class TrackerStartError(RuntimeError):
    """A tracker did not start in a process of its own."""


class TrackerProcess:
    """A running tracker. `arguments` are what the workers are given to find it.

    Raises:
        TrackerStartError: it did not start, by its own fault or because of its arguments.
        OSError: its process did not start.
    """

    def __init__(self, library: str, workers: int, addresses: Sequence[tuple[str | None, int]], timeout: int) -> None:
        request = {"workers": workers, "addresses": addresses, "timeout": timeout}
        self._ended = False
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        # In a session of its own: Ctrl-C is for the program, which ends the tracker in time.
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), library],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, name=TRACKER_PLUGIN, daemon=True).start()
        try:
            self.arguments = self._request(json.dumps(request))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Kill the process."""
        self._ended = True
        self.process.kill()

    def _request(self, request: str) -> Mapping[str, Any]:
        assert self.process.stdin is not None  # noqa: S101 - a pipe
        try:
            self.process.stdin.write(f"{request}\n")
            self.process.stdin.flush()
            answer = self._answer.get(timeout=TRACKER_START_TIMEOUT)
            arguments: Mapping[str, Any] = json.loads(answer)
        except queue.Empty:
            raise TrackerStartError(f"it did not start within {TRACKER_START_TIMEOUT:.0f} s") from None
        except ValueError:
            raise TrackerStartError("it ended at once") from None
        return arguments

    def _listen(self) -> None:
        """Read the answer, wait for the end of the process, and log a crash."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101, PT018 - pipes
        self._answer.put(self.process.stdout.readline())
        self.process.wait()
        self.process.stdout.close()
        with suppress(BrokenPipeError):  # it has not read the request
            self.process.stdin.close()
        if self.process.returncode < 0 and not self._ended:
            name = signal.Signals(-self.process.returncode).name
            logger.warning("XGBoost's tracker ended with %s, and so did its training", name)


class TrackerPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Keeps the trackers of a scheduler, each for as long as there are parts that may need it."""

    name = TRACKER_PLUGIN
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self.running: dict[str, TrackerProcess] = {}
        """Trackers by the text that the parts of their training share."""

    async def start(self, scheduler: Any) -> None:
        """Patch `xgboost.dask` as soon as the scheduler imports it."""
        self._scheduler = scheduler
        when_imported("xgboost.dask", patch_tracker)

    async def start_tracker(self, request: Mapping[str, Any], library: str) -> Mapping[str, Any] | None:
        """Start a tracker. Return what the workers are given to find it; None if it cannot be started."""
        user, dask = request["addr_from_user"], request["addr_from_dask"]
        addresses = [(None, 0) if user is None else tuple(user), (dask, 0)]
        try:
            tracker = await asyncio.to_thread(
                TrackerProcess, library, request["n_workers"], addresses, request["timeout"] or 0
            )
        except (TrackerStartError, OSError) as error:
            logger.warning("XGBoost's tracker runs in the scheduler's process, as it cannot have its own: %s", error)
            return None
        self.running[meeting_of(tracker.arguments)] = tracker
        return tracker.arguments

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """End the tracker after the last part of its training."""
        if not self.running or finish not in FINAL_STATES:
            return
        part = as_training_part(self._scheduler.tasks[key])
        if part is not None and part.meeting in self.running:
            asyncio.get_running_loop().call_later(TRACKER_END_TIMEOUT, self._end_if_alone, part.meeting)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """End all trackers with the last client: the training of some may never have begun."""
        if not scheduler.clients.keys() - {"fire-and-forget"}:
            self._end_all()

    async def close(self) -> None:
        """End all trackers with the scheduler."""
        self._end_all()

    def _end_if_alone(self, meeting: str) -> None:
        parts = (as_training_part(task) for task in self._scheduler.tasks.values() if task.state not in FINAL_STATES)
        if not any(part is not None and part.meeting == meeting for part in parts):
            tracker = self.running.pop(meeting, None)
            if tracker is not None:
                tracker.end()

    def _end_all(self) -> None:
        while self.running:
            self.running.popitem()[1].end()


def patch_tracker(module: ModuleType) -> None:
    """Have `xgboost.dask` start its trackers in processes of their own, on schedulers that have `Trackers`."""
    original = getattr(module, "_start_tracker", None)
    if original is None or tuple(inspect.signature(original).parameters) != PARAMETERS:
        return

    async def start_tracker(*arguments: Any, dask_scheduler: Any = None, **keywords: Any) -> Any:
        trackers = dask_scheduler.plugins.get(TRACKER_PLUGIN) if dask_scheduler is not None else None
        if trackers is not None:
            import xgboost.core

            request = inspect.signature(original).bind(*arguments, **keywords).arguments
            tracker_arguments = await trackers.start_tracker(request, xgboost.core._LIB._name)
            if tracker_arguments is not None:
                return dict(tracker_arguments)
        return original(*arguments, **keywords)

    # A client sends the function by its name, and every scheduler has one of that name, also without skjob.
    start_tracker.__module__ = original.__module__
    start_tracker.__name__ = original.__name__
    start_tracker.__qualname__ = original.__qualname__
    start_tracker.__doc__ = original.__doc__
    module._start_tracker = start_tracker  # type: ignore[attr-defined]
