"""What runs on a worker: a few calls of joblib's, from bytes to bytes.

A task carries its own pickle and returns its own, so that whatever can't be pickled or unpickled fails inside the task
that owns it and reaches the client as that task's error. Dask sees only bytes, numbers and the shared data. Each call
has an outcome of its own: what was finished before another failed is not lost.
"""

from __future__ import annotations

import io
import os
import pickle
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import joblib

from skjob.engine.cancellation import TaskCancelled, check_wanted, interruptible
from skjob.engine.fidelity.effects.draws import drawn, positions
from skjob.engine.fidelity.effects.guard import guarded
from skjob.engine.fidelity.effects.marks import collected_code
from skjob.engine.fidelity.effects.returned import ArgumentPlace, dumps_result
from skjob.engine.fidelity.effects.state import LiveArguments, State, changed, imported_modules, state_of, unknown
from skjob.engine.fidelity.settings.applying import applied
from skjob.engine.fidelity.settings.logs import Logged, captured_log
from skjob.engine.fidelity.settings.own_variables import differing_variables
from skjob.engine.fidelity.settings.packing import PackedSettings, unpack
from skjob.engine.fidelity.settings.process import CannotApply, restore_variables
from skjob.engine.fidelity.settings.values import ProgramSettings
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.output import captured
from skjob.engine.task_warnings import Warned, noted_warnings
from skjob.engine.threads import all_threads, inner_threads, limit_inner_threads
from skjob.engine.transfer.pickling import dumps
from skjob.engine.transfer.received_data import Pickled, Shared, protected
from skjob.engine.transfer.worker_plugins import unpacked_folders
from skjob.utils.versions import differences

READ_ONLY = "is read-only"
"""What numpy says of an array that cannot be written to."""


@dataclass(frozen=True)
class Outcome:
    """What became of one call: the pickled result, or the pickled exception and its traceback as text.

    Attributes
    ----------
    seconds : float
        The time on the worker alone, without waiting and travelling.
    stdout, stderr, warnings, logged
        What the call has written, warned of and logged.
    differs : tuple of str
        The versions here that are not those that were expected.
    refused : str
        Why the call must run in the program's own process; nothing else of it counts then.
    returned : tuple
        The arguments in the result, which come back as the program's own objects.
    effects : tuple of str
        What the call has done beside returning a result.
    missing : tuple of str
        The files that it wanted to read and that are not on the worker's machine.
    inner_threads : int
        With how many threads its numerics may have computed.
    drawn : tuple of str
        The modules with a global generator that the program has seeded and the call has drawn from.
    own_variables : tuple of str
        Environment variables that the program's code reads and that have another value here.
    unseen : tuple of str
        What it shares with the program and may have changed without being seen, in words.
    """

    ok: bool
    content: bytes
    seconds: float
    traceback: str = ""
    stdout: str = ""
    stderr: str = ""
    warnings: tuple[Warned, ...] = ()
    differs: tuple[str, ...] = ()
    refused: str = ""
    returned: tuple[ArgumentPlace, ...] = ()
    effects: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    inner_threads: int = 1
    logged: tuple[Logged, ...] = ()
    drawn: tuple[str, ...] = ()
    own_variables: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


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


def run_batch(
    key: str,
    payload: bytes,
    names: list[str],
    *values: Shared,
    whole: bool = False,
    live_arguments: LiveArguments | None = None,
    settings: PackedSettings | None = None,
) -> list[Outcome]:
    """Unpickle and run calls, up to the first that fails; never raises, unless the worker itself is going down.

    `values` are the shared data with these `names`. The task has the worker to itself where it is `whole`. If plain
    Python runs the calls in the program's process, `held` are the arguments of each that the program has too: what a
    task changes there, or in what else it shares with the program, is a reason to refuse it. `settings` are those of
    the program's process; code that is imported as the task is read finds them too.
    """
    limit_inner_threads()
    data = dict(zip(names, values, strict=True))
    with interruptible(key), ExitStack() as stack:
        started = time.perf_counter()
        try:
            check_wanted(key)
            program = unpack(settings)
            stack.enter_context(applied(program))
            with collected_code() as codes:
                calls, backend, expected = TaskUnpickler(payload, data).load()
            if _reads_arguments(codes):
                return [Outcome(False, b"", 0.0, refused="its tasks read the arguments of the program, `sys.argv`")]
            before: State = {}
            variables: dict[str, str] = {}
            if live_arguments is not None:
                variables = dict(os.environ)
                codes += imported_modules(codes, unpacked_folders())
                before = state_of(codes, calls, live_arguments)
            differs = differences(expected)
            own = differing_variables(program, codes)
        except TaskCancelled as error:
            return [_failed(error, started)]
        except CannotApply as error:
            return [replace(_failed(error, started), refused=str(error))]
        except BaseException as error:
            why = f"it cannot be read on workers: {_in_words(error)}"
            return [replace(_failed(error, started), refused=why)]
        outcomes: list[Outcome] = []
        with joblib.parallel_config(backend=backend, n_jobs=None), all_threads(calls) if whole else nullcontext():
            for call in calls:
                outcome = _run(call, differs, program, shares_memory=live_arguments is not None)
                outcomes.append(replace(outcome, own_variables=own))
                if not outcomes[-1].ok:
                    break
        if live_arguments is not None and (why := _why_refused(outcomes, before, codes, calls, live_arguments)):
            restore_variables(variables)
            return [replace(outcome, refused=why) for outcome in outcomes]
        if unseen := unknown(before):
            return [replace(outcome, unseen=unseen) for outcome in outcomes]
        return outcomes


