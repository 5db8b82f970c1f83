"""Test that past runs are found by their ids, and that records of any version can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from past_runs import RUN_ID, a_record, write_run

from skjob.errors import ConfigError
from skjob.run.history.records import find_run, read_run, run_ids
from skjob.run.record import Record, RunOutcome, run_file

pytestmark = pytest.mark.unit

EARLIER, LATER = "20261128-090000-aaaaaa", "20261130-090000-abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for run_id in (RUN_ID, EARLIER, LATER):
        write_run(tmp_path, a_record(run_id))
    return tmp_path


def test_a_record_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    record = a_record()
    write_run(tmp_path, record)
    assert read_run(tmp_path, RUN_ID).record == record


def test_the_last_run_comes_first(folder: Path) -> None:
    (folder / ".skjob" / "runs" / "20261201-000000-000000").mkdir()  # without a record
    assert run_ids(folder) == [LATER, RUN_ID, EARLIER]


def test_a_folder_without_runs_has_none(tmp_path: Path) -> None:
    assert run_ids(tmp_path) == []
    with pytest.raises(ConfigError, match="no runs found below") as raised:
        find_run(tmp_path, None)
    assert "change to the folder" in raised.value.hint


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(None, LATER), (RUN_ID, RUN_ID), ("20261128", EARLIER), ("32cc5e", RUN_ID), ("abc", LATER), ("aaa", EARLIER)],
)
def test_a_run_is_found_by_a_part_of_its_id(folder: Path, wanted: str | None, found: str) -> None:
    assert find_run(folder, wanted).record.run_id == found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("2026", f"`2026` is part of the ids of 3 runs: `{LATER}`, `{RUN_ID}`, `{EARLIER}`"),
        ("20261129-142828-32cc5f", f"there is no run `20261129-142828-32cc5f`; did you mean `{RUN_ID}`?"),
        ("../../etc", "there is no run `../../etc`"),
        ("", "there is no run ``"),
        ("\x1b[2J", r"there is no run `\x1b[2J`"),
    ],
)
def test_a_run_that_is_not_there_is_one_error(folder: Path, wanted: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        find_run(folder, wanted)
    assert raised.value.message == message
    assert raised.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\xff\xfe"])
def test_a_record_that_is_no_record_is_an_error(folder: Path, content: str) -> None:
    (folder / run_file(RUN_ID)).write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read: ") as raised:
        read_run(folder, RUN_ID)
    assert str(run_file(RUN_ID)) in raised.value.message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, {"outcome": RunOutcome("unknown")}),
        ({"program": "a.py", "later": 1, "cost": {"amount": 1}}, {"program": "a.py", "cost": {"amount": 1}}),
        ({"program": 5, "seconds": "long", "notes": [1], "fits": {"fits": "many"}}, {"program": "", "seconds": None}),
        ({"outcome": {"status": "failed", "exit_code": 3, "later": 1}}, {"outcome": RunOutcome("failed", 3)}),
        ({"outcome": {"status": 5}}, {"outcome": RunOutcome("running")}),
        ({"steps": [{"name": "x"}, 5, {"name": "y", "started": "z", "later": 1}]}, {"steps": ["y"]}),
        ({"workers": [{"seconds": 1}, {"seconds": 1, "asked": 1, "running": 0, "connected": 1}]}, {"workers": [1]}),
        ({"steps": None, "workers": {}, "versions": {"python": 3}}, {"steps": [], "workers": [], "versions": {}}),
    ],
)
def test_what_another_version_wrote_otherwise_is_left_out(
    tmp_path: Path, content: dict[str, Any], expected: dict[str, Any]
) -> None:
    path = tmp_path / run_file(RUN_ID)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    record = read_run(tmp_path, RUN_ID).record
    assert record.run_id == RUN_ID
    shown: dict[str, Any] = {name: getattr(record, name) for name in expected}
    if "steps" in expected:
        shown["steps"] = [step.name for step in record.steps]
    if "workers" in expected:
        shown["workers"] = [each.connected for each in record.workers]
    assert shown == expected
    assert isinstance(record, Record)
