"""The joblib backend: dispatches batches of calls to a Dask cluster and settles each one exactly once.

A sibling of joblib's own Dask backend, which reads its width once from the workers connected then, ships arguments
again and again, and hangs where a worker or an argument is lost (joblib 1.6.0; each is a test in
tests/integration/test_engine.py). What joblib calls, and when: `configure` and `start_call` as a Parallel call begins,
`submit` for each batch, from the caller's thread and later from the thread that runs the callbacks, `stop_call` at the
end, `abort_everything` when a batch has failed or the user has interrupted.

The outcome of each batch is fetched by the client's event loop, which may take any time. One thread settles: it waits
for outcomes and hands each to joblib. The same thread watches that there is a cluster left to wait for.
"""

from __future__ import annotations

import asyncio
import linecache
import math
import pickle
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, get_client
from distributed import Future as Remote
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from skjob.engine.data import CallData, dump_task, shared_data
from skjob.engine.task import Outcome, run_batch

MOST_TRIES = 3
"""How often a batch is sent again when the workers that held its data are lost."""

WATCH_SECONDS = 1.0

PAUSE = 0.1
"""Seconds between two looks, while waiting for a worker or for the connection."""

RECONNECT_SECONDS = 30.0
"""How long a connection to the scheduler that broke may take to come back."""

CONNECTION_LOST = "the connection to the scheduler is lost"

SEEN_LATELY = 5.0
"""Seconds for which a worker that was seen is believed to be there."""

Sent = TypeVar("Sent")


_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)')


class RemoteTraceback(Exception):
    """The traceback of a task, as text, shown as the cause of the task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def with_source(text: str) -> str:
    """A traceback from a worker, with the lines of those source files that only this machine has."""
    lines = text.splitlines(keepends=True)
    told = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        told.append(line)
        frame = _FRAME.match(line)
        if frame and not following.startswith("    "):
            source = linecache.getline(frame["file"], int(frame["line"])).strip()
            told += [f"    {source}\n"] * bool(source)
    return "".join(told)


class WorkersLost(RuntimeError):
    """A batch can't be finished: no worker, no scheduler, or every worker that took it died."""


@dataclass
class _Batch:
    """One submitted batch until it is settled."""

    label: str
    payload: bytes = b""
    held: dict[str, Any] = field(default_factory=dict)
    settled: Future[Outcome] = field(default_factory=Future)
    tries: int = 0
    key: str = ""
    remote: Any = None


class SkjobBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on the workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client to use; None takes the current one.
    width : int, default=None
        How many tasks the cluster will be able to run at once when it has all the workers that may come. None takes
        the threads of the workers connected at the beginning of each call.
    root : path, default=None
        The folder of the user's script. Modules from there travel with the tasks.
    wait_for_workers : float, default=300
        Seconds without any worker after which the call ends in an error.
    """

    supports_retrieve_callback = True
    supports_timeout = True
    default_n_jobs = -1
    # Batches pay off only where a call is short against the 2 to 5 ms that a task costs.
    MIN_IDEAL_BATCH_DURATION = 0.05
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(
        self,
        client: Client | None = None,
        width: int | None = None,
        root: Path | None = None,
        wait_for_workers: float = 300.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        try:
            self.client = client or get_client()
        except ValueError as error:
            raise ValueError(
                'the joblib backend "skjob" needs a Dask client: use `with skjob.cluster(): …`, or make one with '
                "`dask.distributed.Client(…)` first"
            ) from error
        self.width = width
        self.root = root.resolve() if root else None
        self.wait_for_workers = wait_for_workers
        self._own_parallel = False
        self._call: _Call | None = None
        self._measured = threading.local()

    def __reduce__(self) -> Any:
        return SequentialBackend, (1,)

    def get_nested_backend(self) -> Any:
        """Inside a task all of a worker's cores are taken, by this task and its siblings: nested calls run in it."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """1 stays 1; any other number means the cluster, as wide as it may become."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        connected = 0
        with suppress(OSError):  # a connection that is just coming back: the batches wait for it
            connected = sum(self.client.ncores().values())
        # joblib runs a width of 1 in the caller's own process, which is not what a cluster of one worker is for.
        return max(connected, self.width or 0, 2)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Called as a Parallel object is entered; returns its width.

        Each Parallel object gets a backend of its own: the one that `parallel_config` holds serves nested and
        concurrent calls, whose batches must not mix.
        """
        if not self._own_parallel:
            own = SkjobBackend(self.client, self.width, self.root, self.wait_for_workers)
            own.nesting_level = self.nesting_level
            own._own_parallel = True
            raise FallbackToBackend(own)
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        """Called as a Parallel call begins."""
        self.stop_call()
        self._call = _Call(self.client, self.root, self.wait_for_workers)

    def stop_call(self) -> None:
        """Called as a Parallel call ends, however it ends. What is submitted later still goes to it, and nowhere."""
        if self._call is not None:
            self._call.close()

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Outcome]:
        """Dispatch one batch. Never raises: what goes wrong is the outcome of this batch, which joblib hears of."""
        assert self._call is not None  # noqa: S101 - joblib submits after start_call only
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, settled: Future[Outcome]) -> Any:
        """The results of a batch, or the exception of the call in it that failed; what it printed is printed here."""
        outcome = settled.result()
        for stream, text in ((sys.stdout, outcome.stdout), (sys.stderr, outcome.stderr)):
            if text:
                stream.write(text)
                stream.flush()
        self._measured.seconds = outcome.seconds
        value = pickle.loads(outcome.content)  # noqa: S301 - from our own workers, over mutual TLS
        if outcome.ok:
            return value
        value.__cause__ = RemoteTraceback(with_source(outcome.traceback))
        raise value

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """joblib's duration counts waiting in line too; what decides the batch size is the time on the worker."""
        super().batch_completed(batch_size, getattr(self._measured, "seconds", duration))

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Called when a batch has failed or the user has interrupted: nothing dispatched is wanted any more.

        Nor what a callback is about to dispatch: there is no new call for it until joblib begins one.
        """
        if self._call is not None:
            self._call.cancel()

    def terminate(self) -> None:
        """Called as a Parallel object is left."""
        self.stop_call()
        self.reset_batch_stats()


class _Call:
    """The batches of one Parallel call, and the thread that settles them."""

    def __init__(self, client: Client, root: Path | None, wait_for_workers: float) -> None:
        self._client = client
        self._data: CallData = shared_data(client, wait_for_workers).begin_call(self._wait_for_a_worker)
        self._root = root
        self._wait_for_workers = wait_for_workers
        self._id = uuid4().hex[:12]
        self._numbers = count()
        self._lock = threading.Lock()
        self._outstanding: dict[int, _Batch] = {}
        self._outcomes: queue.SimpleQueue[tuple[int, Outcome | Exception] | None] = queue.SimpleQueue()
        self._closed = False
        self._worker_seen = -math.inf
        self._alone_since: float | None = None
        thread = threading.Thread(target=self._settle_all, name="skjob-settle", daemon=True)
        self._thread: threading.Thread | None = thread
        thread.start()

    def submit(self, func: Any, callback: Callable[[Any], None] | None) -> Future[Outcome]:
        batch = _Batch(_label(func))
        if callback is not None:
            batch.settled.add_done_callback(callback)
        with self._lock:
            if self._closed:
                return batch.settled
            number = next(self._numbers)
            self._outstanding[number] = batch
        try:
            self._wait_for_connection(batch)
            batch.payload = dump_task(func, partial(self._share, batch), self._root)
            self._send(number, batch)
        except Exception as error:
            self._fail(number, batch, _explained(error, batch.label))
        return batch.settled

    def close(self) -> None:
        """Stop the thread; batches that are still out belong to nobody and are cancelled."""
        self.cancel()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def cancel(self) -> None:
        """Take back everything that is out, and let nothing out. No callbacks: joblib has stopped listening."""
        with self._lock:
            self._closed = True
            batches = list(self._outstanding.values())
            self._outstanding.clear()
        # By its key where the future itself was lost: an interrupt can come while a batch is being sent.
        remote = [batch.remote or Remote(batch.key, self._client) for batch in batches if batch.key]
        try:
            if remote and self._client.status == "running":
                with suppress(Exception):  # the connection is breaking: a client that is gone wants nothing
                    self._client.cancel(remote, force=True)
        finally:
            for batch in batches:
                self._data.release(batch.held)
            self._data.end()
            self._outcomes.put(None)

    def _share(self, batch: _Batch, value: Any) -> str:
        return self._sending(batch, partial(self._data.share, value, batch.held))

    def _sending(self, batch: _Batch, send: Callable[[], Sent]) -> Sent:
        """Do what sends data, again if the connection breaks meanwhile."""
        for left in reversed(range(MOST_TRIES)):
            try:
                return send()
            except TimeoutError:
                break
            except OSError:
                if not left:
                    raise
                self._wait_for_connection(batch)
        raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")

    def _wait_for_a_worker(self) -> None:
        """Data can be sent to a worker only. A probe makes the demand that brings one where there is none yet."""
        if time.monotonic() - self._worker_seen < SEEN_LATELY or self._has_worker():
            return
        deadline = time.monotonic() + self._wait_for_workers
        probe = self._client.submit(int, key=f"skjob-probe-{uuid4().hex}", pure=False)
        while not self._has_worker():
            if self._closed or time.monotonic() > deadline:
                raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")
            time.sleep(PAUSE)
        probe.release()

    def _has_worker(self) -> bool:
        found = bool(self._client.scheduler_info(n_workers=0).get("n_workers"))
        if found:
            self._worker_seen = time.monotonic()
        return found

    def _send(self, number: int, batch: _Batch) -> None:
        if batch.tries >= MOST_TRIES:
            raise _lost(batch, f"its data was lost with workers, {MOST_TRIES} times")
        self._sending(batch, partial(self._data.restore, batch.held))
        with self._lock:  # so that `cancel` finds it either sent or not to be sent
            if number not in self._outstanding:
                self._data.release(batch.held)
                return
            batch.tries += 1
            batch.key = f"{batch.label}-{self._id}-{number}-{batch.tries}"
            batch.remote = self._client.submit(
                run_batch, batch.payload, self._data.futures(batch.held), key=batch.key, pure=False
            )
            asyncio.run_coroutine_threadsafe(self._fetch(number, batch.remote), self._client.loop.asyncio_loop)

    async def _fetch(self, number: int, remote: Any) -> None:
        """Wait for an outcome and get it; when its worker dies before that, wait for it to be computed again."""
        try:
            outcome = await self._client.gather(remote, asynchronous=True)
        except Exception as error:
            outcome = error
        if not self._closed:
            self._outcomes.put((number, outcome))

    def _settle_all(self) -> None:
        while not self._closed:
            try:
                self._settle_next()
            except BaseException as error:  # whatever it is, joblib must not wait for ever
                error.__cause__ = RemoteTraceback(traceback.format_exc())  # joblib strips it of its own
                self._fail_all(error)

    def _settle_next(self) -> None:
        try:
            settled = self._outcomes.get(timeout=WATCH_SECONDS)
        except queue.Empty:
            self._watch()
            return
        batch = self._outstanding.get(settled[0]) if settled else None
        if settled is None or batch is None:
            return
        number, outcome = settled
        if isinstance(outcome, Outcome):
            self._worker_seen, self._alone_since = time.monotonic(), None
            if self._take(number, batch):
                batch.settled.set_result(outcome)
        elif batch.remote.status == "error" or (batch.remote.status == "finished" and batch.tries >= MOST_TRIES):
            self._fail(number, batch, _explained(outcome, batch.label))
        else:
            self._again(number, batch)

    def _watch(self) -> None:
        """Called about every second while nothing is settled."""
        if self._client.status not in ("running", "connecting"):
            self._fail_all(CONNECTION_LOST)
        elif not self._outstanding or self._has_worker():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._wait_for_workers:
            self._fail_all(f"there has been no worker for {self._wait_for_workers:.0f} s")

    def _again(self, number: int, batch: _Batch) -> None:
        """Send a batch again that was cancelled or lost: the connection broke, or its data went with a worker."""
        try:
            self._wait_for_connection(batch)
            self._send(number, batch)
        except Exception as error:
            self._fail(number, batch, _explained(error, batch.label))

    def _wait_for_connection(self, batch: _Batch) -> None:
        """Wait a while if the client is just connecting again."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while self._client.status == "connecting" and time.monotonic() < deadline and not self._closed:
            time.sleep(PAUSE)
        if self._client.status != "running":
            raise _lost(batch, CONNECTION_LOST)

    def _take(self, number: int, batch: _Batch) -> bool:
        """Whether this batch is still to be settled; it is no longer, so that it is settled once."""
        with self._lock:
            taken = self._outstanding.pop(number, None) is not None
        self._data.release(batch.held)
        batch.remote = None
        return taken

    def _fail(self, number: int, batch: _Batch, error: BaseException) -> None:
        if self._take(number, batch):
            batch.settled.set_exception(error)

    def _fail_all(self, reason: str | BaseException) -> None:
        with self._lock:
            batches = dict(self._outstanding)
        for number, batch in batches.items():
            self._fail(number, batch, _lost(batch, reason) if isinstance(reason, str) else reason)


def _lost(batch: _Batch, reason: str) -> WorkersLost:
    return WorkersLost(f"`{batch.label}` can't be finished: {reason}")


def _label(func: Any) -> str:
    """What a batch is called on the dashboard and in errors: the function, and the estimator that it fits."""
    try:
        function, arguments, _ = func.items[0]
        inner = getattr(function, "function", function)  # scikit-learn wraps each function to carry its configuration
        name = getattr(inner, "__name__", type(inner).__name__)
        if arguments and hasattr(arguments[0], "get_params"):
            name = f"{name}-{type(arguments[0]).__name__}"
    except Exception:  # the user's own objects are asked
        name = "batch"
    return name.strip("_<>")


def _explained(error: BaseException, label: str) -> BaseException:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        died = error.allowed_failures + 1
        return WorkersLost(
            f"`{label}` ended {died} workers: it needs more memory than they have, or it crashes; "
            "give workers more with `--worker-memory`, or try this fit on its own"
        )
    return error
