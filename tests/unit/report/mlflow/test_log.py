"""Logging to MLflow when a run is over: what is asked of the process that does it, and what a failure leads to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from past_runs import a_record, a_search, write_run

from skjob.cli.reporter import Reporter
from skjob.errors import ConfigError
from skjob.report.mlflow import process
from skjob.report.mlflow.log import TIMEOUT, MlflowLog
from skjob.run.record import Record

pytestmark = pytest.mark.unit

ITS_RUN = {"run_id": "a", "tracking_uri": "https://anna:pw@mlflow.example.org", "folder": "/work", "calls": [1]}


class Answering:
    """Stands in for `subprocess.run`."""

    def __init__(self, answer: dict[str, Any] | str | BaseException, status: int = 0) -> None:
        self.answer = answer
        self.status = status
        self.orders: list[dict[str, Any]] = []
        self.environment: dict[str, str] = {}
        self.report = ""

    def __call__(self, command: list[str], **keywords: Any) -> Any:
        assert command[1:] == ["-P", "-m", "skjob.report.mlflow.process"]
        assert keywords["timeout"] == TIMEOUT
        order = json.loads(keywords["input"])
        self.report = Path(order["report"]).read_text()
        self.orders.append(order)
        self.environment = keywords["env"]
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, str):
            return SimpleNamespace(returncode=self.status, stdout="", stderr=self.answer)
        return SimpleNamespace(returncode=0, stdout=json.dumps(self.answer), stderr="")


def logged(
    monkeypatch: pytest.MonkeyPatch, folder: Path, record: Record, answering: Answering, log: MlflowLog | None = None
) -> list[str]:
    write_run(folder, record, a_search())
    monkeypatch.setattr(subprocess, "run", answering)
    lines: list[str] = []
    (log or MlflowLog()).log(record, folder, lines.append)
    return lines


def test_a_run_of_the_program_gets_id_scores_cost_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering({"run_id": "a", "problems": []})
    record = a_record(mlflow=[ITS_RUN])
    assert logged(monkeypatch, tmp_path, record, answering) == ["logged to MLflow, run a"]
    [order] = answering.orders
    [run] = order["runs"]
    assert {name: run[name] for name in ITS_RUN} == ITS_RUN
    assert run["tags"]["skjob.run_id"] == record.run_id
    assert [name for name, _, _ in run["metrics"]] == ["skjob.best_score"]
    assert ["skjob.cost", 0.12, 0] in order["whole"]["metrics"]
    assert answering.report.startswith("<!doctype html>")
    assert not Path(order["report"]).exists()


def test_mlflow_gets_the_programs_variables_and_is_not_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "40")
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    answering = Answering({"run_id": "a", "problems": []})
    log = MlflowLog(variables={"MLFLOW_TRACKING_TOKEN": "t0k"})
    logged(monkeypatch, tmp_path, a_record(mlflow=[ITS_RUN]), answering, log)
    assert answering.environment["MLFLOW_TRACKING_TOKEN"] == "t0k"
    assert answering.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert answering.environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "40"
    assert answering.environment["AWS_MAX_ATTEMPTS"] == "2"
    assert "t0k" not in repr(log)


def test_a_program_without_mlflow_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering({})
    assert logged(monkeypatch, tmp_path, a_record(), answering) == []
    assert answering.orders == []


@pytest.mark.parametrize(
    ("outcome", "status"), [("succeeded", "FINISHED"), ("failed", "FAILED"), ("error", "FAILED"), ("stopped", "KILLED")]
)
def test_a_run_that_is_wanted_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, status: str
) -> None:
    record = a_record()
    record.outcome.status = outcome
    answering = Answering({"run_id": "new", "problems": []})
    assert logged(monkeypatch, tmp_path, record, answering, MlflowLog(wanted=True)) == ["logged to MLflow, run new"]
    new = answering.orders[0]["new"]
    assert (answering.orders[0]["runs"], new["name"], new["status"]) == ([], record.run_id, status)
    assert new["ended"] - new["started"] >= 43_500


def test_a_run_that_never_began_is_not_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering({})
    assert logged(monkeypatch, tmp_path, a_record(steps=[]), answering, MlflowLog(wanted=True)) == []


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"run_id": "a", "problems": ["x: no", "y: no"]}, "not all could be logged to MLflow: x: no; y: no"),
        ("Traceback\nIt: broke", "not all could be logged to MLflow: RuntimeError: It: broke"),
        ("", "not all could be logged to MLflow: RuntimeError: it ended with status 1"),
        (subprocess.TimeoutExpired("x", TIMEOUT), "not all could be logged to MLflow: it takes longer than 60 s"),
        (KeyboardInterrupt(), "not logged to MLflow: interrupted"),
        (OSError(11, "no processes"), "not all could be logged to MLflow: BlockingIOError: [Errno 11] no processes"),
        (
            {"run_id": None, "problems": ["refused by https://anna:pw@mlflow.example.org"]},
            "not all could be logged to MLflow: refused by https://anna:****@mlflow.example.org",
        ),
    ],
)  # fmt: skip
def test_a_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | str | BaseException, line: str
) -> None:
    assert logged(monkeypatch, tmp_path, a_record(mlflow=[ITS_RUN]), Answering(answer, status=1)) == [line]


def test_a_record_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    MlflowLog().log(a_record(mlflow=[ITS_RUN]), tmp_path, lines.append)
    [line] = lines
    assert line.startswith("not all could be logged to MLflow: ConfigError: the record ")


def test_the_reporter_logs_before_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record = a_record(mlflow=[ITS_RUN])
    write_run(tmp_path, record, a_search())
    monkeypatch.setattr(subprocess, "run", Answering({"run_id": "a", "problems": []}))
    reporter = Reporter(json=True, verbose=False)
    reporter.mlflow = MlflowLog()
    reporter.ended(record)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["kind"] for line in lines] == ["note", "record"]
    assert "pw" not in json.dumps(lines)


def test_mlflow_that_is_wanted_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skjob.report.mlflow.log.find_spec", lambda name: None)
    MlflowLog().check()
    with pytest.raises(ConfigError, match="`--mlflow` needs MLflow, which is not installed here"):
        MlflowLog(wanted=True).check()


# ---- the process, with a stand-in for MLflow


class Server:
    """What was logged, by run; `parents` are those of nested runs."""

    def __init__(self, parents: dict[str, str]) -> None:
        self.parents = parents
        self.metrics: dict[str, list[tuple[str, float, int]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.artifacts: list[tuple[str, str, str]] = []
        self.terminated: list[tuple[str, str, int]] = []
        self.created: list[tuple[str, int, str]] = []
        self.gone: set[str] = set()
        self.store_fails = False
        self.folder = Path()  # where an artifact was logged
        self.steps: list[str] = []

    def __call__(self, uri: str | None) -> Server:
        return self

    def create_run(self, experiment: str, start_time: int, run_name: str) -> Any:
        self.created.append((experiment, start_time, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="new"))

    def log_batch(self, run_id: str, metrics: list[Any], tags: list[Any]) -> None:
        assert len(metrics) <= 1000, "MLflow refuses more at a time"
        if run_id in self.gone:
            raise ValueError(f"Run '{run_id}'\nnot found")
        self.steps.append(f"batch {run_id}")
        self.metrics.setdefault(run_id, []).extend((name, value, step) for name, value, _, step in metrics)
        self.tags.setdefault(run_id, {}).update(tags)

    def log_artifact(self, run_id: str, path: str, folder: str) -> None:
        self.steps.append(f"artifact {run_id}")
        if self.store_fails:
            raise ModuleNotFoundError("No module named 'boto3'")
        self.folder = Path.cwd()
        self.artifacts.append((run_id, path, folder))

    def set_terminated(self, run_id: str, status: str, ended: int) -> None:
        self.steps.append(f"end {run_id}")
        self.terminated.append((run_id, status, ended))

    def get_run(self, run_id: str) -> Any:
        parent = self.parents.get(run_id)
        return SimpleNamespace(data=SimpleNamespace(tags={"mlflow.parentRunId": parent} if parent else {}))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    known = Server({"child": "parent", "parent": "root"})
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    vars(module).update(
        MlflowClient=known,
        set_experiment=lambda name: SimpleNamespace(experiment_id=f"number of {name}"),
    )
    vars(entities).update(Metric=lambda *each: each, RunTag=lambda *each: each)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return known


def a_run(run_id: str | None, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "tracking_uri": "uri", "folder": None, "tags": {"skjob.run_id": "1"},
        "metrics": [["skjob.best_score", 0.5, 0]], "ended": 9, **more,
    }  # fmt: skip


def an_order(*runs: dict[str, Any], **more: Any) -> dict[str, Any]:
    whole = {"tags": {"skjob.outcome": "failed"}, "metrics": [["skjob.cost", 2.0, 0]], "ended": 9}
    return {"runs": [*runs], "new": None, "whole": whole, "report": "report.html", **more}


def test_what_holds_for_the_whole_run_goes_to_one_run(server: Server) -> None:
    assert process.log(an_order(a_run("child"), a_run("other"))) == {"run_id": "root", "problems": []}
    assert server.metrics == {
        "child": [("skjob.best_score", 0.5, 0)],
        "other": [("skjob.best_score", 0.5, 0)],
        "root": [("skjob.cost", 2.0, 0)],
    }
    assert server.tags["root"] == {"skjob.run_id": "1", "skjob.outcome": "failed"}
    assert server.artifacts == [("root", "report.html", "skjob")]
    assert server.terminated == []


def test_a_new_run_is_begun_and_ended(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    new = a_run(None, tracking_uri=None, status="KILLED", name="run", started=5)
    assert process.log(an_order(new=new)) == {"run_id": "new", "problems": []}
    assert server.created == [("number of digits", 5, "run")]
    assert server.terminated == [("new", "KILLED", 9)]


def a_new_run() -> dict[str, Any]:
    return a_run(None, tracking_uri=None, status="FINISHED", name="run", started=5)


def test_the_report_is_last_and_a_store_that_fails_leaves_no_run_open(server: Server) -> None:
    server.store_fails = True
    assert process.log(an_order(new=a_new_run())) == {
        "run_id": "new",
        "problems": ["ModuleNotFoundError: No module named 'boto3'"],
    }
    assert server.metrics["new"] == [("skjob.best_score", 0.5, 0), ("skjob.cost", 2.0, 0)]
    assert server.terminated == [("new", "FINISHED", 9)]
    assert server.steps == ["batch new", "batch new", "end new", "artifact new"]


def test_a_new_run_is_ended_even_if_its_metrics_are_refused(server: Server) -> None:
    server.gone = {"new"}
    assert process.log(an_order(new=a_new_run()))["problems"] == ["ValueError: Run 'new' not found"]
    assert server.terminated == [("new", "FINISHED", 9)]
    assert server.artifacts == []


def test_the_report_waits_for_every_run_and_is_logged_from_the_folder_of_the_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    runs = [a_run("a", folder=str(tmp_path / "one")), a_run("b", folder=str(tmp_path / "two"))]
    assert process.log(an_order(*runs)) == {"run_id": "a", "problems": []}
    assert server.steps == ["batch a", "batch a", "batch b", "artifact a"]
    assert server.folder == tmp_path / "one"


def test_many_metrics_are_logged_in_parts(server: Server) -> None:
    metrics = [["skjob.best_score", step / 7, step] for step in range(2500)]
    assert process.log(an_order(a_run("a", metrics=metrics)))["problems"] == []
    assert server.metrics["a"][:2500] == [tuple(metric) for metric in metrics]


def test_one_run_that_is_gone_does_not_keep_the_others(server: Server) -> None:
    server.gone = {"a"}
    assert process.log(an_order(a_run("a"), a_run("b"))) == {
        "run_id": "b",
        "problems": ["ValueError: Run 'a' not found"],
    }
    assert server.artifacts == [("b", "report.html", "skjob")]
