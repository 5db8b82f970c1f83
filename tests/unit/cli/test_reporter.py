"""What a person reads on stderr when a run has ended."""

from __future__ import annotations

import json
import signal

import pytest

from skjob.cli.reporter import Reporter
from skjob.deploy.base import WorkerCounts
from skjob.deploy.scaling.loop import Progress
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
    assert capsys.readouterr().err.splitlines()[:-1] == [f"skjob: {told}"]


def test_a_line_of_json_stays_one_where_an_address_has_a_password_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(json=True, verbose=False).failed(StartError('"https://h/x?sig=abc" is away', log='"s3://h/?token=0"\nend'))
    told = {"kind": "error", "text": '"https://h/x?sig=****" is away', "hint": "", "log": '"s3://h/?token=****"\nend'}
    assert json.loads(capsys.readouterr().err) == told
    Reporter(json=True, verbose=False).notify('"https://h/x?sig=abc"\n"quoted"')
    assert json.loads(capsys.readouterr().err) == {"kind": "note", "text": '"https://h/x?sig=****"\n"quoted"'}


def _go_on(reporter: Reporter) -> None:
    reporter.notify("running on this machine")
    reporter.step_started("connect")
    reporter.workers(WorkerCounts(2, 2, 1))
    reporter.step_done("connect", 1.234)
    reporter.progress(Progress(3, 4))
    reporter.memory({"a": 1})
    reporter.step_started("wait")


def test_a_run_that_goes_on_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _go_on(Reporter(json=False, verbose=False))
    assert capsys.readouterr().err.splitlines() == [
        "skjob: running on this machine",
        "skjob: 1 of 2 workers",
        "skjob: connect: 1.2 s",
        "skjob: tasks done: 3, under way: 4",
    ]


def test_a_run_that_goes_on_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _go_on(Reporter(json=True, verbose=False))
    shown = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(each["kind"], each["text"]) for each in shown] == [
        ("note", "running on this machine"),
        ("step", "connect"),
        ("workers", "1 of 2 workers"),
        ("done", "connect"),
        ("progress", "tasks done: 3, under way: 4"),
        ("step", "wait"),
    ]
    assert [each["seconds"] for each in shown if "seconds" in each] == [1.234]
