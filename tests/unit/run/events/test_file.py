"""Test the file of a run's events: written line by line, and read while it grows."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from skjob import errors
from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, TasksFinished
from skjob.run.events.file import FILE, EventsReader, EventsWriter, read_events

EVENTS: list[Event] = [CallStarted(1, 10.0, "fetch", tasks=2), TasksFinished(1, 2), CallFinished(1, 11.0)]


def test_what_is_written_is_read_at_once(tmp_path: Path) -> None:
    writer, reader = EventsWriter(tmp_path), EventsReader(tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == {"kind": "begin", "version": 1}
    for event in EVENTS:
        writer.report(event)
        assert list(reader.read_new()) == [event]
    writer.close()
    writer.report(EVENTS[0])
    assert list(reader.read_new()) == []
    assert list(read_events(tmp_path)) == EVENTS


def test_half_a_line_comes_with_its_rest(tmp_path: Path) -> None:
    EventsWriter(tmp_path).report(EVENTS[0])
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-10])
    reader = EventsReader(tmp_path)
    assert list(reader.read_new()) == []
    with (tmp_path / FILE).open("ab") as file:
        file.write(whole[-10:])
    assert list(reader.read_new()) == EVENTS[:1]


def test_a_run_without_the_file_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "nonesuch")) == []


def test_lines_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    EventsWriter(tmp_path).report(EVENTS[0])
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind":"resized","workers":3}\n{"kind":"end","call":1,"at":11.0,"cause":"new"}\n')
    assert list(read_events(tmp_path)) == [EVENTS[0], EVENTS[2]]


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    writer = EventsWriter(tmp_path)
    writer._owner = os.getpid() + 1
    writer.report(EVENTS[0])
    assert list(read_events(tmp_path)) == []


def test_a_disk_that_is_full_ends_the_file_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventsWriter(tmp_path)
    writer.report(EVENTS[0])

    def full(file: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        writer.report(EVENTS[1])
    writer.report(EVENTS[2])  # not after a missing line
    assert list(read_events(tmp_path)) == EVENTS[:1]


def test_a_file_that_cannot_be_made_does_not_end_the_run(tmp_path: Path) -> None:
    EventsWriter(tmp_path / "nonesuch").report(EVENTS[0])


def test_a_secret_that_is_part_of_a_number_spoils_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_hidden", [])
    errors.hide(["1234"])
    fit = FitFinished(1, 0, parameters={"pin": "1234"}, scores={"score": 0.51234})
    EventsWriter(tmp_path).report(fit)
    [read] = read_events(tmp_path)
    assert (read.scores, read.parameters) == ({"score": 0.51234}, {"pin": "****"})


def test_a_finalizer_may_report_while_a_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, write = EventsWriter(tmp_path), os.write

    def interrupted(file: int, content: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        writer.report(EVENTS[1])
        return write(file, content)

    monkeypatch.setattr(os, "write", interrupted)
    thread = threading.Thread(target=writer.report, args=(EVENTS[2],), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert list(read_events(tmp_path)) == EVENTS[1:]


def test_a_reader_ends_although_the_file_grows(tmp_path: Path) -> None:
    writer, reader = EventsWriter(tmp_path), EventsReader(tmp_path)
    writer.report(EVENTS[0])
    found = []
    for event in reader.read_new():
        found.append(event)
        writer.report(event)
        assert len(found) == 1
    assert len(list(reader.read_new())) == 1
