"""Shared data on a worker: received once, in memory that all of its tasks use and none can change.

What Dask receives lies anywhere in one large buffer, usually not aligned to eight bytes. numpy then adds up in other
steps than in the client, with another last digit, and more slowly. So arrays are moved to memory of their own as they
arrive, once for each worker.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

from dask.sizeof import sizeof

MAX_PRIVATE_BYTES = 2**20
"""Bytes up to which an array is copied for each task. joblib maps larger ones into read-only memory."""


@dataclass(frozen=True)
class Pickled:
    """Shared data without memory that can be shared, such as a list: its pickle, which each task reads."""

    content: bytes


class Shared:
    """An object that travels to workers. `nbytes` is its size for Dask."""

    def __init__(self, value: Any, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes

    def __reduce__(self) -> Any:
        return _received, (self.value, self.nbytes)


sizeof.register(Shared, lambda shared: shared.nbytes)


def _received(value: Any, nbytes: int) -> Shared:
    return Shared(in_own_memory(value), nbytes)


def in_own_memory(value: Any) -> Any:
    """Return the same array, frame or sparse matrix, with its numbers in memory that numpy allocated."""
    import numpy as np

    kind = type(value)
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if kind.__module__.startswith("pandas"):
        return _copied(value)
    if kind.__module__.startswith("scipy.sparse"):
        value = copy.copy(value)
        for name, part in vars(value).items():
            if isinstance(part, np.ndarray):
                vars(value)[name] = part.copy(order="K")
            elif isinstance(part, tuple):  # the coordinates of the coo format
                vars(value)[name] = tuple(each.copy() if isinstance(each, np.ndarray) else each for each in part)
    return value


def protected(value: Any) -> Any:
    """Return shared data for a task: whatever the task does, the next one on this worker finds it unchanged.

    All tasks of a worker use the very same memory. As with joblib's memory maps, an array above 1 MiB is a read-only
    view, a smaller one is the task's own. Pandas copies what is written to (before version 3: everything), a sparse
    matrix is new around its arrays, and what contains Python objects is copied with them.
    """
    import numpy as np

    kind = type(value)
    if _holds_objects(value):
        return pickle.loads(pickle.dumps(value, protocol=5))  # noqa: S301 - our own bytes
    if isinstance(value, np.ndarray):
        if value.nbytes <= MAX_PRIVATE_BYTES:
            return value.copy(order="K")
        value = value.view()
        value.flags.writeable = False
    elif kind.__module__.startswith("pandas"):
        value = value.copy(deep=False) if _copies_on_write() else _copied(value)
    elif kind.__module__.startswith("scipy.sparse"):
        value = copy.copy(value)
        for name, part in vars(value).items():
            if isinstance(part, np.ndarray):
                vars(value)[name] = protected(part)
            elif isinstance(part, tuple):  # the coordinates of the coo format
                vars(value)[name] = tuple(protected(each) for each in part)
    return value


def _copied(value: Any) -> Any:
    """Return a frame or a series in memory of its own, with its numbers in the same order.

    GONE WHEN pandas 3.1 is the oldest supported version: `value.copy(deep=True)` keeps the order there
    (https://github.com/pandas-dev/pandas/issues/60469). Before, columns that lie as the rows of an array became
    contiguous, and numpy added them up in other steps than in the client.
    """
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytearray(buffer.raw()) for buffer in buffers])  # noqa: S301 - our own bytes


def _holds_objects(value: Any) -> bool:
    """Return whether it contains Python objects, which a view or a copy would share."""
    inner: Any = value.data if type(value).__module__.startswith("scipy.sparse") else value
    dtypes = inner.dtypes if type(inner).__name__ == "DataFrame" else [getattr(inner, "dtype", None)]
    return any(getattr(dtype, "hasobject", False) for dtype in dtypes)


def _copies_on_write() -> bool:
    import pandas

    return int(pandas.__version__.partition(".")[0]) >= 3
