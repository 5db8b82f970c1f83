"""Test the report: its content, that nothing in it loads or runs anything, and its size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from past_runs import EPOCH, a_forest, a_record, a_search, write_run

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished
from skjob.report.page import page, write_report
from skjob.report.search_sections import MAX_SEARCHES
from skjob.run.history.collect import add_up
from skjob.run.history.records import PastRun
from skjob.run.record import RunOutcome, WorkersAt

pytestmark = pytest.mark.unit

VOID = {"meta", "path", "rect"}


class Page(HTMLParser):
    """Parses a page, and fails if an element is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def whole() -> Page:
    """Return the report of a run that has everything."""
    logs = {"worker 0": "first\nlast"}
    record = a_record(
        outcome=RunOutcome("failed", 3, "ValueError: no\nmore"), logs=logs, numbers={"same_as_local": "bits"}
    )
    return Page(page(add_up(record, [*a_search(), *a_forest()])))


def test_each_question_has_its_answer(whole: Page) -> None:
    for words in (
        "train.py", "✗ failed, exit status 3", "Cause: ValueError: no", "160 (15 reused, 5 failed)", "0.12 EUR",
        "Best: 0.93021 ± 0.0096 with C=707.946, gamma=0.000316228, kernel=rbf, tol=0.001",
        "The same in all candidates: tol=0.001", "Best so far", "Spread over the splits of the best 15",
        "Parallel coordinates", "RandomForestClassifier of DecisionTreeClassifier", "5 fits failed.",
        "ValueError: gamma == 0.012 must be positive", "What each worker did", "1 after 30.0 s", "Fit times",
        "start the scheduler", "scikit-learn", "1.9.1", "same_as_local", "Log of worker 0", "limit of the run",
        "150 MiB",
    ):  # fmt: skip
        assert words in whole.text, words


def test_nothing_is_loaded_and_nothing_can_run(whole: Page) -> None:
    [policy] = [each["content"] for each in whole.of("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    tags = {name for name, _ in whole.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    attributes = {name for _, each in whole.elements for name in each}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")}
    assert all(each["href"].startswith("#") for each in whole.of("a"))


def test_it_can_be_used_without_seeing_it(whole: Page) -> None:
    titles = [int(name[1]) for name, _ in whole.elements if re.fullmatch("h[1-6]", name)]
    assert titles[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(titles))
    assert all(each["role"] == "img" and each["aria-label"] for each in whole.of("svg"))
    assert len(whole.of("figure")) == len(whole.of("svg")) >= 8
    # Each chart has its own table except the parallel coordinates, for which the best candidates are listed.
    assert len(whole.of("details")) == len(whole.of("figure")) - 1 + 1  # and a log of it
    anchors = {each["href"][1:] for each in whole.of("a")}
    assert anchors == {each["id"] for each in whole.of("h2")}
    assert all(
        each.get("aria-label") and each["tabindex"] == "0" for each in whole.of("div") if each.get("class") == "scroll"
    )
    assert whole.of("html") == [{"lang": "en"}]


def test_light_and_dark_have_enough_contrast() -> None:
    from skjob.report.style import STYLE

    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in STYLE.split("@media (prefers-color-scheme: dark)")
    )
    assert set(light) == set(dark)
    for colours in (light, dark):
        for name in ("ink", "soft", "link", "bad", "good"):
            for below in ("page", "card"):
                assert _contrast(colours[name], colours[below]) >= 4.5, (name, below)
        for name in ("s0", "s1", "s2", "s3", "s4", "s5", "mark"):
            assert _contrast(colours[name], colours["card"]) >= 2.9, name


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("candidates", "workers", "largest"),
    [(200, 8, 1_500_000), pytest.param(20_000, 60, 5_000_000, marks=pytest.mark.slow)],
)
def test_it_stays_small(candidates: int, workers: int, largest: int) -> None:
    """Tested with 1,000 and with 100,000 fits."""
    failing = range(7, candidates, 50)
    text = page(add_up(a_record(), a_search(candidates, workers=workers, failing=failing)))
    assert len(text.encode()) < largest / 4
    shown = Page(text)
    if candidates > 1500:
        assert f"1500 of {candidates - len(failing)} candidates are drawn" in shown.text
        assert "20 more workers are not drawn" in shown.text


