"""Test the output for GitHub Actions: annotations, and the summary of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from past_runs import a_forest, a_record, a_search, write_run

from skjob.cli.app import report
from skjob.cli.github import annotation, append_summary, without_commands
from skjob.cli.reporter import Reporter
from skjob.errors import ConfigError, StartError

pytestmark = pytest.mark.unit


def test_an_annotation_is_one_line() -> None:
    error = StartError("50 % of `a`\nis lost", "see below")
    assert annotation(error) == "::error title=skjob::50 %25 of `a`%0Ais lost%0Ahint: see below"


def test_an_error_is_annotated_in_github_actions_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert report(ConfigError("no")) == 120
    assert capsys.readouterr().err == "error: no\n"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    report(ConfigError("no"))
    assert capsys.readouterr().err == "error: no\n::error title=skjob::no\n"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("::error::x", ": :error::x"),
        ("a\n  ::error::x", "a\n  : :error::x"),
        ("see ::1, a::b", "see ::1, a::b"),
        ("a ##[error]b", "a # #[error]b"),
    ],
)
def test_no_line_is_a_command(text: str, harmless: str) -> None:
    assert without_commands(text) == harmless


def test_a_run_appends_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    record = a_record()
    write_run(tmp_path, record, [*a_search(), *a_forest()])
    Reporter(json=False, verbose=False).ended(record)
    lines = file.read_text().splitlines()
    assert lines[:2] == ["before", "### ✅ skjob: train&#46;py succeeded"]
    assert "| run | where | fits | reused | failed | workers | time | cost |" in lines
    assert "| 20261129&#45;142828&#45;32cc5e | local | 160 | 15 | 5 | 2 | 43.5 s | 0&#46;12 EUR |" in lines
    assert "|  | score | ± | C | gamma | kernel |" in lines
    assert "| 1 | 0.93021 | 0.0096 | 707&#46;946 | 0&#46;000316228 | rbf |" in lines
    assert "- 5: ValueError&#58; gamma &#61;&#61; 0&#46;012 must be positive" in lines
    assert capsys.readouterr().err.splitlines()[0] == "skjob: succeeded"


def test_a_summary_that_can_not_be_written_is_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    append_summary(a_record(), tmp_path, notes.append, {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert notes == ["the summary for GitHub Actions cannot be written: Is a directory"]


def test_without_github_actions_there_is_no_summary(tmp_path: Path) -> None:
    append_summary(a_record(), tmp_path, pytest.fail, {})
    assert list(tmp_path.iterdir()) == []
