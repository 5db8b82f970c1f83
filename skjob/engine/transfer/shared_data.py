"""Send arguments that are too large to travel with every task to workers, once.

While a task is pickled, every large array, frame and sparse matrix in it, however deeply nested, is replaced by a key,
which is a hash of its content. The first task that needs a key sends the data to one worker; others fetch it from
there, and later tasks and Parallel calls find it in place. Because the key is the content, data that has changed
meanwhile counts as new, and a copy made by an estimator is recognized. An argument that is still large without them (a
list, a dict, a fitted forest) is shared in the same way, as the bytes of its pickle.

Unused data is freed: soon after the last object here with its content is gone, or some calls later.
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
from skjob.engine.transfer.task_pickler import MAX_INLINE_BYTES, content_key, dump_task, large_size

MAX_UNUSED_CALLS = 4
"""Data that this many Parallel calls in a row did not use is freed."""

DROPPED_TTL = 60.0
"""Seconds that data stays after the last object with its content: each fit of a forest makes its own copy of X."""

MAX_PICKLES = 16
"""Arguments that a call keeps with their pickles, so that they are pickled once."""

MAX_UNWATCHED = 16
"""Unused data that stays although its source cannot be watched, such as lists."""

MAX_USED_ONCE = 4
"""Tasks whose data stays although only they used it: the next call may use it. Data for a part of a large input is
used once."""


@dataclass
class _Copy:
    """Data on workers. `users` are the tasks that are out and use it, `uses` all tasks that have used it.

    `last_used` is the number of the last call that used it, `sources` are the objects here with this content, and
    `dropped_at` is the time when the last of them was gone.
    """

    future: Any = None
    users: int = 0
    uses: int = 0
    last_used: int = 0
    watched: bool = False
    sources: dict[int, weakref.ref[Any]] = field(default_factory=dict)
    dropped_at: float | None = None


def shared_data(client: Any, timeout: float) -> SharedData:
    """Return the shared data of this client, which keeps it for all of its calls."""
    shared: SharedData = client.extensions.setdefault("skjob-data", SharedData(client, timeout))
    return shared


def _free_dropped(shared: weakref.ref[SharedData]) -> None:
    """Free dropped data, some time later. The weak reference lets a closed client go before that."""
    existing = shared()
    if existing is not None:
        existing.free_dropped()


class SharedData:
    """The data of one client on its workers, by content.

    Thread-safe: joblib dispatches from its callback threads too, and several calls may run at once. Nothing slow holds
    the lock that `release` needs: an interrupted call does not wait.
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
        """Begin a Parallel call. `before_sending` is called each time before data is sent."""
        with self._lock:
            self._number += 1
            self._free()
            return CallData(self, before_sending)

    def hold(self, key: str, value: Any, data: dict[str, Any]) -> None:
        """Keep this value, here in `data` and on the workers that have it, until `data` is released."""
        with self._lock:
            if key not in data:
                data[key] = value
                copy = self._copies.setdefault(key, _Copy())
                copy.users += 1
                copy.uses += 1
                copy.last_used = self._number

    def note_source(self, key: str, value: Any) -> None:
        """Note that an object here has this content. Soon after the last such object is gone, the data is freed."""
        with self._lock:
            copy = self._copies.get(key)
            identity = id(value)
            if copy is None or identity in copy.sources:
                return
            with suppress(TypeError):  # what cannot be watched stays
                copy.sources[identity] = weakref.ref(value, partial(self._source_gone, key, identity))
                copy.dropped_at, copy.watched = None, True

    def _source_gone(self, key: str, identity: int, _: Any) -> None:
        # In the garbage collector: it must not wait for a lock that this very thread may hold.
        copy = self._copies.get(key)
        if copy is not None:
            copy.sources.pop(identity, None)
            if not copy.sources:
                try:
                    copy.dropped_at = time.monotonic()
                    loop = self._client.loop.asyncio_loop
                    loop.call_soon_threadsafe(loop.call_later, DROPPED_TTL + 1, _free_dropped, weakref.ref(self))
                except Exception:  # a client that is closing takes the data with it; as Python ends, so do names here
                    return

    def free_dropped(self) -> None:
        """Free what no task uses and no object here contains any more."""
        with self._lock:
            self._free()

    def send(self, key: str, value: Any, before_sending: Callable[[], None]) -> None:
        """Send this data unless workers have it. A task must hold it."""
        with self._sending:
            copy = self._copies[key]
            if copy.future is None or copy.future.status in ("cancelled", "lost", "error"):
                before_sending()
                if self._client.scheduler.address.startswith("inproc://"):
                    # Nothing is pickled then: workers would have the caller's own object, and its changes.
                    value = in_own_memory(value)
                # A new name each time: releasing the previous copy, which may take a while, must not affect this one.
                copy.future = self._client.scatter(Shared(value, large_size(value)), hash=False, timeout=self._timeout)

    def futures(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the Dask futures of this data, by key."""
        with self._lock:
            return {key: self._copies[key].future for key in data}

    def release(self, data: dict[str, Any]) -> None:
        """Release the data of a task that is settled or cancelled, and empty `data`."""
        with self._lock:
            used_once = []
            while data:
                key, _ = data.popitem()
                copy = self._copies[key]
                copy.users -= 1
                copy.last_used = self._number
                if copy.uses == 1:
                    used_once.append(key)
            if used_once:
                self._used_once.append(used_once)
            self._free()

    def _free(self) -> None:
        """Free data that no task uses and that has long been unused, or that only one task has used."""
        latest = time.monotonic() - DROPPED_TTL
        unneeded = {
            key
            for key, copy in self._copies.items()
            if copy.last_used < self._number - MAX_UNUSED_CALLS
            or (copy.dropped_at is not None and copy.dropped_at < latest)
        }
        unwatched = [key for key, copy in self._copies.items() if not (copy.users or copy.watched)]
        unneeded.update(unwatched[:-MAX_UNWATCHED])  # the longest known first
        while len(self._used_once) > MAX_USED_ONCE:
            unneeded.update(key for key in self._used_once.popleft() if self._uses(key) == 1)
        for key in unneeded:
            if key in self._copies and not self._copies[key].users:
                del self._copies[key]

    def _uses(self, key: str) -> int:
        return self._copies[key].uses if key in self._copies else 0


@dataclass(frozen=True)
class _SharedArgument:
    """An argument whose pickle is shared, the key of the pickle, and the data that the pickle refers to."""

    argument: Any
    key: str
    pickled: Pickled
    inner: dict[str, Any]


class CallData:
    """What the tasks of one Parallel call share. Each call has its own: objects may change between two calls.

    A task keeps what it needs in a dictionary of its own, `data`, from which it is sent again if workers are lost.
    """

    def __init__(self, shared: SharedData, before_sending: Callable[[], None]) -> None:
        self._shared = shared
        self._before_sending = before_sending
        # Hashing a gigabyte takes a second: the objects of one Parallel call are hashed once. When an object is gone,
        # its entry goes before another object can have its id.
        self._seen: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._arguments: OrderedDict[int, _SharedArgument] = OrderedDict()

    def end(self) -> None:
        """End the Parallel call: drop all references to its arguments."""
        self._seen.clear()
        self._arguments.clear()

    def dump(
        self,
        calls: list[JoblibCall],
        nested: Any,
        data: dict[str, Any],
        root: Path | None,
        expected: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Return a task of these calls as bytes, with the versions that it expects on its worker.

        What it shares is added to `data`, and is on a worker when this returns.

        Raises whatever pickling and `before_sending` raise.
        """
        task = calls, nested, dict(expected)
        payload = dump_task(task, partial(self._share, data), root)
        if len(payload) > MAX_INLINE_BYTES and self._share_arguments(calls, data, root):
            payload = dump_task(task, partial(self._share, data), root)
            while len(self._arguments) > MAX_PICKLES:
                self._arguments.popitem(last=False)
        return payload

    def _share_arguments(self, calls: list[JoblibCall], data: dict[str, Any], root: Path | None) -> bool:
        """Share arguments that are large even without the data in them. Return whether there are any."""
        found = False
        for argument in iter_nested(calls):
            inner: dict[str, Any] = {}

            def share(value: Any, inner: dict[str, Any] = inner) -> str | None:
                key = self._share(data, value)
                if key is not None:
                    known = self._arguments.get(id(value))
                    inner.update({key: value} if known is None else {**known.inner, key: known.pickled})
                return key

            if id(argument) in self._arguments or large_size(argument) > MAX_INLINE_BYTES:
                continue
            content = dump_task(argument, share, root)
            if len(content) > MAX_INLINE_BYTES:
                key = f"skjob-data-{hashlib.sha256(content).hexdigest()[:40]}"
                self._arguments[id(argument)] = _SharedArgument(argument, key, Pickled(content), inner)
                found = True
        return found

    def _share(self, data: dict[str, Any], value: Any) -> str | None:
        """Return the key of a shared value, and add it to `data`; None for a value that is not shared."""
        if large_size(value) > MAX_INLINE_BYTES:
            return self._hold(data, value, self.key(value))
        known = self._arguments.get(id(value))
        if known is None or known.argument is not value:
            return None
        for key, inner in known.inner.items():
            self._hold(data, inner, key)
        return self._hold(data, known.pickled, known.key)

    def _hold(self, data: dict[str, Any], value: Any, key: str) -> str:
        self._shared.hold(key, value, data)
        if not isinstance(value, Pickled):  # a list cannot be watched
            self._shared.note_source(key, value)
        self._shared.send(key, value, self._before_sending)
        return key

    def key(self, value: Any) -> str:
        """Return the key of data that can be shared: the hash of its content, computed once a call."""
        reference, key = self._seen.get(id(value), (None, ""))
        if reference is None or reference() is not value:
            key = content_key(value)
            forget, identity = self._seen.pop, id(value)
            self._seen[identity] = weakref.ref(value, lambda _: forget(identity, None)), key
        return key

    def futures(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the Dask futures of this data, by key."""
        return self._shared.futures(data)

    def restore(self, data: dict[str, Any]) -> None:
        """Send again what was lost with workers."""
        for key, value in list(data.items()):
            self._shared.send(key, value, self._before_sending)

    def release(self, data: dict[str, Any]) -> None:
        """Release the data of a task."""
        self._shared.release(data)
