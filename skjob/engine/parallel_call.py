"""One Parallel call: its batches go out as Dask tasks, and each is settled exactly once, whatever happens.

The outcome of each task is fetched by the client's event loop, which may take any time. One thread settles: it waits
for outcomes and hands each batch that is complete to joblib. The same thread watches that there is a cluster left to
wait for.

A task that is lost goes out again: with a connection or a scheduler that broke, with the data or the worker it needed.
Dask itself runs a task again whose worker died, and gives up after some deaths; but it counts a death against all that
the worker had, and the one that killed it may have been another. So those it gives up are tried once more, each alone
when nothing else is out: what then ends its workers has done so itself. With scikit-learn's `error_score` it becomes a
failed fit, as any fit that raises does; else the call ends in its error.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from dask.task_spec import Task, TaskRef
from distributed import Client, KilledWorker
from distributed import Future as Remote

from skjob.engine.cancellation import stop_tasks
from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.checkpoint.fit_key import FitIdentity
from skjob.engine.failed_fits import failed_fit
from skjob.engine.fidelity.effects.returned import ArgumentPlace, arguments_of, held_arguments
from skjob.engine.fidelity.effects.unpicklable import why_unpicklable
from skjob.engine.fidelity.job_counts import InnerBackend
from skjob.engine.fidelity.replay import TakenBack
from skjob.engine.fidelity.settings.snapshot import CallSettings, Packed
from skjob.engine.fidelity.small_calls import Measured, SmallCalls
from skjob.engine.joblib_calls import JoblibCall as JoblibCall
from skjob.engine.joblib_calls import calls_of, describe, fit_arguments, label
from skjob.engine.memory import WorkerMemory, needed
from skjob.engine.priorities import DurationModel, WorkEstimate, priority, work_of
from skjob.engine.remote_traceback import RemoteTraceback
from skjob.engine.task import Outcome, run_batch
from skjob.engine.threads import WholeWorkers
from skjob.engine.transfer.import_path import send_new_code
from skjob.engine.transfer.shared_data import CallData, shared_data
from skjob.engine.transfer.worker_plugins import check_workers, register_again
from skjob.utils.dask_client import CONNECTION_LOST, wait_result
from skjob.utils.reconnect import abandon_reason

MOST_TRIES = 3
"""How often a task is sent again when the workers that held its data are lost."""

WATCH_SECONDS = 1.0

PAUSE = 0.1
"""Seconds between two looks, while waiting for a worker or for the connection."""

RECONNECT_SECONDS = 30.0
"""How long a connection to the scheduler that broke may take to come back."""

TELL_SECONDS = 3.0
"""How long the end of a call waits until workers have heard of it."""

STUCK_SECONDS = 10.0
"""Seconds between two looks whether any worker still takes tasks, while none has finished one."""

SEEN_LATELY = 5.0
"""Seconds for which a worker that was seen is believed to be there."""

MEMORY_EVENTS = "worker-restart-memory"
"""Where Dask's nannies tell of workers that they ended for their memory."""

Sent = TypeVar("Sent")


class WorkersLost(RuntimeError):
    """A call can't be finished: no worker, no scheduler, or every worker that took it died."""


@dataclass(frozen=True)
class Known:
    """The result of a call that was had without running it now: a fit that was finished before, or one that failed."""

    value: Any


class Settled(Future[list[Outcome | Known]]):
    """What becomes of a batch; `start` is the place of its first task in the call, `calls` are its tasks."""

    start = 0
    calls: Sequence[JoblibCall] = ()


@dataclass
class _Batch:
    """What joblib has submitted, until it is settled: its calls, and what has become of each."""

    calls: list[Any]
    results: list[Outcome | Known | None]
    identities: list[FitIdentity | None]
    works: list[WorkEstimate | None]
    start: int
    settled: Settled = field(default_factory=lambda: Settled())
    failed: bool = False

    @property
    def complete(self) -> bool:
        return None not in self.results


