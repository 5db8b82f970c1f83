"""Test times of workers on the client's clock."""

from __future__ import annotations

from skjob.engine.reporting.worker_clocks import MAX_DELAY, WorkerClocks


def test_the_fastest_result_of_a_worker_shows_how_far_its_clock_is_behind() -> None:
    clocks = WorkerClocks()
    assert clocks.on_client("a", 900.0, 1000.5) == 1000.5
    assert clocks.on_client("a", 910.0, 1010.1) == 1010.1
    # A delayed result: its task ended earlier.
    assert clocks.on_client("a", 920.0, 1025.0) == 1020.1
    assert clocks.on_client("b", 5000.0, 1025.0) == 1025.0  # each worker has its own clock


def test_a_clock_that_has_been_set_is_measured_again() -> None:
    clocks = WorkerClocks()
    clocks.on_client("a", 1000.0, 1000.0)
    assert clocks.on_client("a", 900.0, 1001.0 + MAX_DELAY) == 1001.0 + MAX_DELAY
