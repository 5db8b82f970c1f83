"""The joblib backend: dispatches batches of calls to a Dask cluster and settles each one exactly once.

A sibling of joblib's own Dask backend, which reads its width once from the workers connected then, ships arguments
again and again, and hangs where a worker or an argument is lost (joblib 1.6.0; each is a test in
tests/integration/test_engine.py). What joblib calls, and when: `configure` and `start_call` as a Parallel call begins,
`submit` for each batch, from the caller's thread and later from the thread that runs the callbacks, `stop_call` at the
end, `abort_everything` when a batch has failed or the user has interrupted.

One thread settles: it waits until any of the outstanding futures is done, gathers all that are done in one request, and
hands each outcome to joblib. The same thread watches that there is a cluster left to wait for.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from distributed import Client, get_client
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from skjob.engine.data import SharedData, dump_task
from skjob.engine.task import Outcome, run_batch

MOST_TRIES = 3
"""How often a batch is sent again when the workers that held its data are lost."""

WATCH_SECONDS = 1.0

RECONNECT_SECONDS = 30.0
"""How long a connection to the scheduler that broke may take to come back."""

_shared: WeakKeyDictionary[Client, SharedData] = WeakKeyDictionary()
_shared_lock = threading.Lock()


class RemoteTraceback(Exception):
    """The traceback of a task, as text, shown as the cause of the task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class WorkersLost(RuntimeError):
    """A batch can't be finished: no worker, no scheduler, or every worker that took it died."""