@dataclass
class _Piece:
    """The calls of a batch that are out as one task: mostly all of them, and each alone where one is a suspect."""

    batch: _Batch
    places: list[int]
    alone: bool = False
    payload: bytes = b""
    settings: Packed | None = None
    held: dict[str, Any] = field(default_factory=dict)
    shared: list[tuple[ArgumentPlace, ...]] | None = None
    """Of each call the arguments that the program has too; None if plain Python shares none of them."""
    priority: float = 0.0
    tries: int = 0
    sent: float = 0.0
    key: str = ""
    remote: Any = None

    @property
    def calls(self) -> list[Any]:
        return [self.batch.calls[place] for place in self.places]

    @property
    def name(self) -> str:
        return describe(self.batch.calls[self.places[0] if self.places else 0])


class ParallelCall:
    """The batches of one Parallel call, and the thread that settles them.

    Parameters
    ----------
    client : distributed.Client
    nested : joblib backend
        What Parallel calls inside the tasks use.
    root : path or None
        The folder of the user's script.
    wait_for_workers : float
        Seconds without any worker after which everything fails.
    look_ahead : int
        How many tasks are out at a time; the longest of them go first.
    fits : FinishedFits or None
        Where finished fits are looked up and kept.
    of_program : bool
        Whether the program itself makes the call, and no library for it.
    shares_memory : bool
        Whether plain Python runs the tasks in the program's process: then a failure counts once all tasks before it
        have come to an end.
    """

    def __init__(
        self,
        client: Client,
        nested: Any,
        root: Path | None,
        wait_for_workers: float,
        look_ahead: int,
        fits: FitCache | None = None,
        *,
        shares_memory: bool = False,
        of_program: bool = False,
    ) -> None:
        self._client = client
        self._shares_memory = shares_memory
        self._of_program = of_program
        self._submitted = 0
        self._in_order: deque[_Batch] = deque()
        self._nested = nested
        self._data: CallData = shared_data(client, wait_for_workers).begin_call(self._wait_for_a_worker)
        self._root = root
        self._wait_for_workers = wait_for_workers
        self._look_ahead = max(1, look_ahead)
        self._settings = CallSettings(root)
        in_key = self._settings.taken.in_key()
        jobs = nested.in_key if isinstance(nested, InnerBackend) else ()
        self._fits = fits.begin_call(root, self._data.key, in_key, jobs) if fits is not None else None
        self._id = uuid4().hex[:12]
        self._numbers = count()
        self._lock = threading.Lock()
        self._out: dict[int, _Piece] = {}
        self._suspects: deque[_Piece] = deque()
        self._outcomes: queue.SimpleQueue[tuple[int, list[Outcome | Known] | Exception] | None] = queue.SimpleQueue()
        self._lengths = DurationModel()
        self._memory = WorkerMemory(client)
        self._whole = WholeWorkers(client)
        self._closed = False
        self._prepared = False
        self.seconds = 0.0
        """The time that the tasks have taken on workers, all together; NaN if some did not have to run."""
        self._effects = False
        self.small_calls = small_calls(client)
        self._worker_seen = -math.inf
        self._alone_since: float | None = None
        self._looked = time.monotonic()
        self._works = True
        thread = threading.Thread(target=self._settle_all, name="skjob-settle", daemon=True)
        self._thread: threading.Thread | None = thread
        thread.start()

    # -------------------------------------------------------------------------------------------- what joblib asks for

    def submit(self, func: Any, callback: Callable[[Any], None] | None) -> Settled:
        """Send one batch. Never raises: what goes wrong is the outcome of this batch."""
        calls = calls_of(func)
        batch = _Batch(
            calls, [None] * len(calls), [None] * len(calls), [_work(call) for call in calls], self._submitted
        )
        batch.settled.start, batch.settled.calls = batch.start, calls
        self._submitted += len(calls)
        if self._shares_memory:
            self._in_order.append(batch)
        if callback is not None:
            batch.settled.add_done_callback(callback)
        self._look_up(batch)
        piece = _Piece(batch, [place for place, result in enumerate(batch.results) if result is None])
        with self._lock:
            if self._closed:
                return batch.settled
            number = next(self._numbers)
            self._out[number] = piece
        if not piece.places:
            self._outcomes.put((number, []))  # by the settling thread: joblib submits the next in its callback
        else:
            piece.priority = priority(number, self._look_ahead, self._expected(piece))
            self._send_new(number, piece)
        return batch.settled

    @property
    def measured(self) -> Measured | None:
        """What the call has taken on workers; None if not all of it ran there, or it did more than return results."""
        whole = math.isfinite(self.seconds) and not self._effects
        return Measured(self._submitted, self.seconds) if whole else None

    def close(self) -> None:
        """Stop the thread; tasks that are still out belong to nobody and are ended."""
        self.cancel()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
        if self._fits is not None:
            self._fits.end()

    def cancel(self) -> None:
        """Take back everything that is out, end what runs, and let nothing out. No callbacks: joblib has stopped
        listening."""
        with self._lock:
            self._closed = True
            pieces = [*self._out.values(), *self._suspects]
            self._out.clear()
            self._suspects.clear()
        # By its key where the future itself was lost: an interrupt can come while a task is being sent.
        remote = [piece.remote or Remote(piece.key, self._client) for piece in pieces if piece.key]
        try:
            if remote and self._client.status == "running":
                self._tell_workers(self._client.cancel(remote, force=True, asynchronous=True))
                stop = self._client.run(stop_tasks, self._id, wait=False, on_error="ignore", asynchronous=True)
                self._tell_workers(stop)
        finally:
            for piece in pieces:
                self._data.release(piece.held)
            self._data.end()
            self._outcomes.put(None)

    def _tell_workers(self, telling: Any) -> None:
        """Have the event loop do it, and wait a little: one that does not answer must not hold up the others."""
        with suppress(Exception):  # the connection may be breaking: a client that is gone wants nothing
            wait_result(self._client, telling, TELL_SECONDS)

    # -------------------------------------------------------------------------------------------- sending

    def _look_up(self, batch: _Batch) -> None:
        """Fits that were finished before need not be sent."""
        if self._fits is None:
            return
        for place, call in enumerate(batch.calls):
            identity = batch.identities[place] = self._fits.identify(call)
            found = None if identity is None else self._fits.find(identity, call)
            if found is not None:
                batch.results[place] = Known(found)

    def _expected(self, piece: _Piece) -> float | None:
        works = [work for place in piece.places if (work := piece.batch.works[place]) is not None]
        return sum(self._lengths.expected(work) for work in works) if works else None

    def _send_new(self, number: int, piece: _Piece) -> None:
        try:
            self._wait_for_connection()
            self._prepare()
            send_new_code(self._client)
            expected = self._fits.versions() if self._fits is not None else {}
            if self._shares_memory:
                piece.shared = [held_arguments(call) if self._of_program else () for call in piece.calls]
            piece.payload = self._sending(partial(self._dump, piece, expected))
            self._send(number, piece)
        except Exception as error:
            self._fail(number, self._named(error, piece))
        if number not in self._out:  # cancelled meanwhile, when it did not hold all of this yet
            self._data.release(piece.held)

    def _dump(self, piece: _Piece, expected: Mapping[str, str]) -> bytes:
        try:
            piece.settings = self._settings.packed(piece.calls)
            return self._data.dump(piece.calls, self._nested, piece.held, self._root, expected)
        except (OSError, WorkersLost):
            raise
        except Exception as error:  # whatever the program's own objects raise
            raise TakenBack(
                f"it cannot be sent to workers: {why_unpicklable(piece.calls, error, self._root)}"
            ) from error

    def _prepare(self) -> None:
        """Before the first task of a call: workers must know skjob, and what a client of theirs has registered."""
        if self._prepared:
            return
        register_again(self._client)
        check_workers(self._client)
        self._prepared = True

    def _sending(self, send: Callable[[], Sent]) -> Sent:
        """Do what sends data, again if the connection breaks meanwhile."""
        for left in reversed(range(MOST_TRIES)):
            try:
                return send()
            except TimeoutError:
                break
            except OSError:
                if not left:
                    raise
                self._wait_for_connection()
        raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")

    def _wait_for_a_worker(self) -> None:
        """Data can be sent to a worker only. A probe makes the demand that brings one where there is none yet."""
        if time.monotonic() - self._worker_seen < SEEN_LATELY or self._has_worker():
            return
        deadline = time.monotonic() + self._wait_for_workers
        probe = self._client.submit(int, key=f"skjob-probe-{uuid4().hex}", pure=False)
        while not self._has_worker():
            self._wait_for_connection()
            if self._closed or time.monotonic() > deadline:
                raise WorkersLost(f"no worker came within {self._wait_for_workers:.0f} s")
            time.sleep(PAUSE)
        probe.release()

    def _has_worker(self) -> bool:
        found = bool(self._client.scheduler_info(n_workers=0).get("n_workers"))
        if found:
            self._worker_seen = time.monotonic()
        return found

    def _send(self, number: int, piece: _Piece) -> None:
        if piece.tries >= MOST_TRIES:
            raise WorkersLost(f"its data was lost with workers, {MOST_TRIES} times")
        self._sending(partial(self._data.restore, piece.held))
        memory = self._memory.reserved(needed(piece.calls, piece.held.values()))
        whole = self._whole.reserved(piece.calls)
        with self._lock:  # so that `cancel` finds it either sent or not to be sent
            if number not in self._out:
                self._data.release(piece.held)
                return
            piece.tries += 1
            piece.sent = time.perf_counter()
            piece.key = f"{label(piece.calls)}-{self._id}-{number}-{piece.tries}"
            names, futures = [*piece.held], self._data.futures(piece.held)
            task = Task(
                piece.key,
                run_batch,
                piece.key,
                piece.payload,
                names,
                *(TaskRef(futures[name].key) for name in names),
                # So that it waits at the scheduler for a free thread, whichever worker's. Else, where there are few
                # tasks, Dask sends them all to the worker that has the data, and others stand idle.
                _data_producer=True,
                whole=whole is not None,
                held=piece.shared,
                settings=piece.settings,
            )
            piece.remote = self._client.get(
                {piece.key: task},
                piece.key,
                sync=False,
                priority=piece.priority,
                resources={**(memory or {}), **(whole or {})} or None,
            )
            asyncio.run_coroutine_threadsafe(self._fetch(number, piece.remote), self._client.loop.asyncio_loop)

    async def _fetch(self, number: int, remote: Any) -> None:
        """Wait for an outcome and get it; when its worker dies before that, wait for it to be computed again."""
        try:
            outcome = await self._client.gather(remote, asynchronous=True)
        except Exception as error:
            outcome = error
        if not self._closed:
            self._outcomes.put((number, outcome))

    def _wait_for_connection(self) -> None:
        """Wait a while if the client is just connecting again."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while self._client.status == "connecting" and time.monotonic() < deadline and not self._closed:
            time.sleep(PAUSE)
        if self._client.status != "running":
            raise WorkersLost(CONNECTION_LOST)

    # -------------------------------------------------------------------------------------------- settling

    def _settle_all(self) -> None:
        while not self._closed:
            try:
                self._settle_next()
            except BaseException as error:  # whatever it is, joblib must not wait for ever
                error.__cause__ = RemoteTraceback(traceback.format_exc())  # joblib strips it of its own
                self._fail_all(error)

    def _settle_next(self) -> None:
        try:
            arrived = self._outcomes.get(timeout=WATCH_SECONDS)
        except queue.Empty:
            self._watch()
            return
        piece = self._out.get(arrived[0]) if arrived else None
        if arrived is None or piece is None:
            return
        number, outcome = arrived
        if isinstance(outcome, list):
            self._worker_seen, self._alone_since = time.monotonic(), None
            if self._take(number):
                self._complete(piece, outcome)
        elif isinstance(outcome, KilledWorker):
            self._suspect(number, piece, outcome)
        elif piece.remote.status == "error" or (piece.remote.status == "finished" and piece.tries >= MOST_TRIES):
            self._fail(number, self._named(outcome, piece))
        else:
            self._again(number, piece)
        self._send_a_suspect()

    def _complete(self, piece: _Piece, outcomes: list[Outcome | Known]) -> None:
        """A task is done. Its calls after one that failed did not run, and joblib does not miss them."""
        batch = piece.batch
        outcomes = [_checked(outcome) if isinstance(outcome, Outcome) else outcome for outcome in outcomes]
        try:
            self._measure(piece, outcomes)
            for place, outcome in zip(piece.places, outcomes, strict=False):
                batch.results[place] = outcome
                if isinstance(outcome, Outcome) and outcome.ok and not outcome.refused:
                    self._learn(batch.works[place], batch.identities[place], outcome, batch.calls[place])
        except Exception as error:  # nobody else would settle it any more
            if not batch.settled.done():
                batch.settled.set_exception(self._named(error, piece))
            return
        batch.failed = any(isinstance(result, Outcome) and not result.ok for result in batch.results)
        if batch.settled.done() or not (batch.failed or batch.complete):
            return
        for result in batch.results:
            if isinstance(result, Outcome) and result.refused:
                batch.settled.set_exception(TakenBack(result.refused))
                return
        if self._shares_memory:
            self._settle_in_order(batch)
        else:
            self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        batch.settled.set_result([result for result in batch.results if result is not None])

    def _settle_in_order(self, batch: _Batch) -> None:
        """Settle a batch; one that has failed, once all before it are settled: they may yet show that it would not
        have failed in the program's own process."""
        if not batch.failed:
            self._settle(batch)
        while self._in_order and (self._in_order[0].settled.done() or self._in_order[0].failed):
            first = self._in_order.popleft()
            if not first.settled.done():
                self._settle(first)

    def _measure(self, piece: _Piece, outcomes: list[Outcome | Known]) -> None:
        """Note how long the calls of a task took, and how long it took beside that."""
        ran = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        if len(ran) < len(piece.batch.calls):
            self.seconds = math.nan
        if ran:
            seconds = sum(outcome.seconds for outcome in ran)
            self.seconds += seconds
            self._effects = self._effects or any(outcome.effects or outcome.refused for outcome in ran)
            self.small_calls.note_round_trip(time.perf_counter() - piece.sent - seconds)
            self.small_calls.inner_threads = ran[-1].inner_threads

    def _learn(
        self, work: WorkEstimate | None, identity: FitIdentity | None, outcome: Outcome, call: JoblibCall
    ) -> None:
        """From a finished fit: how long it took, and what came of it, which is kept at once."""
        if work is not None:
            self._lengths.learn(work, outcome.seconds)
        if self._fits is not None and identity is not None and not outcome.effects:
            with arguments_of(call):
                result = pickle.loads(outcome.content)  # noqa: S301 - from our own workers, over mutual TLS
            self._fits.keep(identity, result, outcome.seconds, outcome.differs)

    def _watch(self) -> None:
        """Called about every second while nothing is settled. What can't be looked at just now is looked at later."""
        with suppress(OSError, TimeoutError):
            self._look_for_workers()

    def _look_for_workers(self) -> None:
        if self._client.status not in ("running", "connecting"):
            self._fail_all(WorkersLost(CONNECTION_LOST))
        elif not self._out or (self._has_worker() and self._somebody_works()):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._wait_for_workers:
            self._fail_all(WorkersLost(f"there has been no worker for {self._wait_for_workers:.0f} s{self._paused()}"))

    def _somebody_works(self) -> bool:
        """A worker whose memory is full takes no task; where all are so, and none has one any more, nothing comes."""
        now = time.monotonic()
        if self._alone_since is None and now - self._looked < STUCK_SECONDS:
            return True
        self._looked = now
        self._works = bool(self._client.run_on_scheduler(somebody_works, callback_timeout=STUCK_SECONDS))
        return self._works

    def _paused(self) -> str:
        return "" if self._works else " that takes tasks: their memory is full; give them more with `--worker-memory`"

    def _again(self, number: int, piece: _Piece) -> None:
        """Send a task again that was cancelled or lost: the connection broke, or its data went with a worker."""
        try:
            self._wait_for_connection()
            register_again(self._client)
            self._send(number, piece)
        except Exception as error:
            self._fail(number, self._named(error, piece))

    # -------------------------------------------------------------------------------------------- what ends workers

    def _suspect(self, number: int, piece: _Piece, error: KilledWorker) -> None:
        """Dask has given a task up, because its workers died."""
        if not self._take(number):
            return
        if piece.alone:
            self._give_up(piece, self._killed(piece, error))
        else:
            self._suspects += [_Piece(piece.batch, [place], alone=True) for place in piece.places]

    def _send_a_suspect(self) -> None:
        """One of those that may have ended workers, when there is nothing else that may have."""
        with self._lock:
            if self._closed or self._out or not self._suspects:
                return
            number = next(self._numbers)
            piece = self._out[number] = self._suspects.popleft()
        self._send_new(number, piece)

    def _killed(self, piece: _Piece, error: KilledWorker) -> WorkersLost:
        died = error.allowed_failures + 1
        if self._was_out_of_memory(error.last_worker.address):
            return WorkersLost(
                f"{piece.name} ended {died} workers, which ran out of memory; give workers more with `--worker-memory`"
            )
        return WorkersLost(
            f"{piece.name} ended {died} workers: it needs more memory than they have, or it crashes; "
            "give workers more with `--worker-memory`, or try this fit on its own"
        )

    def _was_out_of_memory(self, address: str) -> bool:
        with suppress(Exception):  # it only makes the message better
            return any(event["worker"] == address for _, event in self._client.get_events(MEMORY_EVENTS))
        return False

    def _give_up(self, piece: _Piece, error: WorkersLost) -> None:
        """A call that can't be done: a failed fit, where scikit-learn is to go on without it, or else an error."""
        [place] = piece.places
        try:
            result = failed_fit(piece.batch.calls[place], error)
        except Exception as problem:
            result, error.__cause__ = None, problem
        if result is not None:
            self._complete(piece, [Known(result)])
        elif not piece.batch.settled.done():
            piece.batch.settled.set_exception(error)

    # -------------------------------------------------------------------------------------------- each exactly once

    def _take(self, number: int) -> bool:
        """Whether this piece is still to be settled; it is no longer, so that it is settled once."""
        with self._lock:
            piece = self._out.pop(number, None)
        if piece is None:
            return False
        self._data.release(piece.held)
        piece.remote, piece.payload = None, b""
        return True

    def _fail(self, number: int, error: BaseException) -> None:
        piece = self._out.get(number)
        if piece is not None and self._take(number) and not piece.batch.settled.done():
            piece.batch.settled.set_exception(error)

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            numbers = list(self._out)
            suspects = list(self._suspects)
            self._suspects.clear()
        for number in numbers:
            piece = self._out.get(number)
            if piece is not None:
                self._fail(number, self._named(error, piece))
        for piece in suspects:
            if not piece.batch.settled.done():
                piece.batch.settled.set_exception(self._named(error, piece))

    def _named(self, error: BaseException, piece: _Piece) -> BaseException:
        """The error, with the call that it is about. Where the client was given up, whatever fails fails for that."""
        if why := abandon_reason(self._client):
            error = WorkersLost(why)
        if isinstance(error, TakenBack):
            return error
        if type(error) is WorkersLost and not str(error).startswith(piece.name):
            return WorkersLost(f"{piece.name} can't be finished: {error}")
        with suppress(Exception):
            error.add_note(f"while {piece.name} was sent to a worker")
        return error


def small_calls(client: Client) -> SmallCalls:
    """Return what is known of the calls of this client that are too small to gain from its workers."""
    known: SmallCalls = client.extensions.setdefault("skjob-small-calls", SmallCalls())
    return known


def somebody_works(dask_scheduler: Any = None) -> bool:
    """Runs on the scheduler: whether any worker takes tasks, or still runs one."""
    return any(worker.executing or worker.status.name == "running" for worker in dask_scheduler.workers.values())


def _checked(outcome: Outcome) -> Outcome:
    """Return the outcome; as refused if the task has missed a file that is on this machine."""
    for path in outcome.missing:
        with suppress(OSError, ValueError):
            if Path(path).exists():
                return replace(outcome, refused=f"its tasks read `{Path(path).name}`, which is not on the workers")
    return outcome


def _work(call: Any) -> WorkEstimate | None:
    arguments = fit_arguments(call)
    return None if arguments is None else work_of(arguments)
