"""How many jobs there are, asked from different places."""

from __future__ import annotations

import os

import joblib
import numpy
import pytest
from joblib import Parallel, delayed

from skjob.engine.fidelity.job_counts import (
    NOT_GIVEN,
    WIDTH_INDEPENDENT,
    InnerBackend,
    PlainBackend,
    inner_backend,
    plain_number,
)


@pytest.mark.parametrize("n_jobs", [1, 2, 7, -1, -2, -100])
def test_a_number_is_joblibs_own(n_jobs: int) -> None:
    with joblib.parallel_config(backend="loky"):
        assert plain_number(n_jobs) == joblib.effective_n_jobs(n_jobs)


@pytest.mark.parametrize("n_jobs", [None, NOT_GIVEN])
def test_no_number_is_one_job(n_jobs: int | None) -> None:
    assert plain_number(n_jobs) == 1 == joblib.effective_n_jobs(None)


@pytest.mark.parametrize(("n_jobs", "number"), [(None, 1), (1, 1), (3, 3), (-1, 4), (-2, 3), (-100, 1)])
def test_inside_a_task_an_estimator_gets_the_number_of_the_programs_machine(n_jobs: int | None, number: int) -> None:
    with joblib.parallel_config(backend=InnerBackend(nesting_level=1, cores=4)):
        assert joblib.effective_n_jobs(n_jobs) == number


def test_inside_a_task_calls_run_one_after_the_other() -> None:
    with joblib.parallel_config(backend=InnerBackend(nesting_level=1, cores=4)):
        parallel = Parallel(n_jobs=3)
        assert parallel._effective_n_jobs() == 1
        assert set(parallel(delayed(os.getpid)() for _ in range(5))) == {os.getpid()}


def test_the_table_names_what_is_there() -> None:
    """A release that renames one of these functions would let it stop to scale."""
    import importlib
    import inspect

    for module, function in sorted(WIDTH_INDEPENDENT):
        classes = inspect.getmembers(importlib.import_module(module), inspect.isclass)
        assert any(function in vars(kind) for _, kind in classes), (module, function)


def test_inside_a_task_processes_share_no_random_generator() -> None:
    """As without skjob: each gets a copy, from which it draws the same numbers."""
    generator = numpy.random.RandomState(0)
    first = numpy.random.RandomState(0).random_sample()
    with joblib.parallel_config(backend=InnerBackend(nesting_level=1, cores=4)):
        assert Parallel(n_jobs=2)(delayed(generator.random_sample)() for _ in range(3)) == [first] * 3
        one_after_the_other = Parallel()(delayed(generator.random_sample)() for _ in range(3))
    assert one_after_the_other == list(numpy.random.RandomState(0).random_sample(3))


def test_inside_a_task_threads_share_what_they_are_given() -> None:
    seen: list[int] = []
    with joblib.parallel_config(backend=InnerBackend(nesting_level=1, cores=4)):
        Parallel(n_jobs=2, prefer="threads")(delayed(seen.append)(number) for number in range(3))
        assert seen == [0, 1, 2]
        Parallel(n_jobs=2)(delayed(seen.append)(number) for number in range(3))
    assert seen == [0, 1, 2]


def test_inside_a_task_of_several_jobs_calls_use_threads() -> None:
    """As without skjob: they share a random generator, which processes would not."""
    generator = numpy.random.RandomState(0)
    with joblib.parallel_config(backend=inner_backend(2)):
        drawn = Parallel(n_jobs=2)(delayed(generator.random_sample)() for _ in range(3))
    assert drawn == list(numpy.random.RandomState(0).random_sample(3))


@pytest.mark.parametrize(
    ("n_jobs", "nesting_level", "plain"),
    [
        (NOT_GIVEN, 0, PlainBackend.DEFAULT),
        (2, 0, PlainBackend.THREADS),
        (NOT_GIVEN, 1, PlainBackend.THREADS),
        (2, 1, PlainBackend.ONE_JOB),
        (2, 2, PlainBackend.ONE_JOB),
    ],
)
def test_one_job_is_no_level(n_jobs: int, nesting_level: int, plain: PlainBackend) -> None:
    assert inner_backend(n_jobs, nesting_level).plain is plain


def _numbers(*asked: int | None) -> list[int]:
    """Return the answers to an estimator at each level of calls within calls with these numbers of jobs."""
    if not asked:
        return [joblib.effective_n_jobs(3)]
    [deeper] = Parallel(n_jobs=asked[0])([delayed(_numbers)(*asked[1:])])
    return [joblib.effective_n_jobs(3), *deeper]


@pytest.mark.parametrize("asked", [(2, 2, 2), (None, 2, 2), (2, None, 2, None), (1, 1, 2, 2, 2)])
def test_at_each_depth_it_is_joblibs_number(asked: tuple[int | None, ...]) -> None:
    with joblib.parallel_config(backend="threading"):
        expected = Parallel(n_jobs=2)([delayed(_numbers)(*asked)])
    with joblib.parallel_config(backend=inner_backend(2)):
        assert [_numbers(*asked)] == expected