def test_it_stays_small_where_each_text_is_as_long_as_it_can_be() -> None:
    text = page(add_up(a_record(), _long(3000)))
    assert len(text.encode()) < 5_000_000
    Page(text)


def _long(candidates: int) -> Iterator[Event]:
    yield CallStarted(1, EPOCH, "GridSearchCV", "SVC", 1, candidates=candidates, splits=1, metric="score")
    for each in range(candidates):
        values = {f"step__parameter_{name}": f"{each} {name} {'&<' * 90}"[:200] for name in range(14)}
        yield FitFinished(
            1, each, each, 0, values, {"score": each}, worker=f"w{each % 300}", started=EPOCH, seconds=1.0
        )


def test_a_run_without_events_has_a_report() -> None:
    shown = Page(page(add_up(a_record(fits={"fits": 20, "found": 3}, cost={}, workers=[], steps=[], notes=[]), [])))
    assert "This run has no record of its fits" in shown.text
    assert shown.of("svg") == []
    assert [each["id"] for each in shown.of("h2")] == ["environment"]


def _search(call: int, scores: list[float], **fields: Any) -> list[Event]:
    known = {"search": call, "candidates": len(scores), "splits": 1, "metric": "score"}
    begun = CallStarted(call, EPOCH + call, "GridSearchCV", "SVC", **{**known, **fields})
    fits = [
        FitFinished(
            call, each, each, 0, {"C": str(each)}, {"score": score}, worker="a", started=EPOCH + call + each, seconds=1
        )
        for each, score in enumerate(scores)
    ]
    return [begun, *fits, CallFinished(call, EPOCH + call + len(scores))]


@pytest.mark.parametrize(
    "scores",
    [[], [0.5], [0.5, 0.5], [math.nan, math.nan], [math.inf, 1.0], [-math.inf, 1.0, 2.0], [1e-300, 1e300], [-1.0] * 50],
)
def test_scores_of_any_kind_can_be_drawn(scores: list[float]) -> None:
    shown = Page(page(add_up(a_record(), _search(1, scores))))
    assert f"{len(scores)} of {len(scores)} fits done" in shown.text
    drawn = [each["d"] for each in shown.of("path")]
    assert not [each for each in drawn if "nan" in each or "inf" in each]


def test_scores_far_below_the_others_do_not_flatten_them() -> None:
    shown = Page(page(add_up(a_record(), _search(1, [0.9 + number / 1000 for number in range(40)] + [-1e9]))))
    assert "1 far lower scores are drawn at the edge." in shown.text


def test_iterations_of_a_halving_search_have_lines_of_their_own() -> None:
    events = [*_search(1, [0.7, 0.9], search=1, iteration=0), *_search(2, [0.8], search=1, iteration=1)]
    shown = Page(page(add_up(a_record(), events)))
    assert "2 iterations with 2, 1 candidates" in shown.text
    assert "Best: 0.8 ± 0 with C=0" in shown.text
    assert len([each for each in shown.of("path") if each.get("class") == "line-best"]) >= 2


def test_many_searches_are_listed_and_the_largest_drawn() -> None:
    events = [event for call in range(1, 10) for event in _search(call, [0.1 * each for each in range(call + 1)])]
    shown = Page(page(add_up(a_record(), events)))
    drawn = [each["id"] for each in shown.of("h2") if each["id"].startswith("search-")]
    assert drawn == [f"search-{number}" for number in range(4, 10)]
    assert f"The {MAX_SEARCHES} with the most fits" in shown.text


def test_workers_that_were_lost_are_marked() -> None:
    workers = [WorkersAt(1.0, 4, 0, 4), WorkersAt(9.0, 4, 0, 2), WorkersAt(12.0, 2, 0, 2), WorkersAt(20.0, 1, 0, 1)]
    shown = Page(page(add_up(a_record(workers=workers), a_search())))
    assert "(diamonds): 2 after 9.0 s." in shown.text


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    record = a_record()
    run = PastRun(record, write_run(tmp_path, record, a_search()))
    write_report(run, tmp_path / "report.html")
    Page((tmp_path / "report.html").read_text())
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_report(run, tmp_path / "taken")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".skjob", "report.html", "taken"]