@dataclass
class _Batch:
    """One submitted batch until it is settled."""

    label: str
    payload: bytes
    keys: set[str]
    settled: Future[Outcome] = field(default_factory=Future)
    tries: int = 0
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
        connected: int = sum(self.client.ncores().values())
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
        with _shared_lock:
            if self.client not in _shared:
                _shared[self.client] = SharedData(self.client, self.wait_for_workers)
            shared = _shared[self.client]
        self._call = _Call(self.client, shared, self.root, self.wait_for_workers)

    def stop_call(self) -> None:
        """Called as a Parallel call ends, however it ends."""
        if self._call is not None:
            self._call.close()
            self._call = None

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Outcome]:
        """Dispatch one batch. Never raises: what goes wrong is the outcome of this batch, which joblib hears of."""
        assert self._call is not None  # noqa: S101 - joblib submits between start_call and stop_call only
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, settled: Future[Outcome]) -> Any:
        """The results of a batch, or the exception of the call in it that failed."""
        outcome = settled.result()
        self._measured.seconds = outcome.seconds
        value = pickle.loads(outcome.content)  # noqa: S301 - from our own workers, over mutual TLS
        if outcome.ok:
            return value
        value.__cause__ = RemoteTraceback(outcome.traceback)
        raise value

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """joblib's duration counts waiting in line too; what decides the batch size is the time on the worker."""
        super().batch_completed(batch_size, getattr(self._measured, "seconds", duration))

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Called when a batch has failed or the user has interrupted: nothing dispatched is wanted any more."""
        if self._call is not None:
            self._call.cancel()
            if ensure_ready:
                self.start_call()

    def terminate(self) -> None:
        """Called as a Parallel object is left."""
        self.stop_call()
        self.reset_batch_stats()


class _Call:
    """The batches of one Parallel call, and the thread that settles them."""

    def __init__(self, client: Client, shared: SharedData, root: Path | None, wait_for_workers: float) -> None:
        self._client = client
        self._shared = shared.begin_call()
        self._root = root
        self._wait_for_workers = wait_for_workers
        self._id = uuid4().hex[:12]
        self._numbers = count()
        self._lock = threading.Lock()
        self._outstanding: dict[int, _Batch] = {}
        self._done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._settle_all, name="skjob-settle", daemon=True)
        self._thread.start()

    def submit(self, func: Any, callback: Callable[[Any], None] | None) -> Future[Outcome]:
        keys: set[str] = set()
        batch = _Batch(_label(func), b"", keys)
        if callback is not None:
            batch.settled.add_done_callback(callback)
        number = next(self._numbers)
        try:
            self._wait_for_a_worker()
            batch.payload = dump_task(func, partial(self._share, keys), self._root)
            with self._lock:
                self._outstanding[number] = batch
            self._send(number, batch)
        except Exception as error:
            self._fail(number, batch, _explained(error, batch.label))
        return batch.settled

    def close(self) -> None:
        """Stop the thread; batches that are still out belong to nobody and are cancelled."""
        self.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def cancel(self) -> None:
        """Take back everything that is out. Their callbacks are not called: joblib has stopped listening."""
        with self._lock:
            self._closed = True
            remote = [batch.remote for batch in self._outstanding.values() if batch.remote is not None]
            self._outstanding.clear()
        if remote and self._client.status == "running":
            self._client.cancel(remote, force=True)
        self._shared.end()
        self._done.put(None)

    def _share(self, keys: set[str], value: Any) -> str:
        key = self._shared.share(value)
        keys.add(key)
        return key

    def _wait_for_a_worker(self) -> None:
        """Data can be sent to a worker only. A probe makes the demand that brings one where there is none yet."""
        if self._client.ncores():
            return
        probe = self._client.submit(int, key=f"skjob-probe-{uuid4().hex}", pure=False)
        try:
            probe.result(timeout=self._wait_for_workers)
        except TimeoutError:
            raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s") from None

    def _send(self, number: int, batch: _Batch) -> None:
        batch.tries += 1
        batch.remote = self._client.submit(
            run_batch,
            batch.payload,
            self._shared.futures(batch.keys),
            key=f"{batch.label}-{self._id}-{number}-{batch.tries}",
            pure=False,
        )
        batch.remote.add_done_callback(lambda _: self._done.put(number))

    def _settle_all(self) -> None:
        last_worker_seen = time.monotonic()
        while not self._closed:
            numbers = self._wait_for_done()
            if numbers:
                self._settle(numbers)
                last_worker_seen = time.monotonic()
            elif not self._outstanding or self._client.scheduler_info(n_workers=1)["workers"]:
                last_worker_seen = time.monotonic()
            elif time.monotonic() - last_worker_seen > self._wait_for_workers:
                self._fail_all(f"there has been no worker for {self._wait_for_workers:.0f} s")
            if self._client.status not in ("running", "connecting"):
                self._fail_all("the connection to the scheduler is lost")

    def _wait_for_done(self) -> list[int]:
        """The batches that are done by now, once at least one is, or none after a second."""
        numbers = []
        try:
            numbers.append(self._done.get(timeout=WATCH_SECONDS))
            while True:
                numbers.append(self._done.get_nowait())
        except queue.Empty:
            return [number for number in numbers if number is not None]

    def _settle(self, numbers: list[int]) -> None:
        with self._lock:
            batches = {number: self._outstanding[number] for number in numbers if number in self._outstanding}
        finished = {number: batch for number, batch in batches.items() if batch.remote.status == "finished"}
        try:
            outcomes = self._client.gather([batch.remote for batch in finished.values()])
        except Exception:
            outcomes = [self._gathered_alone(batch) for batch in finished.values()]
        for (number, batch), outcome in zip(finished.items(), outcomes, strict=True):
            if isinstance(outcome, Outcome):
                self._finish(number, batch, outcome)
            else:
                self._again(number, batch, outcome)
        for number, batch in batches.items():
            if number not in finished:
                self._unfinished(number, batch)

    def _gathered_alone(self, batch: _Batch) -> Outcome | BaseException:
        try:
            outcome: Outcome = batch.remote.result(timeout=self._wait_for_workers)
        except Exception as error:
            return error
        return outcome

    def _unfinished(self, number: int, batch: _Batch) -> None:
        if batch.remote.status == "error":
            self._fail(number, batch, _explained(batch.remote.exception(), batch.label))
        else:  # cancelled or lost: data that it needs went away with its worker
            lost = f"`{batch.label}` can't be finished: its data was lost with workers, {MOST_TRIES} times"
            self._again(number, batch, WorkersLost(lost))

    def _again(self, number: int, batch: _Batch, cause: BaseException) -> None:
        if not self._reconnected():
            cause = WorkersLost(f"`{batch.label}` can't be finished: the connection to the scheduler is lost")
            self._fail(number, batch, cause)
            return
        if batch.tries >= MOST_TRIES:
            self._fail(number, batch, _explained(cause, batch.label))
            return
        try:
            self._wait_for_a_worker()
            self._shared.restore(batch.keys)
            self._send(number, batch)
        except Exception as error:
            self._fail(number, batch, _explained(error, batch.label))

    def _reconnected(self) -> bool:
        """Whether the client is connected, after a while if it is just connecting again."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while self._client.status == "connecting" and time.monotonic() < deadline and not self._closed:
            time.sleep(0.1)
        return bool(self._client.status == "running")

    def _finish(self, number: int, batch: _Batch, outcome: Outcome) -> None:
        with self._lock:
            self._outstanding.pop(number, None)
            closed = self._closed
        batch.remote = None
        if not closed:
            batch.settled.set_result(outcome)

    def _fail(self, number: int, batch: _Batch, error: BaseException) -> None:
        with self._lock:
            self._outstanding.pop(number, None)
            closed = self._closed
        if not closed:
            batch.settled.set_exception(error)

    def _fail_all(self, reason: str) -> None:
        with self._lock:
            batches = dict(self._outstanding)
        for number, batch in batches.items():
            self._fail(number, batch, WorkersLost(f"`{batch.label}` can't be finished: {reason}"))


def _label(func: Any) -> str:
    """What a batch is called on the dashboard and in errors: the function, and the estimator that it fits."""
    try:
        function, arguments, _ = func.items[0]
        inner = getattr(function, "function", function)  # scikit-learn wraps each function to carry its configuration
        name = getattr(inner, "__name__", type(inner).__name__)
        if arguments and hasattr(arguments[0], "get_params"):
            name = f"{name}-{type(arguments[0]).__name__}"
    except (AttributeError, IndexError, TypeError, ValueError):
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
