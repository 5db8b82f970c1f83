"""What is shipped to workers, once: arguments too large to travel with every task.

While a task is pickled, every large array, frame and sparse matrix in it, however deep it sits, is replaced by a key,
which is a hash of its content. The first task that needs a key sends the data to one worker; others fetch it from
there, and later tasks and later Parallel calls find it in place. Because the key is the content, data changed in
between is seen as new, and a copy made by an estimator is recognized.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from skjob.engine.modules import is_local, local_modules, module_state, restore_module
from skjob.engine.task import restore_warning

SMALL = 100_000
"""Bytes up to which an argument travels with its task."""

CALLS_KEPT = 4
"""Data that this many Parallel calls in a row did not use is given back."""

_PICKLE_LOCK = threading.Lock()


def large_size(value: Any) -> int:
    """The size in bytes of data that can be shared, 0 for anything else. Cheap: called for every object pickled."""
    kind = type(value)
    module = kind.__module__
    if module == "numpy":
        return int(value.nbytes) if kind.__name__ in ("ndarray", "memmap") else 0
    if module.startswith("pandas") and kind.__name__ in ("DataFrame", "Series"):
        used = value.memory_usage()
        return int(used.sum() if kind.__name__ == "DataFrame" else used)
    if module.startswith("scipy.sparse"):
        return int(getattr(getattr(value, "data", None), "nbytes", 0))
    return 0


def content_key(value: Any) -> str:
    """A hash of what `value` holds: type, shape, dtype and every byte."""
    digest = hashlib.sha256()
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    digest.update(head)
    for buffer in buffers:
        digest.update(buffer.raw())
    return f"skjob-data-{digest.hexdigest()[:40]}"


class TaskPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles a task; shared data is handed to `share` and leaves only its key."""

    def __init__(self, file: io.BytesIO, share: Callable[[Any], str], root: Path | None) -> None:
        super().__init__(file, protocol=5)
        self._share = share
        self._root = root

    def persistent_id(self, obj: Any) -> str | None:
        """The key of data to be shared; None leaves an object to the pickle."""
        return self._share(obj) if large_size(obj) > SMALL else None

    def reducer_override(self, obj: Any) -> Any:
        """Two kinds of globals that a worker may not have as they are here.

        A module beside the script is imported there, then given the state it has here. A category of warnings (all of
        them travel with each task of scikit-learn, as filters) need not be importable there.
        """
        if isinstance(obj, ModuleType) and self._root is not None and is_local(obj, self._root):
            return restore_module, (obj.__name__, module_state(obj))
        if isinstance(obj, type) and issubclass(obj, Warning) and obj.__module__ not in ("builtins", "__main__"):
            return restore_warning, (obj.__module__, obj.__qualname__)
        return super().reducer_override(obj)


def dump_task(task: Any, share: Callable[[Any], str], root: Path | None) -> bytes:
    """`task` as bytes, with local modules by value and large data left out. Raises whatever pickling it raises."""
    buffer = io.BytesIO()
    with _PICKLE_LOCK:  # cloudpickle's registry is global; it is ours only for the length of one dump
        registered = [module for module in local_modules(root) if module.__name__ not in _by_value()]
        for module in registered:
            cloudpickle.register_pickle_by_value(module)
        try:
            TaskPickler(buffer, share, root).dump(task)
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()


def _by_value() -> set[str]:
    return set(cloudpickle.list_registry_pickle_by_value())


class SharedData:
    """The data of one client that workers hold, by content.

    Thread-safe: joblib dispatches from its callback threads too, and several calls may be under way at once.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._lock = threading.RLock()
        self._futures: dict[str, Any] = {}
        self._last_used: dict[str, int] = {}
        self._number = 0
        self._under_way: set[CallData] = set()

    def begin_call(self) -> CallData:
        """A Parallel call begins: forget what has long been unused."""
        with self._lock:
            self._number += 1
            in_use = {key for call in self._under_way for key in call.keys}
            for key in [key for key, number in self._last_used.items() if number < self._number - CALLS_KEPT]:
                if key not in in_use:
                    del self._futures[key], self._last_used[key]
            call = CallData(self)
            self._under_way.add(call)
            return call

    def end_call(self, call: CallData) -> None:
        """The Parallel call is over: its data is kept for the next ones, for a while."""
        with self._lock:
            self._last_used.update(dict.fromkeys(call.keys, self._number))
            self._under_way.discard(call)

    def send(self, key: str, value: Any) -> None:
        """See that workers have this data, or get it now."""
        with self._lock:
            self._last_used[key] = self._number
            future = self._futures.get(key)
            if future is None or future.status in ("cancelled", "lost", "error"):
                # A name of its own each time: a release of the last copy that is still under way must not hit this one.
                self._futures[key] = self._client.scatter(value, hash=False, timeout=self._timeout)

    def futures(self, keys: set[str]) -> dict[str, Any]:
        """The Dask futures behind these keys."""
        with self._lock:
            return {key: self._futures[key] for key in keys}


class CallData:
    """What the tasks of one Parallel call share. Another call has its own: objects may change between the two."""

    def __init__(self, shared: SharedData) -> None:
        self._shared = shared
        self._lock = threading.RLock()
        # Hashing a gigabyte takes a second: the objects of one Parallel call are hashed once. The reference keeps
        # the id from being reused.
        self._seen: dict[int, tuple[Any, str]] = {}

    @property
    def keys(self) -> set[str]:
        """What this call has shared until now."""
        return {key for _, key in list(self._seen.values())}

    def end(self) -> None:
        """The Parallel call is over: its arguments belong to the caller again."""
        self._shared.end_call(self)
        self._seen.clear()

    def share(self, value: Any) -> str:
        """The key of `value`, whose data is on a worker when this returns."""
        with self._lock:
            seen = self._seen.get(id(value))
            if seen is not None:
                return seen[1]
            key = content_key(value)
            self._shared.send(key, value)
            self._seen[id(value)] = (value, key)
            return key

    def futures(self, keys: set[str]) -> dict[str, Any]:
        """The Dask futures behind these keys."""
        return self._shared.futures(keys)

    def restore(self, keys: set[str]) -> None:
        """Send again what was lost with the workers that held it."""
        for value, key in list(self._seen.values()):
            if key in keys:
                self._shared.send(key, value)
