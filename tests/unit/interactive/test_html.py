"""What a notebook shows of a cluster and of a cell's calls, as HTML and as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from live_states import BEGAN, NOW, begun, fits, search, with_cluster

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import CallFinished, CallStarted, TasksFinished
from skjob.interactive.html import MAX_ENDED, card, card_text, progress, progress_text
from skjob.interactive.observer import ClusterState, Status
from skjob.run.live.state import CostSoFar

pytestmark = pytest.mark.unit

READY = ClusterState(
    Status.READY, "skjob-train-1a2b", "Kubernetes: context `lab`, namespace `team-a`", "0.5 CPUs and 2 GiB",
    workers=WorkerCounts(4, 3, 2), cost=CostSoFar(0.04, "EUR", 2.0), began=BEGAN,
)  # fmt: skip


def text_of(html: str) -> str:
    """The text of HTML, a line for each element."""
    return re.sub(r"\n+", "\n", re.sub(r"<[^>]+>", "\n", re.sub(r"<style>.*?</style>", "", html))).strip()


def test_the_card_of_a_cluster_that_is_ready() -> None:
    assert text_of(card(READY)).splitlines() == [
        "skjob", "skjob-train-1a2b", "ready",
        "place", "Kubernetes: context `lab`, namespace `team-a`",
        "workers", "2 of 4, 1 starting, each with 0.5 CPUs and 2 GiB",
        "cost", "0.04 EUR of 2.00 EUR",
    ]  # fmt: skip
    assert card_text(READY) == (
        "skjob cluster skjob-train-1a2b: ready\n"
        "  place: Kubernetes: context `lab`, namespace `team-a`\n"
        "  workers: 2 of 4, 1 starting, each with 0.5 CPUs and 2 GiB\n"
        "  cost: 0.04 EUR of 2.00 EUR"
    )


def test_a_cluster_that_starts_says_what_it_waits_for() -> None:
    state = ClusterState(step="wait for the first worker", notes=["no node has room"])
    assert text_of(card(state)).splitlines() == ["skjob", "starting: wait for the first worker", "no node has room"]
    assert card_text(state) == "skjob cluster: starting: wait for the first worker\n  no node has room"


def test_a_cluster_that_has_ended_has_no_workers_and_keeps_its_cost() -> None:
    state = replace(READY, status=Status.CLOSED, ended=BEGAN + 41)
    assert text_of(card(state)).splitlines() == [
        "skjob", "skjob-train-1a2b", "closed after 41 s",
        "place", "Kubernetes: context `lab`, namespace `team-a`",
        "cost", "0.04 EUR of 2.00 EUR",
    ]  # fmt: skip


def test_a_dashboard_has_a_link_only_where_it_can_be_opened() -> None:
    assert "<a " not in card(READY)
    shown = card(replace(READY, link="http://127.0.0.1:4321/status"))
    assert '<a href="http://127.0.0.1:4321/status" target="_blank" rel="noopener noreferrer">' in shown
    assert card_text(replace(READY, link="http://127.0.0.1:4321/status")).endswith(
        "\n  dashboard: http://127.0.0.1:4321/status"
    )


def test_the_progress_of_a_search_has_the_numbers_of_the_terminal() -> None:
    state = with_cluster(begun(search(), *fits(97, reused=20)))
    shown = text_of(progress(state, NOW)).splitlines()
    assert shown[:5] == ["skjob", "2 of 4 workers, 1 starting", "43 s", "0.04 EUR of 2.00 EUR", "20 reused"]
    assert shown[5:9] == ["GridSearchCV(SVC)", "97 of 160 fits", "1.9/s", "about 33 s left"]
    assert shown[9:15] == ["#", "score", "±", "fits", "C", "kernel"]
    assert shown[15:21] == ["1", "0.91800", "0.014", "5/5", "18", "rbf"]
    assert len(shown) == 15 + 5 * 6
    assert 'style="width:60.6%"' in progress(state, NOW)
    assert progress_text(state, NOW).splitlines() == [
        "skjob: 2 of 4 workers, 1 starting, 43 s, 0.04 EUR of 2.00 EUR, 20 reused",
        "GridSearchCV(SVC)  97 of 160 fits  about 33 s left",
        "best of GridSearchCV(SVC): 0.91800 ± 0.014 (5/5 fits) C=18, kernel=rbf",
    ]


def test_when_the_last_call_has_ended_time_stands_still() -> None:
    state = begun(search(), *fits(160), CallFinished(1, BEGAN + 70))
    assert progress(state, NOW) == progress(state, NOW + 500)
    shown = text_of(progress(state, NOW + 500)).splitlines()
    assert shown[:5] == ["skjob", "70 s", "GridSearchCV(SVC)", "160 of 160 fits", "2.4/s"]
    assert "ended" in shown
    assert "sj-done" in re.sub(r"<style>.*?</style>", "", progress(state, NOW))


def test_of_many_calls_the_last_that_have_ended_and_those_that_run_are_shown() -> None:
    events = []
    for number in range(1, 9):
        events += [
            CallStarted(number, BEGAN, f"Forest{number}", tasks=2),
            TasksFinished(number, 2, "w", BEGAN, 1.0),
            CallFinished(number, BEGAN + number),
        ]
    shown = text_of(progress(begun(*events, search(9)), NOW))
    assert f"and {8 - MAX_ENDED} more calls before" in shown
    assert re.findall(r"Forest(\d)", shown) == ["4", "5", "6", "7", "8"]
    assert "GridSearchCV(SVC)" in shown


def test_nested_calls_stand_below_the_one_that_makes_them() -> None:
    shown = text_of(progress(begun(search(), CallStarted(2, NOW, "Forest", tasks=9, parent=1)), NOW))
    assert "└ Forest" in shown


def test_many_parameters_are_in_one_column() -> None:
    parameters = {f"parameter{number}": str(number) for number in range(6)}
    shown = text_of(progress(begun(search(), *fits(5, parameters=parameters)), NOW)).splitlines()
    assert "parameters" in shown
    assert "parameter0=0, parameter1=1, parameter2=2, parameter3=3, parameter4=4, parameter5=5" in shown


def test_lines_that_came_meanwhile_stand_below() -> None:
    state = begun(search())
    assert text_of(progress(state, NOW, ["a", "b"])).splitlines()[-2:] == ["a", "b"]
    assert progress_text(state, NOW, ["a", "b"]).splitlines()[-2:] == ["a", "b"]
