"""Test the content of the live view, as text."""

from __future__ import annotations

import math
import re

import pytest
from live_states import BEGAN, NOW, begun, fits, search, with_cluster
from rich.cells import cell_len

from skjob.cli.live.content import view
from skjob.cli.live.render import to_lines
from skjob.engine.events import CallFinished, CallStarted, FitFinished, FitStatus, TasksFinished
from skjob.run.live.state import RunState
from skjob.utils.text import visible


def shown(state: RunState, width: int = 80, height: int = 12, encoding: str = "utf-8") -> list[str]:
    lines = to_lines(view(state, NOW, width, height), width, height, colour=False, encoding=encoding)
    return [line.rstrip() for line in lines]


def test_a_search() -> None:
    state = with_cluster(begun(search(), *fits(97, reused=20)))
    assert shown(state, 100) == [
        "skjob  2 of 4 workers, 1 starting  43 s  0.04 EUR of 2.00 EUR  20 reused ───────────────────────────",
        "GridSearchCV(SVC)  ━━━━━━━━━━━━━━━━━━━━━━━━                  97 of 160 fits  1.9/s  about 33 s left",
        "#  score    ±      fits  C   kernel",
        "1  0.91800  0.014  5/5   18  rbf",
        "2  0.91700  0.014  5/5   17  rbf",
        "3  0.91600  0.014  5/5   16  rbf",
        "4  0.91500  0.014  5/5   15  rbf",
        "5  0.91400  0.014  5/5   14  rbf",
    ]


def test_a_search_on_50_columns() -> None:
    state = with_cluster(begun(search(), *fits(97, reused=20)))
    assert shown(state, 50)[:4] == [
        "skjob  2/4 workers  43 s  0.04 EUR of 2.00 EUR ───",
        "GridSearchCV(SVC)  ━━━━━━━       97/160  33 s left",
        "#  score    ±      fits  C   kernel",
        "1  0.91800  0.014  5/5   18  rbf",
    ]


def test_a_search_on_30_columns() -> None:
    assert shown(begun(search(), *fits(97)), 30)[:4] == [
        "skjob  43 s ──────────────────",
        "GridSearch…  97/160  26 s left",
        "#  score    C   kernel",
        "1  0.91800  18  rbf",
    ]


def test_before_the_first_fit_there_is_no_rate_and_no_time_left() -> None:
    assert shown(begun()) == ["skjob  43 s " + "─" * 68]
    assert shown(begun(search()))[1].split() == ["GridSearchCV(SVC)", "0", "of", "160", "fits"]


def test_a_candidate_that_lacks_splits_shows_the_mean_of_those_there_are() -> None:
    assert shown(begun(search(), *fits(2)))[3] == "1  0.88500  0.005  2/5   0  rbf"


def test_failed_candidates_are_counted_and_not_listed() -> None:
    failed = [FitFinished(1, 5, 1, 0, {"C": "9"}, {"score": math.nan}, status=FitStatus.FAILED, error="ValueError: x")]
    lines = shown(begun(search(), *fits(5), *failed))
    assert lines[0].startswith("skjob  43 s  1 failed ─")
    assert [line.split()[:2] for line in lines[3:]] == [["1", "0.90000"]]


def test_candidates_with_all_splits_lead_and_one_score_has_no_spread() -> None:
    early = FitFinished(1, 5, 1, 0, {"C": "9"}, {"score": 0.99})
    lines = shown(begun(search(), *fits(5), early))
    assert [line.split()[:4] for line in lines[3:]] == [["1", "0.90000", "0.014", "5/5"], ["2", "0.99000", "1/5", "9"]]


def test_parameters_that_are_too_wide_for_columns_share_one() -> None:
    parameters = {f"pipeline__step__parameter_{name}": "1" * 40 for name in "abc"}
    lines = shown(begun(search(), *fits(5, parameters=parameters)))
    assert lines[2] == "#  score    ±      fits  parameters"
    assert lines[3] == "1  0.90000  0.014  5/5   pipeline__step__parameter_a=" + "1" * 26 + "…"


def test_a_long_value_is_cut_in_its_column() -> None:
    lines = shown(
        begun(search(), *fits(5, parameters={"kernel": "ConstantKernel(1.0) * RBF(length_scale=1.0)", "C": "1"}))
    )
    assert lines[3] == "1  0.90000  0.014  5/5   ConstantKer…  1"


