"""Check that values of a program are only text wherever they are shown: nothing interprets them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from past_runs import EPOCH, RUN_ID, a_record, write_run

from skjob.cli.app import report
from skjob.cli.commands.history.runs import table
from skjob.cli.commands.history.show import comparison_lines, run_data, run_lines
from skjob.cli.github import annotation, append_summary
from skjob.cli.live.content import view
from skjob.cli.live.render import to_lines
from skjob.cli.reporter import Reporter
from skjob.cli.terminal import write
from skjob.cli.values import as_json
from skjob.deploy.base import WorkerCounts
from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, TasksFinished
from skjob.errors import StartError
from skjob.interactive.html import card, card_text, progress, progress_text
from skjob.interactive.observer import ClusterObserver, ClusterState, Status
from skjob.report.page import page
from skjob.run.history.collect import add_up, read_details
from skjob.run.history.compare import compare
from skjob.run.history.details import RunDetails
from skjob.run.history.records import read_run
from skjob.run.history.summary import summary_of
from skjob.run.live.state import CostSoFar, RunState
from skjob.run.record import Record, RunOutcome, RunStep

pytestmark = pytest.mark.unit

HOSTILE = (
    "</script></style><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)'",
    "<!--",
    "[/red][bold]",
    "a\x1b]0;title\x07\x1b[2J\x9b1m",
    "50%\rdone",
    "exe\u202etxt\u2066\u200b",
    "x\n::error::x",
    "::set-output name=a::b",
    "##[add-path]/tmp",
    "| `code` | **b** <b> [a](http://x.y) http://x.y # $x$ ~~s~~ @you",
    "\ud800",
    "&lt;b&gt;",
)

ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that no output may contain: control characters except tabs and line breaks, and direction changes."""


def _record(value: str) -> Record:
    return a_record(
        program=value, arguments=[value], started=value, versions={value: value}, place=value, why=value,
        cluster={value: {value: value}, "environment": [value]}, steps=[RunStep(value, value, 1.0)],
        peak_memory={value: 5}, data={value: value}, notes=[value], numbers={value: value},
        cost={"amount": 1.0, "currency": value}, logs={value: value},
        outcome=RunOutcome("failed", 3, value, value),
    )  # fmt: skip


def _events(value: str) -> Iterator[Event]:
    yield CallStarted(1, EPOCH, value, value, 1, candidates=6, splits=2, metric=value, metric_is_first=True)
    for candidate in range(6):
        for split in range(2):
            failed = candidate == 5
            parameters = {value: f"{value}{candidate}", "b": value, "c": str(candidate)}
            yield FitFinished(
                1, 2 * candidate + split, candidate, split, parameters,
                {value: candidate / 10, f"{value}2": 0.0}, {value: 1.0}, worker=value, started=EPOCH + candidate,
                seconds=1.0, status=FitStatus.FAILED if failed else FitStatus.DONE, error=value * failed,
            )  # fmt: skip
    yield CallFinished(1, EPOCH + 9)
    yield CallStarted(2, EPOCH + 9, value, value, tasks=3)
    yield TasksFinished(2, 3, value, EPOCH + 9, 1.0)


@pytest.fixture(params=HOSTILE, ids=ascii)
def value(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def details(value: str) -> RunDetails:
    return add_up(_record(value), _events(value))


def _assert_harmless(text: str) -> None:
    assert ESCAPES.search(text) is None
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line]


