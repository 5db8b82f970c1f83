"""What is shipped to workers, once: arguments too large to travel with every task.

While a task is pickled, every large array, frame and sparse matrix in it, however deep it sits, is replaced by a key,
which is a hash of its content. The first task that needs a key sends the data to one worker; others fetch it from
there, and later tasks and later Parallel calls find it in place. Because the key is the content, data changed in
between is seen as new, and a copy made by an estimator is recognized. An argument that is still large without them (a
list, a dict, a fitted forest) is shared in the same way, as the bytes of its pickle.

Data that nobody uses is given back: soon after the last object here that held it is gone, or some calls later.
"""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from skjob.engine.joblib_calls import JoblibCall, iter_nested
from skjob.engine.transfer.received_data import Pickled, Shared, in_own_memory
from skjob.engine.transfer.task_pickler import SMALL, content_key, dump_task, large_size

CALLS_KEPT = 4
"""Data that this many Parallel calls in a row did not use is given back."""

DROPPED_KEPT = 60.0
"""Seconds for which data stays that no object here holds any more: each fit of a forest makes its own copy of X."""

PICKLES_KEPT = 16
"""How many arguments a call remembers by their identity, and keeps, so that they are pickled once."""

UNWATCHED_KEPT = 16
"""How many objects that nobody uses stay of those whose end nobody sees, such as lists."""

USED_ONCE_KEPT = 4
"""The data that only one task has used stays for so many of such tasks: the next call may use it, as a part of many it
won't."""


@dataclass
class _Copy:
    """Data that workers hold: how many batches that are out use it, how many have ever, and in which call one did last.

    `sources` are the objects here with this content, and `dropped` is the time when the last of them went.
    """

    future: Any = None
    users: int = 0
    uses: int = 0
    last_used: int = 0
    watched: bool = False
    sources: dict[int, weakref.ref[Any]] = field(default_factory=dict)
    dropped: float | None = None


def shared_data(client: Any, timeout: float) -> SharedData:
    """What the workers of this client hold, the same for all calls. It is kept by the client and goes with it."""
    shared: SharedData = client.extensions.setdefault("skjob-data", SharedData(client, timeout))
    return shared


def _forget_dropped(shared: weakref.ref[SharedData]) -> None:
    """Called later, and no reason for a client that was closed to stay until then."""
    there = shared()
    if there is not None:
        there.forget_dropped()


