"""Shared data as a worker has it: received once, in memory that all its tasks use and none can change.

What Dask receives lies anywhere in one large buffer, mostly not where a number of eight bytes would begin. numpy then
adds up in other steps than it does at home, with another last digit, and more slowly. So arrays are moved to memory of
their own as they arrive, once for each worker.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

from dask.sizeof import sizeof

PRIVATE = 2**20
"""Bytes up to which an array is copied for each task. joblib maps larger ones into memory, to be read only."""


@dataclass(frozen=True)
class Pickled:
    """Shared data that has no memory of its own to be shared, such as a list: its pickle, read anew by each task."""

    content: bytes


class Shared:
    """An object on its way to workers, and there. `nbytes` is what Dask is told of its size."""

    def __init__(self, value: Any, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes

    def __reduce__(self) -> Any:
        return _received, (self.value, self.nbytes)


sizeof.register(Shared, lambda shared: shared.nbytes)


def _received(value: Any, nbytes: int) -> Shared:
    return Shared(in_own_memory(value), nbytes)


def in_own_memory(value: Any) -> Any:
    """The same array, frame or sparse matrix, its numbers in memory that numpy has chosen."""
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
    """Shared data as a task may have it: whatever the task does, the next one on this worker sees it unchanged.

    All tasks of a worker use the very same memory. As with joblib's memory maps, an array above 1 MiB is a view that
    can't be written to, a smaller one is the task's own. Pandas copies what is written to (before version 3:
    everything), a sparse matrix is new around its arrays, and what holds Python objects is copied with them.
    """
    import numpy as np

    kind = type(value)
    if _holds_objects(value):
        return pickle.loads(pickle.dumps(value, protocol=5))  # noqa: S301 - our own bytes
    if isinstance(value, np.ndarray):
        if value.nbytes <= PRIVATE:
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
    """A frame or a series in memory of its own, its numbers in the order that they have here.

    GONE WHEN pandas 3.1 is the oldest that serves: `value.copy(deep=True)` keeps the order there
    (https://github.com/pandas-dev/pandas/issues/60469). Before, columns that lie as the rows of an array became
    contiguous, and numpy added them up in other steps than at home.
    """
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytearray(buffer.raw()) for buffer in buffers])  # noqa: S301 - our own bytes


def _holds_objects(value: Any) -> bool:
    """Whether there are Python objects in it, which a view or a copy would share."""
    inner: Any = value.data if type(value).__module__.startswith("scipy.sparse") else value
    dtypes = inner.dtypes if type(inner).__name__ == "DataFrame" else [getattr(inner, "dtype", None)]
    return any(getattr(dtype, "hasobject", False) for dtype in dtypes)


def _copies_on_write() -> bool:
    import pandas

    return int(pandas.__version__.partition(".")[0]) >= 3