class Elements(HTMLParser):
    """Parses a page as a browser does: its elements, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.comments: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"{tag} {name}" for name, _ in attrs)}

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def test_in_the_report(details: RunDetails, value: str) -> None:
    shown = page(details)
    assert ESCAPES.search(shown) is None
    read, plain = Elements(shown), Elements(page(add_up(_record("plain"), _events("plain"))))
    assert read.found == plain.found
    assert read.comments == []
    if value.isprintable():
        assert value in "".join(read.text)
        assert html.escape(value) in shown


def test_in_the_terminal(
    details: RunDetails, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(table([summary_of(details)]))
    write(run_lines(details, 10))
    write(comparison_lines(details, details, compare(details, add_up(_record("plain"), []))))
    shown = capsys.readouterr().out
    _assert_harmless(shown)
    if value.isprintable() and "##[" not in value and not value.startswith("::"):
        assert value in shown
    monkeypatch.delenv("GITHUB_ACTIONS")
    write(run_lines(details, 10))
    shown = capsys.readouterr().out
    assert ESCAPES.search(shown) is None
    if value.isprintable():
        assert value in shown


def test_in_json(details: RunDetails, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    shown = as_json(run_data(details, 10))
    _assert_harmless(shown)
    assert json.loads(shown)["record"]["program"] == value


def test_in_notes_and_the_end_of_a_run(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for json_lines in (False, True):
        reporter = Reporter(json=json_lines, verbose=True)
        reporter.notify(value)
        reporter.step_started(value)
        reporter.step_done(value, 1.0)
        for event in _events(value):
            reporter.event(event)
        reporter.ended(_record(value))
        shown = capsys.readouterr().err
        _assert_harmless(shown)
        if json_lines:
            assert json.loads(shown.splitlines()[0]) == {"kind": "note", "text": value}


def test_in_an_error_and_its_annotation(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    error = StartError(f"it failed: {value}", f"mend {value}", value)
    report(error)
    *lines, last = capsys.readouterr().err.splitlines()
    _assert_harmless("\n".join(lines))
    assert last == annotation(error)
    command, _, message = last.partition("::error title=skjob::")
    assert command == ""
    assert ESCAPES.search(message) is None
    assert re.findall("%(?!25|0A)", message) == []


def test_in_the_summary_of_a_job(value: str, tmp_path: Path) -> None:
    def summary(value: str, file: Path) -> list[str]:
        folder = tmp_path / file.stem
        write_run(folder, a_record(RUN_ID), [])
        record = _record(value)
        append_summary(record, folder, pytest.fail, {"GITHUB_STEP_SUMMARY": str(file)})
        write_run(folder / "with", a_record(RUN_ID), _events(value))
        append_summary(record, folder / "with", pytest.fail, {"GITHUB_STEP_SUMMARY": str(file)})
        return file.read_text().splitlines()

    shown, plain = summary(value, tmp_path / "a.md"), summary("plain", tmp_path / "b.md")
    assert len(shown) == len(plain)
    for line, other in zip(shown, plain, strict=True):
        assert ESCAPES.search(line) is None
        # Same as for plain text: as many cells, and no other character that Markdown or HTML interprets.
        assert [line.count(sign) for sign in "|`*[]<>_~$@\\"] == [other.count(sign) for sign in "|`*[]<>_~$@\\"]
        assert "http:" not in line
    if value.isprintable():
        assert value[:79] in html.unescape("\n".join(shown))


def test_what_a_program_reports_is_read_back_as_it_was(value: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path, _record(value), _events(value))
    assert folder.name == RUN_ID
    details = read_details(read_run(tmp_path, RUN_ID))
    assert details.record.program == value
    assert details.searches[0].candidates[0].candidate.parameters["b"] == value


def test_passwords_of_addresses_are_shown_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine removes them from events and a record's file has none, but outputs rely on neither."""
    value = "s3://ann:secret@host/a?sig=secret"
    outcome, why = RunOutcome("failed", 3, value, value), f"running at {value}"
    record = a_record(program=value, arguments=[value], why=why, notes=[value], logs={"a": value}, outcome=outcome)
    details = add_up(record, _events("plain"))
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, a_record(), _events("plain"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    Reporter(json=False, verbose=True).ended(record)
    write(table([summary_of(details)]))
    write(run_lines(details, 10))
    write(comparison_lines(details, details, compare(details, add_up(a_record(), []))))
    written = capsys.readouterr()
    summary = (tmp_path / "summary.md").read_text()
    for shown in (page(details), as_json(run_data(details, 10)), written.out, written.err, summary):
        assert "secret" not in shown
        assert "****@host" in html.unescape(shown)


def test_in_the_live_view(value: str) -> None:
    state = RunState(began=EPOCH)
    for event in _events(value):
        state.add(event)
        for width in (30, 100):
            assert (
                ESCAPES.search("\n".join(to_lines(view(state, EPOCH + 9, width, 12), width, 12, colour=False))) is None
            )


def test_in_a_notebook(value: str) -> None:
    """Its outputs are HTML and, where there is none, text."""

    def shown(value: str) -> tuple[str, str]:
        cluster = ClusterState(
            Status.STARTING, value, value, value, value, WorkerCounts(2, 2, 1), CostSoFar(1.0, value), value, [value]
        )
        state = RunState(began=EPOCH)
        for event in _events(value):
            state.add(event)
        state.set_cost(CostSoFar(1.0, value))
        return (
            card(cluster) + progress(state, EPOCH + 9, [value]),
            f"{card_text(cluster)}\n{progress_text(state, EPOCH + 9, [value])}",
        )

    (page, text), (plain, _) = shown(value), shown("plain")
    assert ESCAPES.search(page) is None
    assert ESCAPES.search(text) is None
    read = Elements(page)
    assert read.found == Elements(plain).found
    assert read.comments == []
    assert page.count("<style>") == plain.count("<style>")
    if value.isprintable():
        assert value in "".join(read.text)
        assert value in text


def test_passwords_of_addresses_are_not_in_a_notebook() -> None:
    class Silent:
        """Shows nothing."""

        note = changed = lambda *_: None

    value = "s3://ann:secret@host/a?sig=secret"
    state = ClusterState(place=value)
    view: Any = Silent()
    ClusterObserver(state, view).notify(value)
    for shown in (card(state), progress(RunState(), EPOCH, state.notes)):
        assert "secret" not in shown
        assert "****@host" in html.unescape(shown)
    assert "secret" not in progress_text(RunState(), EPOCH, state.notes)
