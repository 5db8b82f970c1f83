"""What runs on a worker: a few calls of joblib's, from bytes to bytes.

A task carries its own pickle and returns its own, so that whatever can't be pickled or unpickled fails inside the task
that owns it and reaches the client as that task's error. Dask sees only bytes, numbers and the shared data. Each call
has an outcome of its own: what was finished before another failed is not lost.
"""

from __future__ import annotations

import io
import pickle
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import joblib

from skjob.engine.output import captured
from skjob.engine.pickling import dumps
from skjob.engine.shared import Pickled, Shared, protected
from skjob.engine.stop import check_wanted, interruptible
from skjob.engine.threads import all_threads, limit_inner_threads
from skjob.engine.versions import differences
from skjob.engine.warned import Warned, noted_warnings
from skjob.engine.work import Call


@dataclass(frozen=True)
class Outcome:
    """What became of one call: the pickled result, or the pickled exception and its traceback as text.

    `seconds` is the time on the worker alone, without waiting and travelling. `stdout`, `stderr` and `warnings` are
    what the call has written and warned of, `differs` the versions here that are not those that were
    expected.
    """

    ok: bool
    content: bytes
    seconds: float
    traceback: str = ""
    stdout: str = ""
    stderr: str = ""
    warnings: tuple[Warned, ...] = ()
    differs: tuple[str, ...] = ()


class TaskUnpickler(pickle.Unpickler):
    """Reads a task; what was taken out of it as shared data comes from `data`, by content key."""

    def __init__(self, payload: bytes, data: Mapping[str, Shared]) -> None:
        super().__init__(io.BytesIO(payload))
        self._data = data

    def persistent_load(self, key: Any) -> Any:
        """The shared object with this content."""
        value = self._data[key].value
        if isinstance(value, Pickled):
            return TaskUnpickler(value.content, self._data).load()
        return protected(value)


def run_batch(key: str, payload: bytes, names: list[str], *values: Shared, whole: bool = False) -> list[Outcome]:
    """Unpickle and run calls, up to the first that fails; never raises, unless the worker itself is going down.

    `values` are the shared data with these `names`. The task has the worker to itself where it is `whole`.
    """
    limit_inner_threads()
    data = dict(zip(names, values, strict=True))
    with interruptible(key):
        started = time.perf_counter()
        try:
            check_wanted(key)
            calls, backend, expected = TaskUnpickler(payload, data).load()
            differs = differences(expected)
        except BaseException as error:
            return [_failed(error, started)]
        outcomes: list[Outcome] = []
        with joblib.parallel_config(backend=backend, n_jobs=None), all_threads(calls) if whole else nullcontext():
            for call in calls:
                outcomes.append(_run(call, differs))
                if not outcomes[-1].ok:
                    break
        return outcomes


def _run(call: Call, differs: tuple[str, ...]) -> Outcome:
    function, arguments, keywords = call
    started = time.perf_counter()
    with captured() as (stdout, stderr), noted_warnings() as warned:
        try:
            result = function(*arguments, **keywords)
            seconds = time.perf_counter() - started
            outcome = Outcome(True, dumps(result), seconds)
        except BaseException as error:
            outcome = _failed(error, started)
    return replace(outcome, stdout=stdout.text, stderr=stderr.text, warnings=tuple(warned), differs=differs)


def _failed(error: BaseException, started: float) -> Outcome:
    return Outcome(False, _pickled_error(error), time.perf_counter() - started, _user_traceback(error))


def _pickled_error(error: BaseException) -> bytes:
    """The exception, if it survives the journey; else one that says what it was."""

    def as_it_says() -> Any:
        # Not by `pickle` itself: tblib, which distributed installs, takes exceptions apart in a way of its own, and a
        # SystemExit then has no `code` (tblib 3.2; `pickle.loads(pickle.dumps(SystemExit(4))).code` tells).
        return error.__reduce_ex__(5)

    def by_its_parts() -> Any:
        """For classes that can't be called with their `args`, as those can't that take keywords only."""
        return _rebuild, (type(error), error.args, vars(error))

    def in_words() -> Any:
        return RuntimeError, (_in_words(error),)

    for reduced in (as_it_says, by_its_parts, in_words):
        with suppress(Exception):
            content = dumps(_Reduced(reduced()))
            pickle.loads(content)  # noqa: S301 - our own bytes: many exceptions pickle well and can't be read back
            return content
    raise AssertionError("an error of plain text can be pickled")


class _Reduced:
    """Pickles as what these are the parts of."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return self._parts


def _rebuild(kind: type[BaseException], arguments: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(state)
    return error


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
