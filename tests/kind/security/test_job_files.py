"""A job file cannot execute code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import run_command

Row = Callable[..., None]

BAGGING = "estimator: {class: sklearn.ensemble.BaggingClassifier, parameters: {estimator: {class: %s}}}"
HOSTILE = {
    "a tag that makes a Python object": ("cv: !!python/object/apply:os.system ['touch ran']", "is not allowed"),
    "an estimator `os.system`": ("estimator: {class: os.system}", "is part of Python's standard library"),
    "a parameter `subprocess.Popen`": (
        BAGGING % "subprocess.Popen, parameters: {args: [touch, ran]}",
        "is part of Python's standard library",
    ),
    "a parameter `pandas.HDFStore`": (BAGGING % "pandas.HDFStore, parameters: {path: ran}", "cannot be used here"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_job_file_cannot_execute_code(
    what: str,
    kind_env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    security_row: Row,
) -> None:
    section, words = HOSTILE[what]
    sections = {
        "estimator": "estimator: {class: sklearn.svm.SVC}",
        "search": "search: {kind: grid}",
        "space": "space: {C: [1]}",
        "data": "data: {loader: load_iris}",
        "outputs": "outputs: {table: results.csv}",
        section.partition(":")[0]: section,
    }
    (tmp_path / "job.yaml").write_text("\n".join(sections.values()))
    monkeypatch.chdir(tmp_path)
    ended = run_command(["run", "--on", "kubernetes", "job.yaml"], kind_env, monkeypatch, capsys)
    assert ended.returncode == 120, ended.stderr
    assert words in ended.stderr
    assert not Path("ran").exists()
    security_row("a job file is data", what, "refused, nothing ran", "yes")
