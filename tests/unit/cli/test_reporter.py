"""Test what a user reads on stderr at the end of a run."""

from __future__ import annotations

import json
import math
import signal

import pytest

from skjob.cli.reporter import Reporter
from skjob.deploy.base import WorkerCounts
from skjob.deploy.scaling.loop import Progress
from skjob.engine.events import CallStarted, FitFinished, FitStatus, from_line
from skjob.errors import StartError
from skjob.run.record import Record, RunOutcome


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (RunOutcome("failed", 3), "the program failed, with status 3"),
        (RunOutcome("failed", 128 + signal.SIGKILL), "the program failed, with status 137 (SIGKILL)"),
        (RunOutcome("failed", 255), "the program failed, with status 255"),
        (RunOutcome("failed", 1, "its output cannot be written"), "the program failed, its output cannot be written"),
        (
            RunOutcome("failed", 1, "ValueError: All 4 fits failed.\nBelow are"),
            "the program failed, ValueError: All 4 fits failed.",
        ),
        (
            RunOutcome("failed", 1, "ValueError: " + "long " * 50),
            "the program failed, ValueError: " + "long " * 17 + "lo…",
        ),
        (RunOutcome("succeeded", 0), "succeeded"),
    ],
)
def test_how_a_run_ended(capsys: pytest.CaptureFixture[str], outcome: RunOutcome, told: str) -> None:
    record = Record("20261126-000000-abcdef", "train.py", [], "2026-11-26T00:00:00+00:00", {}, outcome=outcome)
    Reporter(json=False, verbose=False).ended(record)
    assert capsys.readouterr().err.splitlines()[:-2] == [f"skjob: {told}"]


def test_a_line_of_json_stays_one_where_an_address_has_a_password_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(json=True, verbose=False).failed(StartError('"https://h/x?sig=abc" is away', log='"s3://h/?token=0"\nend'))
    told = {"kind": "error", "text": '"https://h/x?sig=****" is away', "hint": "", "log": '"s3://h/?token=****"\nend'}
    assert json.loads(capsys.readouterr().err) == told
    Reporter(json=True, verbose=False).notify('"https://h/x?sig=abc"\n"quoted"')
    assert json.loads(capsys.readouterr().err) == {"kind": "note", "text": '"https://h/x?sig=****"\n"quoted"'}


SEARCH = [
    CallStarted(1, 100.0, "GridSearchCV", "SVC", search=1, candidates=4, splits=2, tasks=8, metric="score"),
    FitFinished(1, 0, 0, 0, {"C": "1"}, {"score": 0.5}, worker="a", started=100.0, seconds=10.0),
    FitFinished(1, 1, 0, 1, scores={"score": 0.75}, worker="b", started=100.0, seconds=10.0),
    FitFinished(1, 2, 1, 0, {"C": "-1"}, {"score": math.nan}, status=FitStatus.FAILED, error="ValueError: no"),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("skjob.cli.reporter.time", clock)
    return clock


class Clock:
    """A fake `time`; the run begins at 100."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def _go_on(reporter: Reporter, clock: Clock) -> None:
    reporter.notify("running on this machine")
    reporter.step_started("connect")
    reporter.workers(WorkerCounts(2, 2, 1))
    reporter.step_done("connect", 1.234)
    for event in SEARCH:
        reporter.event(event)
    clock.now = 110.0
    reporter.progress(Progress(3, 4, 2))
    reporter.progress(Progress(3, 5, 2))
    reporter.memory({"a": 1})
    reporter.step_started("wait")


def test_a_run_that_goes_on_as_lines(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    _go_on(Reporter(json=False, verbose=False), clock)
    assert capsys.readouterr().err.splitlines() == [
        "skjob: running on this machine",
        "skjob: 1 of 2 workers",
        "skjob: connect: 1.2 s",
        "skjob: 3 of 8 fits done (1 failed), 2 running, about 13 s left, best 0.625",
    ]


def test_a_run_that_goes_on_as_json(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    _go_on(Reporter(json=True, verbose=False), clock)
    lines = capsys.readouterr().err.splitlines()
    shown = [json.loads(line) for line in lines]
    assert [(each["kind"], each["text"]) for each in shown if "text" in each] == [
        ("note", "running on this machine"),
        ("step", "connect"),
        ("workers", "1 of 2 workers"),
        ("done", "connect"),
        ("progress", "3 of 8 fits done (1 failed), 2 running, about 13 s left, best 0.625"),
        ("step", "wait"),
    ]
    assert [from_line(line) for line in lines if "text" not in json.loads(line)] == SEARCH
    [workers] = [each for each in shown if each["kind"] == "workers"]
    assert (workers["asked"], workers["running"], workers["connected"]) == (2, 2, 1)
    [progress] = [each for each in shown if each["kind"] == "progress"]
    assert {key: progress[key] for key in ("done", "running", "waiting")} == {"done": 3, "running": 2, "waiting": 2}
    [call] = progress["calls"]
    assert (call["name"], call["done"], call["total"], call["failed"]) == ("GridSearchCV", 3, 8, 1)
    assert (call["seconds_left"], call["best"]) == (13.3, 0.625)
    assert [each["seconds"] for each in shown if each["kind"] == "done"] == [1.234]


def test_a_quiet_run_shows_how_it_ended_and_nothing_else(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    reporter = Reporter(json=False, verbose=False, quiet=True)
    _go_on(reporter, clock)
    assert capsys.readouterr().err == ""
    record = Record("20261126-000000-abcdef", "train.py", [], "", {}, outcome=RunOutcome("succeeded", 0), seconds=9.0)
    reporter.ended(record)
    assert capsys.readouterr().err.splitlines() == [
        "skjob: succeeded",
        "skjob: time: 9.0 s",
        "skjob: done: 3 fits, 1 failed (`skjob show` says why)",
        "skjob: workers: 1",
        "skjob: best of GridSearchCV(SVC): score 0.62500 ± 0.12",
        "skjob:   with C=1",
        "skjob: the record of the run: .skjob/runs/20261126-000000-abcdef/run.json",
        "skjob: `skjob report 20261126-000000-abcdef` makes its report",
    ]
