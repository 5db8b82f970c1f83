"""Decide whether a Parallel call goes to workers, or runs in the program's own process.

Workers can give the results of plain Python if the call can be sent, asks for nothing that workers lack, and has no
effect in the program's own process. What the first task shows is decided here, before anything is sent; what only a
later task shows comes back from workers as a refusal (`guard.py`, `shared_state.py`).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType, FunctionType, GeneratorType
from typing import Any

from joblib.parallel import Parallel

from skjob.engine.fidelity.job_counts import NOT_GIVEN
from skjob.engine.fidelity.monkeypatches import Patches
from skjob.engine.joblib_calls import JoblibCall, inner_function, iter_nested

THREADED_PACKAGES = frozenset({"sklearn", "imblearn"})
"""Packages whose own tasks may run in processes although they ask for threads: they change nothing that they share.

The tests have a row for each (tests/integration/test_fidelity.py).
"""

LIBRARIES = frozenset({"joblib", "sklearn", "imblearn", "skjob", "xgboost", "lightgbm", "dask_ml", "contextlib"})
"""Packages whose frames lie between a Parallel call and the line of the program that makes it."""

PARALLEL_MODULES = ("joblib.", "sklearn.utils.parallel", "skjob.engine.")
"""Modules with a Parallel class, whose frames lie between a call of it and what calls it."""


@dataclass(frozen=True)
class CallSite:
    """The line of the program that a Parallel call comes from."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{PurePath(self.file).name}:{self.line}"


@dataclass
class CallSiteNotes:
    """What is known of the lines of the program that Parallel calls come from."""

    local: dict[CallSite, str] = field(default_factory=dict)
    """Why the calls of a line run in the program's process."""
    patches: Patches = field(default_factory=Patches)
    """Finds functions of libraries that the program has replaced."""
    unseen_reported: set[CallSite] = field(default_factory=set)
    """The lines of which it is reported what their tasks may have changed without being seen."""
    ahead_reported: set[CallSite] = field(default_factory=set)
    """The lines of which it is reported that their tasks begin before the program takes the results before them."""


def call_site(frame: FrameType | None) -> CallSite:
    """Return the line of the program that led to a frame: the first outside joblib and the packages based on it."""
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
        frame = frame.f_back
    return CallSite(frame.f_code.co_filename, frame.f_lineno) if frame is not None else CallSite("", 0)


def is_of_program(frame: FrameType | None) -> bool:
    """Return whether the program itself calls a Parallel object, and not scikit-learn or another library for it."""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(PARALLEL_MODULES):
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] not in LIBRARIES


def prefers_threads(configured: Mapping[str, Any]) -> bool:
    """Return whether a Parallel object asks for threads, by its argument or by the program's configuration."""
    return configured.get("prefer") == "threads" or configured.get("require") == "sharedmem"


def shares_memory(parallel: Parallel) -> bool:
    """Return whether plain Python runs the tasks in the program's process: one after the other, or in threads."""
    return parallel.n_jobs == NOT_GIVEN or prefers_threads(parallel._backend_kwargs)


def shows_progress_itself(parallel: Parallel) -> bool:
    """Return whether the program has a Parallel class of its own that shows how many tasks are done."""
    return type(parallel).print_progress is not Parallel.print_progress


def why_in_order(parallel: Parallel, iterable: Iterable[JoblibCall]) -> str | None:
    """Return why the program sees that its tasks run one after the other, in a call of its own without `n_jobs`.

    A generator function may decide by results which tasks it makes; joblib reads it as it runs them. A generator
    expression is read ahead.
    """
    if isinstance(iterable, GeneratorType) and iterable.gi_code.co_name != "<genexpr>":
        return f"its tasks come from the generator `{iterable.gi_code.co_name}`, which may depend on their results"
    if shows_progress_itself(parallel):
        return f"`{type(parallel).__name__}` shows the progress of each task"
    return None


def is_of_threaded_package(call: JoblibCall) -> bool:
    """Return whether a task's function belongs to a package whose tasks may run in processes all the same."""
    module = getattr(inner_function(call[0]), "__module__", None)
    return str(module).partition(".")[0] in THREADED_PACKAGES


def why_local(call: JoblibCall, *, shares_memory: bool, threads: bool) -> str | None:
    """Return why a call with this first task runs in the program's own process; None if it may go to workers.

    Parameters
    ----------
    call : tuple of function, arguments and keyword arguments
        The first task.
    shares_memory : bool
        Whether plain Python would run the tasks in the program's process, one after the other or in threads.
    threads : bool
        Whether the call asks for threads.
    """
    if threads and not is_of_threaded_package(call):
        return "it asks for threads"
    for part in iter_nested([call]):
        if isinstance(part, GeneratorType):
            return "a generator is among its arguments"
        if _is_writable_memmap(part) or any(_is_writable_memmap(value) for value in _globals_of(part)):
            return "its tasks share a writable memory map"
        if shares_memory and _is_random_generator(part) and not is_of_threaded_package(call):
            return "its tasks share a random generator"
    return None


def _globals_of(part: Any) -> list[Any]:
    """Return the global variables that a function reads by name."""
    if not isinstance(part, FunctionType):
        return []
    return [part.__globals__[name] for name in part.__code__.co_names if name in part.__globals__]


def _is_writable_memmap(part: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(part, numpy.memmap) and part.mode in ("r+", "w+") and part.flags.writeable


def _is_random_generator(part: Any) -> bool:
    if isinstance(part, random.Random):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(part, numpy.random.Generator | numpy.random.RandomState)
