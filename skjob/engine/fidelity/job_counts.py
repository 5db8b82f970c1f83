"""Answer how many jobs there are as joblib does without skjob.

Some estimators split their work into as many parts as there are jobs, and some of them get other results with other
parts: MDS draws from one random stream or from several, LatentDirichletAllocation adds up in other steps. So the answer
of `joblib.effective_n_jobs` must not depend on the cluster, except for callers whose results do not depend on it: they
get the cluster's width, and create a part for each of its threads.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from functools import cache
from types import CodeType, FrameType
from typing import Any

import cloudpickle
import joblib
from joblib._parallel_backends import SequentialBackend
from joblib.parallel import BACKENDS, Parallel

NOT_GIVEN = -(2**31)
"""The number of jobs that joblib hands to a backend if neither the call nor a configuration gives one.

joblib takes it from `default_n_jobs`. No program uses it, so it differs from a program's own `-1`.
"""

PLAIN_BACKEND = "loky"
"""joblib's own default (joblib 1.6.0)."""

WIDTH_INDEPENDENT: frozenset[tuple[str, str]] = frozenset(
    {
        ("sklearn.ensemble._bagging", "_fit"),
        ("sklearn.feature_selection._rfe", "fit"),
        ("sklearn.linear_model._theil_sen", "fit"),
    }
)
"""Functions of scikit-learn, by module and name, whose results are the same for any number of jobs, to the last bit.

Each row is a test in tests/integration/test_job_counts.py, at 1, 2 and 7 jobs.
"""

_CALLED_BY_PARALLEL: CodeType = Parallel._effective_n_jobs.__code__
_CALLER_DEPTH = 2
"""How many frames above `joblib.effective_n_jobs` are searched: `_partition_estimators` may be in between."""


def plain_number(n_jobs: int | None, nesting_level: int = 0) -> int:
    """Return the number of jobs that plain joblib has for `n_jobs`; None and `NOT_GIVEN` are its default, 1."""
    if n_jobs is None or n_jobs == NOT_GIVEN:
        return 1
    return int(BACKENDS[PLAIN_BACKEND](nesting_level=nesting_level).effective_n_jobs(n_jobs))


def called_by_parallel() -> bool:
    """Return whether the method that calls this was called by a Parallel object, and not by an estimator."""
    return sys._getframe(2).f_code is _CALLED_BY_PARALLEL


def called_by_width_independent() -> bool:
    """Return whether the caller of `joblib.effective_n_jobs` is in `WIDTH_INDEPENDENT`.

    `joblib.effective_n_jobs` has called the method that calls this.
    """
    frame: FrameType | None = sys._getframe(2).f_back  # that of `joblib.effective_n_jobs` is between
    for _ in range(_CALLER_DEPTH):
        if frame is None:
            return False
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in WIDTH_INDEPENDENT:
            return True
        frame = frame.f_back
    return False


class PlainBackend(Enum):
    """What a Parallel call uses in plain joblib, by how deeply it is nested in others with several jobs."""

    DEFAULT = auto()
    """Processes, or threads if the call asks for them."""
    THREADS = auto()
    """The first level below."""
    ONE_JOB = auto()
    """All levels below that: one job, whatever number is requested."""

    @property
    def inside(self) -> PlainBackend:
        """What calls inside the tasks of a call with several jobs use."""
        return PlainBackend.THREADS if self is PlainBackend.DEFAULT else PlainBackend.ONE_JOB


class InnerBackend(SequentialBackend):  # type: ignore[misc]
    """The backend of Parallel calls inside a task: they run sequentially, as all cores of the worker are in use.

    An estimator that asks for the number of jobs gets the one that plain joblib has on the program's machine, at that
    depth.

    Parameters
    ----------
    cores : int
        The number of cores of the program's machine.
    plain : PlainBackend
        What the calls use in plain joblib.
    """

    def __init__(
        self,
        nesting_level: int | None = None,
        cores: int = 1,
        plain: PlainBackend = PlainBackend.DEFAULT,
        **arguments: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, **arguments)
        self.cores = cores
        self.plain = plain

    @property
    def in_key(self) -> tuple[str, int]:
        """What the results of estimators that ask for the number of jobs depend on."""
        return self.plain.name, self.cores

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return 1 for a Parallel object, and joblib's number for an estimator."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return 1 if n_jobs is None or called_by_parallel() else self._plain_number(n_jobs)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: str | None = None, require: str | None = None, **_: Any
    ) -> int:
        """Return the number of jobs of a Parallel object: 1.

        If it has several jobs in plain joblib, calls inside its tasks are a level deeper. If these are processes, its
        tasks get copies of their arguments: each of those that share a random generator draws the same numbers from
        it. Threads draw from one and the same.
        """
        self.parallel = parallel
        if self._plain_number(n_jobs) > 1 and _RUN not in vars(parallel):
            in_threads = self.plain is PlainBackend.THREADS or prefer == "threads" or require == "sharedmem"
            inside = InnerBackend((self.nesting_level or 0) + 1, self.cores, self.plain.inside)
            run = getattr(parallel, _RUN)
            setattr(parallel, _RUN, lambda tasks: run(_deeper(tasks, inside, copies=not in_threads)))
        return 1

    def _plain_number(self, n_jobs: int) -> int:
        return 1 if self.plain is PlainBackend.ONE_JOB else _number(n_jobs, self.cores)


def _number(n_jobs: int, cores: int) -> int:
    return n_jobs if n_jobs > 0 else max(cores + 1 + n_jobs, 1)


def _deeper(tasks: Iterable[Any], inside: InnerBackend, *, copies: bool) -> Iterator[Any]:
    for task in tasks:
        yield _run_with, (inside, *(as_sent(task) if copies else task)), {}


def _run_with(backend: InnerBackend, function: Any, arguments: Any, keywords: Any) -> Any:
    with joblib.parallel_config(backend=backend, n_jobs=None):
        return function(*arguments, **keywords)


_RUN = "_get_sequential_output"
"""The method by which a Parallel object runs its tasks one after the other (joblib 1.6.0)."""

_SHARED = 2**20
"""Bytes from which joblib lets processes share an array, read-only."""


def as_sent(task: Any) -> Any:
    """Return a task as one of joblib's processes would get it."""
    buffers: list[Any] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _SHARED:
            return True
        buffers.append(view.toreadonly())
        return False

    content = cloudpickle.dumps(task, protocol=5, buffer_callback=in_band)
    return pickle.loads(content, buffers=buffers)  # noqa: S301 - made in the line above


def inner_backend(n_jobs: int, nesting_level: int = 0) -> InnerBackend:
    """Return the backend for calls inside the tasks of a call.

    Parameters
    ----------
    n_jobs : int
        The number of jobs that the call asks for.
    nesting_level : int
        The depth of the call itself.
    """
    jobs = 1 if n_jobs == NOT_GIVEN else _number(n_jobs, _cores())
    levels = list(PlainBackend)
    plain = levels[min(nesting_level + (jobs > 1), len(levels) - 1)]  # one job is no level
    return InnerBackend(nesting_level + 1, _cores(), plain)


@cache
def _cores() -> int:
    """Return the cores that joblib counts. It reads files for that, and each batch needs the number."""
    return int(joblib.cpu_count())
