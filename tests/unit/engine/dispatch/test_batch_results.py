"""Batches are settled once: with results in the order that plain Python has, or with an error that names the call."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skjob.engine.dispatch.batch import Batch, BatchTask, KnownResult, WorkersLost
from skjob.engine.dispatch.batch_results import BatchResults
from skjob.engine.dispatch.measurements import CallMeasurements
from skjob.engine.dispatch.outstanding import OutstandingTasks
from skjob.engine.fidelity.replay import CallRefused
from skjob.engine.fidelity.small_calls import Measured, SmallCalls
from skjob.engine.priorities import WorkEstimate
from skjob.engine.task import Outcome
from skjob.engine.task_warnings import TaskWarning
from skjob.utils.reconnect import ABANDONED

DONE = Outcome(True, pickle.dumps(1), 2.0)
FAILED = Outcome(False, pickle.dumps(ValueError()), 1.0)


class _Call:
    """The results of one call, with the data that was released and the fits that were stored."""

    def __init__(self, *, in_order: bool = False) -> None:
        self.released: list[Any] = []
        self.stored: list[Any] = []
        self.client = SimpleNamespace(extensions={})
        self.outstanding = OutstandingTasks()
        self.measurements = CallMeasurements(SmallCalls())
        data: Any = SimpleNamespace(release=self.released.append)
        fits: Any = SimpleNamespace(store=lambda *parts, shown: self.stored.append((*parts, shown)))
        client: Any = self.client
        self.results = BatchResults(client, self.outstanding, data, self.measurements, fits, in_order=in_order)

    def submit(self, calls: int = 1, start: int = 0) -> tuple[int, BatchTask]:
        """A batch that is out as one task."""
        batch = Batch([(int, (), {})] * calls, [None] * calls, [None] * calls, [None] * calls, start)
        self.results.expect(batch)
        task = BatchTask(batch, list(range(calls)), data={"key": start})
        number = self.outstanding.add(task)
        assert number is not None
        return number, task


def test_a_task_that_is_taken_gives_its_data_back() -> None:
    call = _Call()
    number, task = call.submit()
    task.payload = b"..."
    assert call.results.take(number)
    assert not call.results.take(number)
    assert (call.released, task.payload, task.remote) == ([{"key": 0}], b"", None)


def test_a_batch_is_settled_when_each_of_its_calls_has_a_result() -> None:
    call = _Call()
    _, task = call.submit(2)
    call.results.complete(BatchTask(task.batch, [1]), [DONE])
    assert not task.batch.future.done()
    call.results.complete(BatchTask(task.batch, [0]), [KnownResult(7)])
    assert task.batch.future.result() == [KnownResult(7), DONE]


def test_calls_after_one_that_failed_are_not_missed() -> None:
    call = _Call()
    _, task = call.submit(3)
    call.results.complete(task, [DONE, FAILED])
    assert task.batch.future.result() == [DONE, FAILED]


def test_a_failed_batch_waits_for_those_before_it() -> None:
    call = _Call(in_order=True)
    tasks = [call.submit(start=start)[1] for start in range(3)]
    futures = [task.batch.future for task in tasks]
    call.results.complete(tasks[2], [FAILED])
    call.results.complete(tasks[1], [DONE])
    assert [future.done() for future in futures] == [False, True, False]
    call.results.complete(tasks[0], [DONE])
    assert [future.result() for future in futures] == [[DONE], [DONE], [FAILED]]


def test_a_failed_batch_waits_for_none_where_tasks_share_nothing() -> None:
    call = _Call()
    call.submit()
    _, later = call.submit(start=1)
    call.results.complete(later, [FAILED])
    assert later.batch.future.result() == [FAILED]


def test_a_refused_call_is_an_error_of_its_own() -> None:
    call = _Call(in_order=True)
    call.submit()
    _, later = call.submit(start=1)
    call.results.complete(later, [Outcome(False, b"", 0.0, refused="it writes files")])
    with pytest.raises(CallRefused, match="it writes files"):
        later.batch.future.result()


def test_a_task_that_missed_a_file_of_this_machine_is_refused(tmp_path: Path) -> None:
    call = _Call()
    _, task = call.submit()
    (tmp_path / "here.csv").write_text("")
    missing = (str(tmp_path / "elsewhere.csv"), str(tmp_path / "here.csv"))
    call.results.complete(task, [Outcome(True, pickle.dumps(1), 1.0, missing=missing)])
    with pytest.raises(CallRefused, match=r"its tasks read `here\.csv`, which is not on the workers"):
        task.batch.future.result()


@pytest.mark.parametrize(("effects", "stored"), [((), 1), (("wrote files",), 0)])
def test_a_fit_is_stored_unless_it_had_effects(effects: tuple[str, ...], stored: int) -> None:
    call = _Call()
    _, task = call.submit()
    task.batch.identities[0] = "the fit"  # type: ignore[call-overload]
    call.results.complete(task, [Outcome(True, pickle.dumps(1), 2.0, effects=effects)])
    assert call.stored == [("the fit", 1, 2.0, (), (), False)] * stored


def test_a_fit_that_could_not_be_scored_is_not_stored() -> None:
    call = _Call()
    _, task = call.submit()
    task.batch.identities[0] = "the fit"  # type: ignore[call-overload]
    warned = TaskWarning("Scoring failed. The score on this train-test partition …", "builtins", "UserWarning", "", 1)
    call.results.complete(task, [Outcome(True, pickle.dumps(1), 2.0, warnings=(warned,))])
    assert call.stored == []


def test_a_result_that_cannot_be_read_fails_its_batch() -> None:
    call = _Call()
    _, task = call.submit()
    task.batch.identities[0] = "the fit"  # type: ignore[call-overload]
    call.results.complete(task, [Outcome(True, b"no pickle", 2.0)])
    with pytest.raises(pickle.UnpicklingError) as caught:
        task.batch.future.result()
    assert caught.value.__notes__ == ["while `int` was sent to a worker"]


def test_an_error_settles_a_batch_once() -> None:
    call = _Call()
    number, task = call.submit()
    call.results.fail(number, WorkersLost("no worker came"))
    call.results.fail(number, ValueError())
    with pytest.raises(WorkersLost, match=r"^`int` cannot be finished: no worker came$"):
        task.batch.future.result()
    assert len(call.released) == 1


def test_all_that_is_out_or_quarantined_fails() -> None:
    call = _Call()
    tasks = [call.submit(start=start)[1] for start in range(2)]
    waiting = BatchTask(Batch([(str, (), {})], [None], [None], [None], 2), [0], quarantined=True)
    call.outstanding.quarantine([waiting])
    call.results.fail_all(WorkersLost("nobody is left"))
    for task in (*tasks, waiting):
        assert isinstance(task.batch.future.exception(), WorkersLost)
    assert len(call.outstanding) == 0


def test_a_client_that_was_given_up_says_why() -> None:
    call = _Call()
    number, task = call.submit()
    call.client.extensions[ABANDONED] = "the cluster is gone"
    call.results.fail(number, OSError("broken pipe"))
    with pytest.raises(WorkersLost, match="the cluster is gone"):
        task.batch.future.result()


def test_what_is_no_fit_cannot_become_a_failed_one() -> None:
    call = _Call()
    _, task = call.submit()
    call.results.give_up(task, WorkersLost("`int` ended 3 workers"))
    with pytest.raises(WorkersLost, match="`int` ended 3 workers"):
        task.batch.future.result()


def test_a_call_is_measured_if_all_of_it_ran_on_workers() -> None:
    call = _Call()
    for start in range(2):
        call.results.complete(call.submit(start=start)[1], [DONE])
    assert call.measurements.total(2) == Measured(2, 4.0)
    call.results.complete(call.submit(start=2)[1], [KnownResult(1)])
    assert call.measurements.total(3) is None


def test_a_call_with_effects_is_not_measured() -> None:
    call = _Call()
    call.results.complete(call.submit()[1], [Outcome(True, pickle.dumps(1), 1.0, effects=("connected",))])
    assert call.measurements.total(1) is None


def test_a_task_is_expected_to_take_as_long_as_its_calls() -> None:
    call = _Call()
    _, task = call.submit(2)
    assert call.measurements.expected(task) is None
    task.batch.estimates[:] = [WorkEstimate("a", 10.0), WorkEstimate("b", 30.0)]
    assert call.measurements.expected(task) == 40.0
    call.measurements.note_fit(WorkEstimate("c", 100.0), 50.0)
    assert call.measurements.expected(task) == 20.0
