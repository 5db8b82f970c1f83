"""Test the one-line summary of a run, and the comparison of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from past_runs import a_forest, a_record, a_search, write_run

from skjob.run.events.searches import Searches
from skjob.run.history.collect import add_up
from skjob.run.history.compare import compare
from skjob.run.history.records import read_run
from skjob.run.history.summary import cost_of, summarize, summary_of
from skjob.run.record import RunOutcome

pytestmark = pytest.mark.unit


def test_a_run_in_a_line() -> None:
    summary = summary_of(add_up(a_record(), [*a_search(), *a_forest()]))
    assert (summary.program, summary.place, summary.status) == ("train.py", "local", "succeeded")
    assert (summary.fits, summary.reused, summary.failed, summary.searches) == (160, 15, 5, 1)
    assert summary.best == pytest.approx(0.93021, abs=1e-5)
    assert summary.parameters["kernel"] == "rbf"
    assert (summary.cost, summary.currency, summary.seconds) == (0.12, "EUR", 43.5)


def test_the_record_alone_gives_the_same_summary(tmp_path: Path) -> None:
    events = [*a_search(), *a_forest()]
    record = a_record(searches=Searches(events).summary())
    write_run(tmp_path, record, None)
    assert summarize(read_run(tmp_path, record.run_id)) == summary_of(add_up(record, events))


def test_a_run_that_goes_on_is_summed_up_from_its_events(tmp_path: Path) -> None:
    record = a_record(searches=[{"fits": 3}], outcome=RunOutcome("running"))
    write_run(tmp_path, record, list(a_search())[:-20])
    assert summarize(read_run(tmp_path, record.run_id)).fits == 141


@pytest.mark.parametrize("searches", [[{}], [{"fits": "x", "best": 5}], [{"best": {"score": "x", "parameters": []}}]])
def test_searches_that_are_otherwise_than_written_are_left_out(tmp_path: Path, searches: list[Any]) -> None:
    record = a_record(searches=searches)
    write_run(tmp_path, record, None)
    summary = summarize(read_run(tmp_path, record.run_id))
    assert (summary.fits, summary.best, summary.parameters) == (0, None, {})


def test_a_run_without_a_search_counts_its_other_calls() -> None:
    assert summary_of(add_up(a_record(), a_forest())).fits == 100


def test_the_record_of_an_earlier_version_tells_what_it_has() -> None:
    summary = summary_of(add_up(a_record(fits={"fits": 20, "found": 3}, cost={}), []))
    assert (summary.fits, summary.reused, summary.failed, summary.best) == (20, 3, None, None)
    assert (summary.cost, summary.currency) == (None, "")


@pytest.mark.parametrize("cost", [{}, {"most": 5.0}, {"amount": "x"}, {"amount": float("nan"), "currency": "EUR"}])
def test_a_cost_that_is_not_known_is_none(cost: dict[str, Any]) -> None:
    assert cost_of(cost) == (None, "")


def test_two_runs_side_by_side() -> None:
    first = add_up(a_record(), a_search())
    second = add_up(
        a_record(
            "20261130-000000-ffffff",
            versions={"python": "3.12.1", "scikit-learn": "1.9.1"},
            cluster={"name": "other", "workers": "4", "worker_threads": 1, "worker_memory": 2**31},
            outcome=RunOutcome("failed", 1),
            seconds=20.0,
        ),
        a_search(16),
    )
    values = {(each.section, each.name): each for each in compare(first, second)}
    assert ("settings", "name") not in values
    differing = {name: (each.first, each.second) for name, each in values.items() if not each.same}
    assert differing["settings", "workers"] == ("2", "4")
    assert differing["versions", "python"] == ("3.11.7", "3.12.1")
    assert differing["versions", "numpy"] == ("2.4.6", None)
    assert differing["run", "outcome"] == ("succeeded", "failed")
    assert differing["run", "seconds"] == (43.5, 20.0)
    assert differing["run", "best"][0] > differing["run", "best"][1]
    assert values["settings", "worker_threads"].same
    assert values["versions", "scikit-learn"].same
