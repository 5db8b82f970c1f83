"""The record of a run: on disk at each step, whole at any moment, and only what has changed."""

import itertools
import json
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from skjob.deploy.base import WorkerCounts
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.deploy.scaling.loop import Progress
from skjob.errors import ConfigError
from skjob.run import record as module
from skjob.run.record import Record, Recorder, installed_versions, run_file

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


class Shown:
    """What the recorder passes on, as it comes."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def notify(self, message: str) -> None:
        self.events.append(("note", message))

    def step_started(self, name: str) -> None:
        self.events.append(("step", name))

    def step_done(self, name: str, seconds: float) -> None:
        self.events.append(("done", (name, seconds)))

    def step_failed(self, name: str) -> None:
        self.events.append(("failed", name))

    def workers(self, counts: WorkerCounts) -> None:
        self.events.append(("workers", (counts.connected, counts.asked)))

    def progress(self, progress: Progress) -> None:
        self.events.append(("progress", progress))

    def cost(self, cost: Cost, limit: float | None) -> None:
        self.events.append(("cost", (cost.amount, limit)))

    def memory(self, peaks: Mapping[str, int]) -> None:
        self.events.append(("memory", dict(peaks)))

    def ended(self, record: Record) -> None:
        self.events.append(("ended", record.run_id))


class Clock:
    """A second passes at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def recorder(tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(module, "time", Clock())
    return Recorder("20261123-155901-3f9a1c", "train.py", ("--fast", "3"), tmp_path, shown)


def _on_disk(recorder: Recorder) -> Any:
    return json.loads(recorder.path.read_text(encoding="utf-8"))


def test_a_record_that_has_just_begun(recorder: Recorder, tmp_path: Path) -> None:
    assert recorder.path == tmp_path / ".skjob" / "runs" / "20261123-155901-3f9a1c" / "run.json"
    assert not recorder.path.exists()
    recorder.save()
    content = _on_disk(recorder)
    assert re.fullmatch(TIME, content.pop("started"))
    assert content == {
        "run_id": "20261123-155901-3f9a1c",
        "program": "train.py",
        "arguments": ["--fast", "3"],
        "versions": installed_versions(),
        "place": None,
        "why": None,
        "cluster": {},
        "steps": [],
        "workers": [],
        "peak_memory": {},
        "data": {},
        "notes": [],
        "numbers": {},
        "fits": {},
        "searches": [],
        "mlflow": [],
        "cost": {},
        "logs": {},
        "outcome": {"status": "running", "exit_code": None, "cause": None, "cleanup": None},
        "seconds": None,
    }


def test_versions_are_those_installed() -> None:
    import platform
    from importlib import metadata

    versions = installed_versions()
    assert versions.keys() >= {"python", "skjob", "dask", "distributed", "joblib", "scikit-learn", "numpy"}
    assert versions["python"] == platform.python_version()
    assert versions["joblib"] == metadata.version("joblib")


def test_each_step_is_on_disk_as_it_ends(recorder: Recorder, shown: Shown) -> None:
    with recorder.step("one"):
        pass
    with recorder.step("two"):
        assert [(step["name"], step["seconds"]) for step in _on_disk(recorder)["steps"]] == [("one", 1.0)]
        recorder.save()
        assert _on_disk(recorder)["steps"][1]["seconds"] is None
    steps = _on_disk(recorder)["steps"]
    assert [(step["name"], step["seconds"]) for step in steps] == [("one", 1.0), ("two", 1.0)]
    assert all(re.fullmatch(TIME, step["started"]) for step in steps)
    assert shown.events == [("step", "one"), ("done", ("one", 1.0)), ("step", "two"), ("done", ("two", 1.0))]


def test_a_step_that_fails_is_recorded_with_its_time_and_not_told_as_done(recorder: Recorder, shown: Shown) -> None:
    with pytest.raises(KeyError), recorder.step("one"):
        raise KeyError
    assert [(step["name"], step["seconds"]) for step in _on_disk(recorder)["steps"]] == [("one", 1.0)]
    assert shown.events == [("step", "one"), ("failed", "one")]


def test_a_reader_never_sees_half_a_file(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.notify("before")
    recorder.save()
    before = recorder.path.read_bytes()

    def full(self: Path, text: str, **_: Any) -> int:
        self.write_bytes(text.encode()[:40])
        raise OSError(28, "No space left on device")

    recorder.notify("after")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        recorder.save()
    assert recorder.path.read_bytes() == before
    recorder.save()
    lost = "the run's record cannot be written any more: No space left on device"
    assert _on_disk(recorder)["notes"] == ["before", "after", lost]
    assert [path.name for path in recorder.path.parent.iterdir()] == ["run.json"]


def test_a_folder_that_can_not_be_written_to_is_told_before_anything_starts(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError) as caught:
        recorder.begin()
    assert caught.value.message == f"the run's record `{recorder.path}` cannot be written: Permission denied"


def test_notes_are_told_once(recorder: Recorder, shown: Shown) -> None:
    for note in ("a", "b", "a"):
        recorder.notify(note)
    assert recorder.record.notes == ["a", "b"]
    assert shown.events == [("note", "a"), ("note", "b")]


def test_workers_are_recorded_where_they_change(recorder: Recorder, shown: Shown) -> None:
    for counts in [(2, 0, 0), (2, 0, 0), (2, 2, 0), (2, 2, 2), (2, 2, 2), (3, 2, 2), (2, 2, 2)]:
        recorder.workers(WorkerCounts(*counts))
    rows = [(at["asked"], at["running"], at["connected"]) for at in _on_disk(recorder)["workers"]]
    assert rows == [(2, 0, 0), (2, 2, 0), (2, 2, 2), (3, 2, 2), (2, 2, 2)]
    assert [at["seconds"] for at in _on_disk(recorder)["workers"]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert shown.events == [("workers", counts) for counts in [(0, 2), (2, 2), (2, 3), (2, 2)]]


@pytest.mark.parametrize(
    ("own_cause", "cause", "recorded"),
    [(None, None, None), (None, "of the run", "of the run"), ("of the program", None, "of the program")],
)
def test_the_outcome(recorder: Recorder, own_cause: str | None, cause: str | None, recorded: str | None) -> None:
    recorder.record.outcome.cause = own_cause
    recorder.end("failed", 3, cause)
    content = _on_disk(recorder)
    assert content["outcome"] == {"status": "failed", "exit_code": 3, "cause": recorded, "cleanup": None}
    assert content["seconds"] == 1.0


def test_what_is_no_ascii_is_kept(recorder: Recorder) -> None:
    recorder.notify("größer als 2 GiB – 日本")
    recorder.save()
    assert _on_disk(recorder)["notes"] == ["größer als 2 GiB – 日本"]


def test_where_records_are() -> None:
    assert run_file("x") == Path(".skjob/runs/x/run.json")


def test_the_most_memory_of_each_worker(recorder: Recorder) -> None:
    recorder.memory({"a": 5, "b": 7})
    recorder.memory({"a": 9, "b": 3, "c": 1})
    recorder.save()
    assert _on_disk(recorder)["peak_memory"] == {"a": 9, "b": 7, "c": 1}


def test_memory_is_told_by_one_thread_while_another_writes(recorder: Recorder) -> None:
    interval, over = sys.getswitchinterval(), threading.Event()

    def tell() -> None:
        for number in itertools.count(1):
            recorder.memory({f"worker-{number}": number})
            if over.wait(1e-5):
                return

    thread = threading.Thread(target=tell)
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        for _ in range(300):
            recorder.save()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert _on_disk(recorder)["peak_memory"]


def test_what_opens_an_address_is_not_in_it(recorder: Recorder, shown: Shown) -> None:
    recorder.record.arguments.append("sftp://ann:secret@host/data")
    recorder.record.logs = {"pod": 'GET "https://h/x?X-Amz-Signature=secret" failed\nand again'}
    recorder.notify("`https://ann:secret@host/x.csv` takes 3 GiB")
    recorder.end("error", 120, "`ftp://ann:secret@host` is away")
    assert "secret" not in recorder.path.read_text()
    assert _on_disk(recorder)["logs"] == {"pod": 'GET "https://h/x?X-Amz-Signature=****" failed\nand again'}
    assert shown.events == [("note", "`https://ann:****@host/x.csv` takes 3 GiB")]


def test_the_cost_so_far_is_passed_on(recorder: Recorder, shown: Shown) -> None:
    recorder.cost(Cost(0.5, 1.0, datetime.now(UTC), "EUR"), 2.0)
    assert shown.events == [("cost", (0.5, 2.0))]


def test_an_mlflow_run_is_recorded_once_with_its_calls_and_without_a_password(recorder: Recorder) -> None:
    for name, calls in (("a", [1]), ("b", []), ("a", [2, 3])):
        address = "https://anna:pw@mlflow.example.org"
        recorder.mlflow_run({"run_id": name, "tracking_uri": address, "folder": "/work", "calls": calls})
    recorder.save()
    known = _on_disk(recorder)["mlflow"]
    assert [(each["run_id"], each["calls"]) for each in known] == [("a", [1, 2, 3]), ("b", [])]
    assert "pw" not in json.dumps(known)
    assert recorder.record.mlflow[0]["tracking_uri"] == "https://anna:pw@mlflow.example.org"
