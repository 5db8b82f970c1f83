"""Which calls are too small to gain from workers, and how they run in the program's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import joblib
import pytest
import threadpoolctl

from skjob.engine.fidelity.job_counts import InnerBackend
from skjob.engine.fidelity.small_calls import (
    SENDING_SECONDS,
    CallKind,
    Measured,
    SmallCalls,
    gains_nothing,
    size_class,
)
from skjob.engine.fidelity.small_run import MIN_EXPECTED, SmallRun

KIND = CallKind("train.py:3", "work", "", 5, 0)


def _known(seconds: float = 0.001, tasks: int = 5) -> SmallCalls:
    known = SmallCalls()
    known.note_round_trip(0.01)
    known.inner_threads = 1
    known.note_call(KIND, Measured(tasks, seconds))
    return known


@pytest.mark.parametrize(
    ("tasks", "seconds", "small"),
    [(1, 0.001, True), (1, 0.1, False), (100, 0.1, True), (100, 0.3, False), (100, 1.0, False)],
)
def test_what_takes_longer_to_send_than_to_do_gains_nothing(tasks: int, seconds: float, small: bool) -> None:
    assert gains_nothing(Measured(tasks, seconds), round_trip=0.01) is small


def test_the_first_call_of_a_place_is_measured_on_workers() -> None:
    assert SmallCalls().local_seconds(KIND) is None
    known = _known()
    assert known.local_seconds(KIND) == 0.001
    assert known.local_seconds(CallKind("train.py:4", "work", "", 5, 0)) is None


def test_a_slow_cluster_makes_more_calls_small() -> None:
    known = SmallCalls()
    known.inner_threads = 1
    known.note_call(KIND, Measured(5, 0.1))
    known.note_round_trip(0.2)
    assert known.local_seconds(KIND) == 0.1
    known.note_round_trip(0.01)  # the shortest counts: the first had something else to do
    assert known.local_seconds(KIND) is None


def test_without_the_threads_of_a_worker_nothing_runs_here() -> None:
    """They decide on last digits."""
    known = _known()
    known.inner_threads = None
    assert known.local_seconds(KIND) is None


def test_sizes_are_alike_by_powers_of_two() -> None:
    assert size_class(1000) == size_class(600) != size_class(1100)
    assert size_class(0) == 0


def _run(known: SmallCalls, *, copies: bool = False, clock: Any = None, fits: Any = None) -> SmallRun:
    backend = InnerBackend(nesting_level=1, cores=4)
    times = {} if clock is None else {"clock": clock}
    return SmallRun(known, KIND, 0.001, backend, copies=copies, fits=fits, **times)


def _threads() -> int:
    return max(each["num_threads"] for each in threadpoolctl.threadpool_info())


def test_tasks_run_here_one_after_the_other_as_a_worker_would_run_them() -> None:
    before = _threads()
    tasks = [(function, (), {}) for function in (os.getpid, _threads, joblib.effective_n_jobs)]
    results, ended = _run(_known()).run(tasks)
    assert ended
    assert results == [os.getpid(), 1, 4]
    assert _threads() == before


def test_an_error_is_the_tasks_own() -> None:
    with pytest.raises(ZeroDivisionError):
        _run(_known()).run([(divmod, (1, 0), {})])


@pytest.mark.parametrize(("copies", "filled"), [(False, [1, 2]), (True, [])])
def test_what_a_task_changes(copies: bool, filled: list[int]) -> None:
    """As with processes, where plain Python has such."""
    into: list[int] = []
    _run(_known(), copies=copies).run([(into.append, (number,), {}) for number in (1, 2)])
    assert into == filled


def test_what_takes_too_long_goes_back_to_workers() -> None:
    seconds = iter(number * MIN_EXPECTED for number in range(100))
    known = _known()
    tasks: Iterator[Any] = iter([(abs, (-number,), {}) for number in range(50)])
    results, ended = _run(known, clock=lambda: next(seconds)).run(tasks)
    assert not ended
    assert results == list(range(len(results)))
    assert len(results) + len(list(tasks)) == 50
    assert known.local_seconds(KIND) is None


def test_a_call_that_becomes_slower_is_no_longer_small() -> None:
    known = _known()
    known.note_seconds(KIND, 5, 0.01 + 6 * SENDING_SECONDS)
    assert known.local_seconds(KIND) is None


class _Fits:
    """Stores what it is given, by the task's argument."""

    def __init__(self) -> None:
        self.stored: dict[Any, Any] = {(-1,): "found"}
        self.ended = False

    def identify(self, call: Any) -> Any:
        return call[1]

    def find(self, identity: Any, call: Any) -> Any:
        return self.stored.get(identity)

    def store(self, identity: Any, result: Any, seconds: float, differs: tuple[str, ...], *, shown: bool) -> None:
        self.stored[identity] = result

    def end(self) -> None:
        self.ended = True


def test_fits_are_found_and_stored() -> None:
    fits = _Fits()
    results, _ = _run(_known(), fits=fits).run([(abs, (-1,), {}), (abs, (-2,), {})])
    assert results == ["found", 2]
    assert fits.stored == {(-1,): "found", (-2,): 2}
    assert fits.ended
