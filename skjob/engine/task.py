"""Run a few of joblib's calls on a worker, from bytes to bytes.

A task carries its own pickle and returns its own, so that whatever cannot be pickled or unpickled fails inside the task
that owns it and reaches the client as that task's error. Dask sees only bytes, numbers and the shared data. Each call
has an outcome of its own: results of calls before one that failed are not lost.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
from distributed import get_worker

from skjob.engine.cancellation import TaskCancelled, interruptible, raise_if_cancelled
from skjob.engine.fidelity.effects.code_identity import received_code
from skjob.engine.fidelity.effects.guard import FILES_VARIABLE, guarded, install_guard, remove_created
from skjob.engine.fidelity.effects.process_questions import why_of_process
from skjob.engine.fidelity.effects.process_state import ProcessState, changed_settings, process_state, restore
from skjob.engine.fidelity.effects.random_draws import SEEDED, note_seeds, seeded_by, states, watched_draws
from skjob.engine.fidelity.effects.returned_arguments import ArgumentKey, CannotReturn, dumps_result
from skjob.engine.fidelity.effects.shared_state import (
    LiveArguments,
    State,
    changed,
    describe_unknown,
    imported_modules,
    own_objects,
    state_of,
)
from skjob.engine.fidelity.settings.applying import applied
from skjob.engine.fidelity.settings.logs import LoggedRecord, captured_log
from skjob.engine.fidelity.settings.own_variables import differing_variables
from skjob.engine.fidelity.settings.packing import PackedSettings, unpack
from skjob.engine.fidelity.settings.process import CannotApply, restore_variables
from skjob.engine.fidelity.settings.values import ProgramSettings, process_token
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.output import captured
from skjob.engine.remote_traceback import NO_CAUSES, Causes
from skjob.engine.task_warnings import TaskWarning, captured_warnings
from skjob.engine.threads import all_threads, inner_threads, limit_inner_threads
from skjob.engine.transfer.pickling import dumps
from skjob.engine.transfer.received_data import Pickled, Shared, protected
from skjob.engine.transfer.worker_plugins import unpacked_folders
from skjob.utils.versions import differences

MAX_CAUSES = 3
"""How many exceptions that led to one another come back with the one that a task raised."""

READ_ONLY = b" is read-only"
OF_ARRAYS = re.compile(rb"(array|assignment destination|WRITEBACKIFCOPY base) is read-only")
"""What numpy and Cython say of an array that cannot be written to. In a result it is the error of a fit that failed.

