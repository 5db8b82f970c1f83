"""Pickle a task for a worker: the user's own code by value, large data by a key that is a hash of its content."""

from __future__ import annotations

import copyreg
import hashlib
import io
import logging
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from skjob.engine.fidelity.effects.shared_state import SCIPY_CACHES
from skjob.engine.task_warnings import restore_category
from skjob.engine.transfer.local_code import SCRIPT, is_local, local_modules
from skjob.engine.transfer.modules import reduce_module
from skjob.engine.transfer.pickling import MarkingPickler
from skjob.engine.transfer.received_data import Pickled

MAX_INLINE_BYTES = 100_000
"""Bytes up to which an argument travels with its task."""

_PICKLE_LOCK = threading.Lock()


def large_size(value: Any) -> int:
    """Return the size in bytes of data that can be shared, 0 for anything else. Cheap: called for every object."""
    kind = type(value)
    module = kind.__module__
    if kind is Pickled:
        return len(value.content)
    if module == "numpy":
        return int(value.nbytes) if kind.__name__ in ("ndarray", "memmap") else 0
    if module.startswith("pandas") and kind.__name__ in ("DataFrame", "Series"):
        used = value.memory_usage()
        return int(used.sum() if kind.__name__ == "DataFrame" else used)
    if module.startswith("scipy.sparse"):
        return int(getattr(getattr(value, "data", None), "nbytes", 0))
    return 0


def content_key(value: Any) -> str:
    """Return a hash of the content of `value`: type, shape, dtype and every byte."""
    digest = hashlib.sha256()
    buffers: list[pickle.PickleBuffer] = []
    if type(value).__module__.startswith("scipy.sparse"):
        value = type(value), sorted((name, part) for name, part in vars(value).items() if name not in SCIPY_CACHES)
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    digest.update(head)
    for buffer in buffers:
        digest.update(buffer.raw())
    return f"skjob-data-{digest.hexdigest()[:40]}"


class TaskPickler(MarkingPickler):
    """Pickles a task. Objects for which `share` returns a key are replaced by it."""

    def __init__(self, file: io.BytesIO, share: Callable[[Any], str | None], root: Path | None) -> None:
        super().__init__(file, protocol=5)
        self._share = share
        self._root = root

    def persistent_id(self, obj: Any) -> str | None:
        """Return the key of shared data; None leaves an object in the pickle."""
        return self._share(obj)

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced, if not as usual.

        A module of the user's own is imported on the worker, then given the state it has here. A category of warnings
        (all of them travel with each task of scikit-learn, as filters) may be missing on the worker. In scikit-learn
        1.9 each fit refers to the tree of all fits of its search, which stays here.
        """
        if isinstance(obj, logging.Logger) and type(obj).__module__ in SCRIPT:
            raise pickle.PicklingError(f"workers do not have the program's class of loggers `{type(obj).__qualname__}`")
        if isinstance(obj, ModuleType) and is_local(obj, self._root):
            reduced = reduce_module(obj)
            return reduced if reduced is not NotImplemented else super().reducer_override(obj)
        if isinstance(obj, type) and issubclass(obj, Warning) and obj.__module__ not in ("builtins", "__main__"):
            return restore_category, (obj.__module__, obj.__qualname__)
        if type(obj).__name__ == "CallbackContext" and type(obj).__module__.startswith("sklearn."):
            return without_siblings(obj)
        return super().reducer_override(obj)


def without_siblings(context: Any) -> Any:
    """Return the reduced form of a node in scikit-learn's tree of callbacks: with its path to the root alone."""
    return copyreg.__newobj__, (type(context),), {**vars(context), "_children_map": {}}  # type: ignore[attr-defined]


def dump_task(task: Any, share: Callable[[Any], str | None], root: Path | None) -> bytes:
    """Return `task` as bytes, with local modules by value, and without what `share` has a key for.

    Raises whatever pickling it raises.
    """
    buffer = io.BytesIO()
    with _PICKLE_LOCK:  # cloudpickle's registry is global; it is ours only for the length of one dump
        by_value = cloudpickle.list_registry_pickle_by_value()
        registered = [
            module
            for module in local_modules(root)
            if module.__name__ not in by_value and sys.modules.get(module.__name__) is not None
        ]
        for module in registered:
            cloudpickle.register_pickle_by_value(module)
        try:
            TaskPickler(buffer, share, root).dump(task)
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()