class SharedData:
    """The data of one client that workers hold, by content.

    Thread-safe: joblib dispatches from its callback threads too, and several calls may be under way at once. What
    takes long is done without the lock that `release` needs: a call that is interrupted does not wait for it.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._sending = threading.Lock()
        self._lock = threading.RLock()
        self._copies: dict[str, _Copy] = {}
        self._used_once: deque[list[str]] = deque()
        self._number = 0

    def begin_call(self, before_sending: Callable[[], None] = lambda: None) -> CallData:
        """A Parallel call begins. `before_sending` is called each time before data is sent."""
        with self._lock:
            self._number += 1
            self._forget()
            return CallData(self, before_sending)

    def hold(self, key: str, value: Any, held: dict[str, Any]) -> None:
        """Keep this data, here in `held` and on the workers that have it, until `held` is released."""
        with self._lock:
            if key not in held:
                held[key] = value
                copy = self._copies.setdefault(key, _Copy())
                copy.users += 1
                copy.uses += 1
                copy.last_used = self._number

    def note_source(self, key: str, value: Any) -> None:
        """An object here has this content; when the last such object is gone, so is soon the data."""
        with self._lock:
            copy = self._copies.get(key)
            identity = id(value)
            if copy is None or identity in copy.sources:
                return
            with suppress(TypeError):  # what can't be watched stays
                copy.sources[identity] = weakref.ref(value, partial(self._source_gone, key, identity))
                copy.dropped, copy.watched = None, True

    def _source_gone(self, key: str, identity: int, _: Any) -> None:
        # In the garbage collector: no waiting for a lock that this very thread may hold at a bad moment.
        copy = self._copies.get(key)
        if copy is not None:
            copy.sources.pop(identity, None)
            if not copy.sources:
                copy.dropped = time.monotonic()
                with suppress(Exception):  # a client that is closing takes the data with it
                    loop = self._client.loop.asyncio_loop
                    loop.call_soon_threadsafe(loop.call_later, DROPPED_KEPT + 1, _forget_dropped, weakref.ref(self))

    def forget_dropped(self) -> None:
        """Give back what nobody uses and no object here holds any more."""
        with self._lock:
            self._forget()

    def send(self, key: str, value: Any, before_sending: Callable[[], None]) -> None:
        """See that workers have this data, or get it now. It is held."""
        with self._sending:
            copy = self._copies[key]
            if copy.future is None or copy.future.status in ("cancelled", "lost", "error"):
                before_sending()
                if self._client.scheduler.address.startswith("inproc://"):
                    # Nothing is pickled on the way: the workers would have the caller's own object, and its changes.
                    value = in_own_memory(value)
                # A name of its own each time: a release of the last copy that is still under way must not hit this one.
                copy.future = self._client.scatter(Shared(value, large_size(value)), hash=False, timeout=self._timeout)

    def futures(self, held: dict[str, Any]) -> dict[str, Any]:
        """The Dask futures behind what is held."""
        with self._lock:
            return {key: self._copies[key].future for key in held}

    def release(self, held: dict[str, Any]) -> None:
        """A task that held this is settled, or taken back."""
        with self._lock:
            used_once = []
            while held:
                key, _ = held.popitem()
                copy = self._copies[key]
                copy.users -= 1
                copy.last_used = self._number
                if copy.uses == 1:
                    used_once.append(key)
            if used_once:
                self._used_once.append(used_once)
            self._forget()

    def _forget(self) -> None:
        """Give back what no task uses: what has long been unused, and soon what only one task had a use for."""
        latest = time.monotonic() - DROPPED_KEPT
        unwanted = {
            key
            for key, copy in self._copies.items()
            if copy.last_used < self._number - CALLS_KEPT or (copy.dropped is not None and copy.dropped < latest)
        }
        unwatched = [key for key, copy in self._copies.items() if not (copy.users or copy.watched)]
        unwanted.update(unwatched[:-UNWATCHED_KEPT])  # the longest known first
        while len(self._used_once) > USED_ONCE_KEPT:
            unwanted.update(key for key in self._used_once.popleft() if self._uses(key) == 1)
        for key in unwanted:
            if key in self._copies and not self._copies[key].users:
                del self._copies[key]

    def _uses(self, key: str) -> int:
        return self._copies[key].uses if key in self._copies else 0


@dataclass(frozen=True)
class _SharedArgument:
    """An argument whose pickle is shared, the key of that, and the data that the pickle in turn leaves out."""

    argument: Any
    key: str
    pickled: Pickled
    inner: dict[str, Any]


class CallData:
    """What the tasks of one Parallel call share. Another call has its own: objects may change between the two.

    A task keeps what it needs in a dictionary of its own, `held`, from which it is sent again if workers are lost.
    """

    def __init__(self, shared: SharedData, before_sending: Callable[[], None]) -> None:
        self._shared = shared
        self._before_sending = before_sending
        # Hashing a gigabyte takes a second: the objects of one Parallel call are hashed once. An object that ends
        # takes its entry with it before another can have its id.
        self._seen: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._arguments: OrderedDict[int, _SharedArgument] = OrderedDict()

    def end(self) -> None:
        """The Parallel call is over: its arguments belong to the caller again."""
        self._seen.clear()
        self._arguments.clear()

    def dump(
        self,
        calls: list[JoblibCall],
        nested: Any,
        held: dict[str, Any],
        root: Path | None,
        expected: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """A task of these calls as bytes, with the versions that it expects on its worker.

        What it shares is kept in `held`, and on a worker when this returns.

        Raises whatever pickling raises, and what `before_sending` does.
        """
        task = calls, nested, dict(expected)
        payload = dump_task(task, partial(self._share, held), root)
        if len(payload) > SMALL and self._share_arguments(calls, held, root):
            payload = dump_task(task, partial(self._share, held), root)
            while len(self._arguments) > PICKLES_KEPT:
                self._arguments.popitem(last=False)
        return payload

    def _share_arguments(self, calls: list[JoblibCall], held: dict[str, Any], root: Path | None) -> bool:
        """Look for arguments that are large even without the data in them; whether there are any."""
        found = False
        for argument in iter_nested(calls):
            inner: dict[str, Any] = {}

            def share(value: Any, inner: dict[str, Any] = inner) -> str | None:
                key = self._share(held, value)
                if key is not None:
                    known = self._arguments.get(id(value))
                    inner.update({key: value} if known is None else {**known.inner, key: known.pickled})
                return key

            if id(argument) in self._arguments or large_size(argument) > SMALL:
                continue
            content = dump_task(argument, share, root)
            if len(content) > SMALL:
                key = f"skjob-data-{hashlib.sha256(content).hexdigest()[:40]}"
                self._arguments[id(argument)] = _SharedArgument(argument, key, Pickled(content), inner)
                found = True
        return found

    def _share(self, held: dict[str, Any], value: Any) -> str | None:
        """The key of a value that is shared, which `held` keeps; None for one that is not."""
        if large_size(value) > SMALL:
            return self._hold(held, value, self.key(value))
        known = self._arguments.get(id(value))
        if known is None or known.argument is not value:
            return None
        for key, inner in known.inner.items():
            self._hold(held, inner, key)
        return self._hold(held, known.pickled, known.key)

    def _hold(self, held: dict[str, Any], value: Any, key: str) -> str:
        self._shared.hold(key, value, held)
        if not isinstance(value, Pickled):  # of a list nobody knows when it goes
            self._shared.note_source(key, value)
        self._shared.send(key, value, self._before_sending)
        return key

    def key(self, value: Any) -> str:
        """The key of data that can be shared: its content, hashed once a call."""
        reference, key = self._seen.get(id(value), (None, ""))
        if reference is None or reference() is not value:
            key = content_key(value)
            forget, identity = self._seen.pop, id(value)
            self._seen[identity] = weakref.ref(value, lambda _: forget(identity, None)), key
        return key

    def futures(self, held: dict[str, Any]) -> dict[str, Any]:
        """The Dask futures behind what is held."""
        return self._shared.futures(held)

    def restore(self, held: dict[str, Any]) -> None:
        """Send again what was lost with the workers that held it."""
        for key, value in list(held.items()):
            self._shared.send(key, value, self._before_sending)

    def release(self, held: dict[str, Any]) -> None:
        """The batch that held this needs it no more."""
        self._shared.release(held)