The data of a program may well say of other things that they are read-only.
"""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call: the pickled result, or the pickled exception and its traceback as text.

    Attributes
    ----------
    seconds : float
        The time on the worker alone, without waiting and transfer.
    stdout, stderr, warnings, logged
        What the call wrote, warned of and logged.
    causes : Causes
        What led to the exception, if plain Python raises it in the program's process.
    cuts : tuple
        For stdout and stderr, the sizes after each write.
    differs : tuple of str
        The versions on the worker that differ from the expected ones.
    refused : str
        Why the call must run in the program's own process; nothing else of the outcome counts then.
    returned : tuple
        The arguments in the result, which come back as the program's own objects.
    effects : tuple of str
        What the call did besides returning a result.
    created : tuple of str
        Files and folders that it created on the program's machine, if plain Python runs the calls in its process.
    missing : tuple of str
        Files that it tried to read and that are not on the worker's machine.
    read : tuple
        Files and folders that it read, each with its size and the time of its last change.
    inner_threads : int
        How many threads its numerics may have used.
    drawn : tuple of str
        Modules whose global generator the program has seeded and the call drew from.
    own_variables : tuple of str
        Environment variables that the program's code reads and that have another value on the worker.
    generators : dict
        The states of global generators of random numbers that the call has seeded, by module.
    unseen : tuple of str
        Descriptions of what it shares with the program and may have changed without being seen.
    worker : str
        The name of the worker; empty if the task could not be read.
    ended : float
        When it ended, by the worker's clock.
    """

    ok: bool
    content: bytes
    seconds: float
    traceback: str = ""
    stdout: str = ""
    stderr: str = ""
    causes: Causes = NO_CAUSES
    cuts: tuple[tuple[int, ...], ...] = ((), ())
    warnings: tuple[TaskWarning, ...] = ()
    differs: tuple[str, ...] = ()
    refused: str = ""
    returned: tuple[ArgumentKey, ...] = ()
    effects: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    read: tuple[tuple[str, int, int], ...] = ()
    inner_threads: int = 1
    logged: tuple[LoggedRecord, ...] = ()
    drawn: tuple[str, ...] = ()
    own_variables: tuple[str, ...] = ()
    generators: dict[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    worker: str = ""
    ended: float = 0.0


class TaskUnpickler(pickle.Unpickler):
    """Unpickles a task. Its shared data comes from `data`, by content key."""

    def __init__(self, payload: bytes, data: Mapping[str, Shared]) -> None:
        super().__init__(io.BytesIO(payload))
        self._data = data

    def persistent_load(self, key: Any) -> Any:
        """Return the shared object with this content key."""
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
    """Unpickle and run calls, up to the first that fails. Never raises, unless the worker itself is shutting down.

    `values` are the shared data with these `names`. A `whole` task has the worker to itself. If plain Python runs the
    calls in the program's process, `live_arguments` are the arguments of each call that the program still references: a
    task that changes these, or anything else that it shares with the program, is refused. `settings` are those of the
    program's process, and apply to code that is imported while the task is unpickled too.
    """
    limit_inner_threads()
    install_guard()  # before the settings are compared: in a pod, the first task changes the folder
    data = dict(zip(names, values, strict=True))
    with interruptible(key), ExitStack() as stack:
        started = time.perf_counter()
        try:
            raise_if_cancelled(key)
            program = unpack(settings)
            stack.enter_context(applied(program))
            note_seeds()
            with received_code() as codes:
                calls, backend, expected = TaskUnpickler(payload, data).load()
            if why := why_of_process(codes, shares_memory=live_arguments is not None):
                return [Outcome(False, b"", 0.0, refused=why)]
            before: State = {}
            own: dict[int, str] = {}
            variables: dict[str, str] = {}
            settings_before = process_state() if codes else {}  # code of the program runs
            seeds = seeded_by(codes) if live_arguments is not None else frozenset()
            if live_arguments is not None:
                variables = dict(os.environ)
                codes += imported_modules(codes, unpacked_folders())
                before = state_of(codes, calls, live_arguments, caches=program.asks_caches)
                own = own_objects(codes, calls)
            differs = differences(expected)
            own_variables = differing_variables(program, codes)
        except TaskCancelled as error:
            return [_failed(error, started)]
        except CannotApply as error:
            return [replace(_failed(error, started), refused=str(error))]
        except BaseException as error:
            why = f"it cannot be read on workers: {_error_text(error)}"
            return [replace(_failed(error, started), refused=why)]
        outcomes: list[Outcome] = []
        worker = _worker_name()
        with joblib.parallel_config(backend=backend, n_jobs=None), all_threads(calls) if whole else nullcontext():
            for call in calls:
                outcome = _run(call, differs, program, seeds, own, shares_memory=live_arguments is not None)
                outcomes.append(replace(outcome, own_variables=own_variables, worker=worker))
                if not outcomes[-1].ok:
                    break
        why = _undo_settings(settings_before)
        if live_arguments is not None and not why:
            why = _why_refused(outcomes, before, state_of(codes, calls, live_arguments, caches=program.asks_caches))
        if live_arguments is not None and why:
            restore_variables(variables)
            for outcome in outcomes:
                remove_created(outcome.created)
            return [replace(outcome, refused=why, created=()) for outcome in outcomes]
        if FILES_VARIABLE not in os.environ:
            outcomes = [replace(outcome, created=()) for outcome in outcomes]  # the program's machine has others
        if unseen := describe_unknown(before):
            return [replace(outcome, unseen=unseen) for outcome in outcomes]
        return outcomes


def _worker_name() -> str:
    try:
        return str(get_worker().name)
    except ValueError:  # not in a task of Dask's
        return ""


def _undo_settings(before: ProcessState) -> str:
    """Undo what the calls have changed of the settings of the process, and return what that was."""
    names = changed_settings(before, process_state()) if before else ()
    restore(before, names)
    return f"its tasks change settings of the process by {', '.join(f'`{name}`' for name in names)}" if names else ""


def _why_refused(outcomes: list[Outcome], before: State, after: State) -> str:
    """Return what the calls did to memory that they share with the program in plain Python."""
    returned = [outcome.returned for outcome in outcomes]
    if names := changed(before, after, returned):
        return f"its tasks change {', '.join(f'`{name}`' for name in names)}"
    if any(_says_read_only(outcome.traceback.encode(errors="replace"), outcome.content) for outcome in outcomes):
        return "its tasks write to data that they share"
    return ""


def _says_read_only(*texts: bytes) -> bool:
    return any(READ_ONLY in text and OF_ARRAYS.search(text) for text in texts)  # the first is fast on large results


def _run(
    call: JoblibCall,
    differs: tuple[str, ...],
    settings: ProgramSettings,
    seeds: frozenset[str],
    own: Mapping[int, str],
    *,
    shares_memory: bool,
) -> Outcome:
    function, arguments, keywords = call
    started, cancelled = time.perf_counter(), False
    with (
        captured(raw=settings.taken_in != process_token()) as (stdout, stderr),
        captured_warnings() as warned,
        captured_log(settings.levels, stdout, stderr) as log,
        guarded(in_order=shares_memory) as watched,
        watched_draws(settings.seeded | seeds) as draws,
    ):
        try:
            result = function(*arguments, **keywords)
            seconds = time.perf_counter() - started
        except BaseException as error:
            outcome = _failed(error, started, as_raised=shares_memory)
            watched.note_error(error)
            cancelled = isinstance(error, TaskCancelled)
        else:
            outcome = _finished(result, seconds, own, call if shares_memory else None)
    ended = time.time()
    generators = states(draws.seeded) if shares_memory else {}
    if generators:
        watched.effects.add(SEEDED)
    if watched.refused or cancelled:
        remove_created(watched.created | watched.scratch)
    if watched.refused:
        return replace(outcome, ok=False, content=b"", refused=watched.refused)
    return replace(
        outcome,
        stdout=stdout.text,
        stderr=stderr.text,
        cuts=(tuple(stdout.cuts), tuple(stderr.cuts)),
        warnings=tuple(warned),
        differs=differs,
        effects=tuple(sorted(watched.effects)),
        created=tuple(sorted(watched.created | watched.scratch)) if shares_memory else (),
        missing=tuple(sorted(watched.missing)),
        read=tuple((path, *found) for path, found in sorted(watched.read.items())),
        inner_threads=inner_threads(),
        logged=log.result,
        drawn=tuple(sorted(draws.drawn)),
        generators=generators,
        ended=ended,
    )


def _finished(result: Any, seconds: float, own: Mapping[int, str], sharing: JoblibCall | None) -> Outcome:
    """Return the outcome of a call that returned. `sharing` is the call if it shares its arguments with the program.

    `own` are the program's own objects, which must not come back as copies.
    """
    try:
        if sharing is None:
            return Outcome(True, dumps(result), seconds)
        content, returned = dumps_result(result, sharing, own)
        return Outcome(True, content, seconds, returned=tuple(returned))
    except CannotReturn as error:
        return Outcome(False, b"", seconds, refused=f"its results are not what they are in one process: {error}")
    except Exception as error:  # whatever its objects raise
        return Outcome(False, b"", seconds, refused=f"its results cannot be sent back: {_error_text(error)}")


def _failed(error: BaseException, started: float, *, as_raised: bool = False) -> Outcome:
    """Return the outcome of a call that raised; `as_raised` if plain Python raises it in the program's process."""
    seconds = time.perf_counter() - started
    content = _pickled_error(error, as_raised)
    if not content:
        return Outcome(False, b"", seconds, refused=f"its error cannot be sent back: {_error_text(error)}")
    causes = _causes_of(error, MAX_CAUSES) if as_raised else NO_CAUSES
    return Outcome(False, content, seconds, _user_traceback(error), causes=causes)


def _causes_of(error: BaseException, depth: int) -> Causes:
    def linked(other: BaseException | None) -> tuple[bytes, Causes] | None:
        if other is None or not depth:
            return None
        return _pickled_error(other, as_raised=False), _causes_of(other, depth - 1)

    cause = linked(error.__cause__)
    context = None if error.__context__ is error.__cause__ else linked(error.__context__)
    return Causes(cause, context or cause, error.__suppress_context__)


def _pickled_error(error: BaseException, as_raised: bool) -> bytes:
    """Return the pickled exception if it can be read back; otherwise one with its text, or nothing if `as_raised`.

    A class that builds its message from other arguments builds it again from that message when it is unpickled: so a
    program gets it from joblib's processes. With `as_raised` it gets the one that was raised, as in its own process.
    """

    def as_reduced() -> Any:
        # Not by `pickle` itself: tblib, which distributed installs, takes exceptions apart in a way of its own, and a
        # SystemExit then has no `code` (tblib 3.2; `pickle.loads(pickle.dumps(SystemExit(4))).code` tells).
        return error.__reduce_ex__(5)

    def by_parts() -> Any:
        """Reduce a class that cannot be called with its `args`, such as one that takes only keywords."""
        return _rebuild, (type(error), error.args, vars(error))

    def as_text() -> Any:
        return RuntimeError, (_error_text(error),)

    for reduced in (as_reduced, by_parts) if as_raised else (as_reduced, by_parts, as_text):
        with suppress(Exception):
            content = dumps(_Reduced(reduced()))
            again = pickle.loads(content)  # noqa: S301 - our own bytes: many can be pickled and not read back
            if not as_raised or str(again) == str(error):
                return content
    assert as_raised, "an error of plain text can be pickled"  # noqa: S101
    return b""


class _Reduced:
    """Pickles as the object that these parts reduce to."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return self._parts


def _rebuild(kind: type[BaseException], arguments: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(state)
    return error


def _error_text(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        return f"{name}: {error}"
    except Exception:  # its own `__str__` fails
        return name


def _user_traceback(error: BaseException) -> str:
    """Return the traceback without this file's own frame at the top."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, frames))
