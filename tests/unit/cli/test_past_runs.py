"""Test `skjob runs`, `show` and `report`, without a cluster, on runs of this and of earlier versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from past_runs import RUN_ID, a_forest, a_record, a_search, write_run

from skjob.cli.app import main
from skjob.run.record import RunOutcome

pytestmark = pytest.mark.unit

EARLIER, OTHER = "20261128-090000-aaaaaa", "20261128-100000-bbbbbb"


class Ended(NamedTuple):
    """Output of a command, and its exit status."""

    code: int
    out: str
    err: str


@pytest.fixture
def skjob(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ended]:
    """Run `skjob` with these arguments in this process, in the test's folder, without access to a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # pytest's argv differs
    monkeypatch.setattr("skjob.cli.app.freeze", lambda: None)  # this process goes on

    def run(*words: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["skjob", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return Ended(int(ended.value.code or 0), written.out, written.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create three runs: the last with events, a failed one, and one of an earlier version."""
    write_run(tmp_path, a_record(), [*a_search(), *a_forest()])
    write_run(tmp_path, a_record(OTHER, versions={"python": "3.12.1"}, seconds=87.0), a_search(16, failing=()))
    earlier = a_record(
        EARLIER, fits={"fits": 20, "found": 3}, cost={}, outcome=RunOutcome("failed", 3, "ValueError: no\nat")
    )
    write_run(tmp_path, earlier, None)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_runs_are_listed_the_last_one_first(skjob: Callable[..., Ended]) -> None:
    ended = skjob("runs")
    assert (ended.code, ended.err) == (0, "")
    heading, *rows = [line.split("  ") for line in ended.out.splitlines()]
    assert [cell.strip() for cell in heading if cell] == [
        "RUN", "STARTED", "PROGRAM", "WHERE", "OUTCOME", "FITS", "BEST", "TIME", "COST",
    ]  # fmt: skip
    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[0] for row in shown] == [RUN_ID, OTHER, EARLIER]
    assert shown[0][2:] == [
        "train.py",
        "local",
        "succeeded",
        "160 (15 reused, 5 failed)",
        "0.93021",
        "43.5 s",
        "0.12 EUR",
    ]
    assert shown[1][-2] == "1 min 27 s"
    assert shown[2][2:] == ["train.py", "local", "failed (3)", "20 (3 reused)", "-", "43.5 s", "-"]


@pytest.mark.usefixtures("folder")
def test_runs_as_json(skjob: Callable[..., Ended]) -> None:
    listed = json.loads(skjob("runs", "--json").out)
    assert [each["run_id"] for each in listed] == [RUN_ID, OTHER, EARLIER]
    assert (listed[0]["fits"], listed[0]["failed"], listed[0]["parameters"]["kernel"]) == (160, 5, "rbf")
    assert (listed[2]["exit_code"], listed[2]["best"]) == (3, None)


def test_no_runs_are_no_error(skjob: Callable[..., Ended]) -> None:
    assert skjob("runs") == (0, "", "skjob: no run was started in this folder\n")
    assert json.loads(skjob("runs", "--json").out) == []


def test_only_the_latest_are_listed_unless_all_are_asked_for(skjob: Callable[..., Ended], tmp_path: Path) -> None:
    for number in range(23):
        write_run(tmp_path, a_record(f"20261128-0900{number:02d}-aaaaaa"), None)
    ended = skjob("runs")
    assert len(ended.out.splitlines()) == 21
    assert ended.out.splitlines()[1].startswith("20261128-090022-")
    assert ended.err == "skjob: 3 older runs are not listed; use `skjob runs --all`\n"
    assert len(skjob("runs", "--all").out.splitlines()) == 24


def test_a_record_that_can_not_be_read_does_not_hide_the_others(skjob: Callable[..., Ended], folder: Path) -> None:
    path = folder / ".skjob" / "runs" / OTHER / "run.json"
    path.write_text("{")
    ended = skjob("runs")
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == [RUN_ID, EARLIER]
    assert ended.err.startswith(f"skjob: the record `{path}` cannot be read: ")


@pytest.mark.usefixtures("folder")
def test_a_run_is_shown(skjob: Callable[..., Ended]) -> None:
    ended = skjob("show")
    assert (ended.code, ended.err) == (0, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    for line in (
        f"run {RUN_ID}",
        "program train.py --depth 3",
        "fits 160 (15 reused, 5 failed)",
        "cost 0.12 EUR of at most 5",
        "RandomizedSearchCV of SVC: 160 of 160 fits; 15 reused; 5 failed",
        "# SCORE ± SPLITS FIT TIME C gamma kernel",
        "1 0.93021 0.0096 5 0.62 s 707.946 0.000316228 rbf",
        "RandomForestClassifier of DecisionTreeClassifier 1 100 1.0 s -",
        "5 fits: ValueError: gamma == 0.012 must be positive",
        "for example with C=177.828, gamma=0.0121153, kernel=sigmoid, tol=0.001",
        "WORKER FITS FAILED BUSY IDLE PEAK MEMORY",
        "0 126 3 50.8 s 0.08 s 150 MiB",
        "start the scheduler 2.5 s",
        "- running on this machine: `--on` is `local`",
    ):
        assert line in lines
    assert "10 " in ended.out
    assert len(skjob("show", "--top", "2").out.splitlines()) == len(lines) - 8


@pytest.mark.usefixtures("folder")
def test_the_record_of_an_earlier_version_is_shown(skjob: Callable[..., Ended]) -> None:
    ended = skjob("show", "aaaaaa")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "outcome failed (3)" in lines
    assert "cause ValueError: no" in lines
    assert "This run has no scores yet, it made no search, or an earlier version of skjob wrote its record." in lines


@pytest.mark.usefixtures("folder")
def test_a_run_as_json(skjob: Callable[..., Ended]) -> None:
    shown = json.loads(skjob("show", RUN_ID, "--json", "--top", "40").out)
    [search] = shown["searches"]
    assert search["fits"] == {"total": 160, "done": 160, "reused": 15, "failed": 5}
    assert len(search["candidates"]) == 32
    assert search["candidates"][0]["parameters"]["kernel"] == "rbf"
    assert search["candidates"][-1]["mean"] is None  # NaN
    assert shown["failures"][0]["workers"] == ["0", "1"]
    assert shown["record"]["run_id"] == shown["summary"]["run_id"] == RUN_ID
    assert [worker["name"] for worker in shown["workers"]] == ["0", "1"]


@pytest.mark.usefixtures("folder")
def test_two_runs_are_compared(skjob: Callable[..., Ended]) -> None:
    lines = [" ".join(line.split()) for line in skjob("show", RUN_ID, "bbbbbb").out.splitlines()]
    assert lines[0] == f"{RUN_ID} {OTHER} CHANGE"
    assert "best 0.93021 0.91968 -0.0105" in lines
    assert "seconds 43.5 s 1 min 27 s +100%" in lines
    assert "python 3.11.7 3.12.1 differs" in lines
    assert "kernel rbf sigmoid differs" in lines
    assert lines[-1].startswith("the same in both: settings (")
    compared = json.loads(skjob("show", RUN_ID, "bbbbbb", "--json").out)
    assert compared["runs"] == [RUN_ID, OTHER]
    [best] = [each for each in compared["values"] if each["name"] == "best"]
    assert (round(best["first"], 4), round(best["second"], 4), best["same"]) == (0.9302, 0.9197, False)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["show", "report"])
def test_a_run_that_is_not_there_is_one_error(skjob: Callable[..., Ended], command: str) -> None:
    ended = skjob(command, "nonesuch")
    assert (ended.code, ended.out) == (120, "")
    assert ended.err == "error: there is no run `nonesuch`\n\nhint: `skjob runs` lists the runs of this folder\n"


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_folder_without_runs_is_one_error(skjob: Callable[..., Ended], command: str, tmp_path: Path) -> None:
    ended = skjob(command)
    assert (ended.code, ended.out) == (120, "")
    assert ended.err.startswith(f"error: no runs found below `{tmp_path}/.skjob/runs`\n\nhint: ")


def test_a_report_is_made_beside_the_record(
    skjob: Callable[..., Ended], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_browser(address: str) -> bool:
        opened.append(address)
        return len(opened) == 1

    monkeypatch.setattr("webbrowser.open", open_browser)
    ended = skjob("report", "--open")
    path = folder / ".skjob" / "runs" / RUN_ID / "report.html"
    assert ended == (0, f".skjob/runs/{RUN_ID}/report.html\n", "")
    assert opened == [path.as_uri()]
    assert path.read_text().startswith("<!doctype html>")
    assert skjob("report", "--open").err == "skjob: cannot open a browser here\n"


def test_a_report_is_written_where_it_is_asked_for(skjob: Callable[..., Ended], folder: Path) -> None:
    assert skjob("report", "aaaaaa", "--output", "old.html") == (0, "old.html\n", "")
    assert "20261128-090000-aaaaaa" in (folder / "old.html").read_text()
    ended = skjob("report", "--output", "nonesuch/a.html")
    assert ended.code == 120
    assert ended.err == (
        "error: the report `nonesuch/a.html` cannot be written: No such file or directory\n\n"
        "hint: write it elsewhere with `--output FILE`\n"
    )


@pytest.mark.usefixtures("folder")
def test_a_shell_completes_the_ids_of_runs(skjob: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_SKJOB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["skjob", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return skjob().out.split()

    assert complete("show", "") == [RUN_ID, OTHER, EARLIER]
    assert complete("report", "20261128-1") == [OTHER]
    assert complete("show", RUN_ID, "20261128-0") == [EARLIER]
