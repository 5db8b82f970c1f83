"""What runs on a worker: one batch of joblib calls, from bytes to bytes.

A task carries its own pickle and returns its own, so that whatever can't be pickled or unpickled fails inside the task
that owns it and reaches the client as that task's error. Dask sees only bytes, numbers and the shared data.
"""

from __future__ import annotations

import importlib
import io
import pickle
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True)
class Outcome:
    """What became of one batch: the pickled result, or the pickled exception and its traceback as text.

    `seconds` is the time on the worker alone, without waiting and travelling.
    """

    ok: bool
    content: bytes
    seconds: float
    traceback: str = ""


class TaskUnpickler(pickle.Unpickler):
    """Reads a task; what was taken out of it as shared data comes from `data`, by content key."""

    def __init__(self, payload: bytes, data: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(payload))
        self._data = data

    def persistent_load(self, key: Any) -> Any:
        """The shared object with this content."""
        return read_only(self._data[key])


def read_only(value: Any) -> Any:
    """Shared data as a task may see it: a task that writes to it fails, as it does on joblib's memory maps.

    Other tasks of the same worker use the very same memory. Pandas objects protect themselves by copy on write.
    """
    import numpy as np

    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def restore_warning(module: str, name: str) -> type[Warning]:
    """A category of warnings; where its package is not on this worker, one that no warning here belongs to."""
    try:
        category = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        category = type(name, (Warning,), {"__module__": module})
    return cast(type[Warning], category)


def run_batch(payload: bytes, data: dict[str, Any]) -> Outcome:
    """Unpickle and run a batch of calls; never raises, except where the worker itself is going down."""
    import cloudpickle

    started = time.perf_counter()
    try:
        result = TaskUnpickler(payload, data).load()()
        content = cloudpickle.dumps(result, protocol=5)
    except BaseException as error:
        return Outcome(False, _pickled_error(error), time.perf_counter() - started, _user_traceback(error))
    return Outcome(True, content, time.perf_counter() - started)


def _pickled_error(error: BaseException) -> bytes:
    """The exception, if it survives the journey; else one that says what it was."""
    import cloudpickle

    try:
        content = cloudpickle.dumps(error, protocol=5)
        pickle.loads(content)  # noqa: S301 - our own bytes: many exceptions pickle well and can't be read back
    except Exception:
        content = cloudpickle.dumps(RuntimeError(_in_words(error)), protocol=5)
    return bytes(content)


def _in_words(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        return f"{name}: {error}"
    except Exception:  # it fails to say what it is
        return name


def _user_traceback(error: BaseException) -> str:
    """The traceback without this file's own frame at the top."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, frames))