def test_a_forest_has_no_candidates() -> None:
    forest = CallStarted(1, BEGAN + 3, "RandomForestClassifier", tasks=300)
    lines = shown(begun(forest, TasksFinished(1, 84, "w", BEGAN + 3, 40.0)))
    assert len(lines) == 2
    assert lines[1].split() == [
        "RandomForestClassifier", *lines[1].split()[1:2],
        "84", "of", "300", "tasks", "2.1/s", "about", "2", "min", "left",
    ]  # fmt: skip


def test_a_call_whose_total_is_unknown() -> None:
    call = CallStarted(1, BEGAN + 3, "work")
    assert shown(begun(call, TasksFinished(1, 84, "w", BEGAN + 3, 40.0)))[1].split() == ["work", "84", "tasks", "2.1/s"]


def test_nested_calls_stand_below_the_call_that_makes_them_and_several_are_told_apart() -> None:
    state = begun(
        CallStarted(1, BEGAN, "cross_validate", "GridSearchCV", tasks=5),
        search(3, name="RandomizedSearchCV", estimator="Ridge"),
        search(2, parent=1),
        *fits(5, call=2),
    )
    lines = shown(state, 90)
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "cross_validate(GridSearchCV)",
        "└ GridSearchCV(SVC)",
        "RandomizedSearchCV(Ridge)",
    ]
    assert lines[4] == "best of GridSearchCV(SVC):"
    assert lines[6].startswith("1  0.90000 ")


def test_calls_beyond_the_height_are_counted() -> None:
    lines = shown(begun(*(CallStarted(each, BEGAN, f"call {each}", tasks=1) for each in range(9))), height=6)
    assert [line.split("  ")[0] for line in lines[1:]] == ["call 0", "call 1", "call 2", "and 6 more calls"]


def test_a_halving_search_shows_its_last_iteration_that_has_scores() -> None:
    first = search(1, name="HalvingGridSearchCV", iteration=0, candidates=2)
    state = begun(first, *fits(10), CallFinished(1, NOW - 1))
    second = search(2, name="HalvingGridSearchCV", iteration=1, candidates=1)
    state.add(CallStarted(**{**vars(second), "search": 1}))
    lines = shown(state, 90)
    assert lines[1].startswith("HalvingGridSearchCV(SVC), iteration 1 ")
    assert lines[3].startswith("1  0.90100 ")
    for event in fits(1, call=2):
        state.add(event)
    assert [line.split()[1] for line in shown(state, 90)[3:]] == ["0.88000"]


def test_between_two_calls_the_one_that_ended_last_stays() -> None:
    state = begun(search(), *fits(5), CallFinished(1, BEGAN + 13))
    assert shown(state)[1].endswith("5 of 160 fits  30/min  ended 30 s ago")
    assert shown(state)[3].startswith("1  0.90000 ")


def test_a_search_whose_best_a_callable_chooses_has_no_ranking() -> None:
    assert len(shown(begun(search(metric=""), *fits(10)))) == 2


def test_the_first_of_several_metrics_is_named() -> None:
    state = begun(search(metric="score", metric_is_first=True), *fits(5))
    assert shown(state)[2] == "best of GridSearchCV(SVC) by score, the first of its metrics:"


@pytest.mark.parametrize("value", ["\x1b[31mred", "a\rb", "a\nb", "\u202ea", "\x07\x00", "[red]x[/red]", "\x9b31m"])
def test_values_of_a_program_are_text(value: str) -> None:
    text = visible(value)
    state = begun(search(estimator=value), *fits(5, parameters={value: value}))
    lines = shown(state)
    assert lines[1].startswith(f"GridSearchCV({text})  ")
    assert lines[2].split("fits  ")[1] == text
    assert lines[3].split("5/5   ")[1] == text
    assert all(line.isprintable() for line in lines)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    lines = shown(begun(search(), *fits(97)), encoding="ascii")
    assert all(line.isascii() for line in lines)


def test_no_line_is_wider_than_the_terminal_and_no_more_are_drawn_than_it_has() -> None:
    state = with_cluster(
        begun(search(estimator="漢字" * 30), *fits(97, parameters={"漢": "字" * 30}), search(2, parent=1))
    )
    for width in range(20, 130, 7):
        for height in range(1, 13):
            lines = to_lines(view(state, NOW, width, height), width, height, colour=False)
            assert len(lines) <= height
            assert max(map(cell_len, lines)) <= width


def test_colours_are_the_16_of_the_users_theme_and_can_be_left_out() -> None:
    content = view(begun(search(), *fits(97)), NOW, 80, 12)
    coloured, plain = ("\n".join(to_lines(content, 80, 12, colour=colour)) for colour in (True, False))
    assert set(re.findall(r"\x1b\[([\d;]*)m", coloured)) == {"0", "1", "2", "36", "90"}
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()[2:] == plain.splitlines()[2:]