def _reads_arguments(codes: list[Any]) -> bool:
    """Return whether code of the program asks for `sys.argv`. joblib's processes have it, a worker has its own."""
    return any(isinstance(code, FunctionType) and _ARGUMENTS.issubset(code.__code__.co_names) for code in codes)


_ARGUMENTS = frozenset({"sys", "argv"})


def _why_refused(
    outcomes: list[Outcome], before: State, codes: list[Any], calls: list[JoblibCall], live: LiveArguments
) -> str:
    """Return what the calls have done to memory that they would share with the program in plain Python."""
    returned = [outcome.returned for outcome in outcomes]
    if names := changed(before, state_of(codes, calls, live), returned):
        return f"its tasks change {', '.join(f'`{name}`' for name in names)}"
    if any(READ_ONLY in outcome.traceback for outcome in outcomes):
        return "its tasks write to data that they share"
    return ""


def _run(call: JoblibCall, differs: tuple[str, ...], settings: ProgramSettings, *, shares_memory: bool) -> Outcome:
    function, arguments, keywords = call
    started = time.perf_counter()
    before = positions(settings.seeded) if settings.seeded else {}
    with (
        captured() as (stdout, stderr),
        noted_warnings() as warned,
        captured_log(settings.levels, stdout, stderr) as log,
        guarded(in_order=shares_memory) as watched,
    ):
        try:
            result = function(*arguments, **keywords)
            seconds = time.perf_counter() - started
        except BaseException as error:
            outcome = _failed(error, started, as_raised=shares_memory)
            watched.note_error(error)
        else:
            outcome = _finished(result, seconds, call if shares_memory else None)
    if watched.refused:
        return replace(outcome, ok=False, content=b"", refused=watched.refused)
    return replace(
        outcome,
        stdout=stdout.text,
        stderr=stderr.text,
        warnings=tuple(warned),
        differs=differs,
        effects=tuple(sorted(watched.effects)),
        missing=tuple(sorted(watched.missing)),
        inner_threads=inner_threads(),
        logged=log.result,
        drawn=drawn(settings.seeded, before),
    )


def _finished(result: Any, seconds: float, sharing: JoblibCall | None) -> Outcome:
    """Return the outcome of a call; of one that is `sharing` its arguments with the program, with those it returns."""
    try:
        if sharing is None:
            return Outcome(True, dumps(result), seconds)
        content, returned = dumps_result(result, sharing)
        return Outcome(True, content, seconds, returned=tuple(returned))
    except Exception as error:  # whatever its objects raise
        return Outcome(False, b"", seconds, refused=f"its results cannot be sent back: {_in_words(error)}")


def _failed(error: BaseException, started: float, *, as_raised: bool = False) -> Outcome:
    """Return the outcome of a call that has raised; `as_raised` if plain Python raises it in the program's process."""
    seconds = time.perf_counter() - started
    content = _pickled_error(error, as_raised)
    if not content:
        return Outcome(False, b"", seconds, refused=f"its error cannot be sent back: {_in_words(error)}")
    return Outcome(False, content, seconds, _user_traceback(error))


def _pickled_error(error: BaseException, as_raised: bool) -> bytes:
    """Return the exception, if it survives the journey; else one that says what it was, and nothing if `as_raised`.

    A class that makes its message of other arguments makes it again of that message, as it is unpickled: so the
    program gets it from joblib's processes. `as_raised`: it gets the one that was raised, as from its own process.
    """

    def as_it_says() -> Any:
        # Not by `pickle` itself: tblib, which distributed installs, takes exceptions apart in a way of its own, and a
        # SystemExit then has no `code` (tblib 3.2; `pickle.loads(pickle.dumps(SystemExit(4))).code` tells).
        return error.__reduce_ex__(5)

    def by_its_parts() -> Any:
        """For classes that can't be called with their `args`, as those can't that take keywords only."""
        return _rebuild, (type(error), error.args, vars(error))

    def in_words() -> Any:
        return RuntimeError, (_in_words(error),)

    for reduced in (as_it_says, by_its_parts) if as_raised else (as_it_says, by_its_parts, in_words):
        with suppress(Exception):
            content = dumps(_Reduced(reduced()))
            again = pickle.loads(content)  # noqa: S301 - our own bytes: many pickle well and can't be read back
            if not as_raised or str(again) == str(error):
                return content
    assert as_raised, "an error of plain text can be pickled"  # noqa: S101
    return b""


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
