"""Test the help of commands: groups of options, whole descriptions, `-h`; and the completion of values."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skjob.cli import completion
from skjob.cli.app import main
from skjob.cli.help import GROUPS

pytestmark = pytest.mark.unit


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run `skjob` with these arguments in this process, and return its stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # pytest's argv differs
    monkeypatch.setattr("skjob.cli.app.freeze", lambda: None)  # this process goes on

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["skjob", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run


@pytest.fixture
def complete(typed: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Complete the last of these words as bash requests it."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_SKJOB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["skjob", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return typed().split()

    return ask


@pytest.mark.parametrize("command", ["", "run", "up", "ps", "env", "env build"])
def test_a_short_name_of_help(typed: Callable[..., str], command: str) -> None:
    shown = typed(*command.split(), "-h")
    assert shown == typed(*command.split(), "--help")
    assert "-h, --help" in shown


def test_options_are_in_groups(typed: Callable[..., str]) -> None:
    lines = typed("run", "--help").splitlines()
    titles = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments", *GROUPS, "Options"]
    limits = lines[lines.index("Limits:") + 1 : lines.index("Output:")]
    names = [line.split()[0] for line in limits if line.startswith("  --")]
    assert names == ["--start-timeout", "--max-time", "--max-cost", "--grace", "--keep-time"]


def test_descriptions_of_commands_are_whole(typed: Callable[..., str]) -> None:
    _, _, shown = typed("--help").partition("Commands:")
    assert "..." not in shown
    assert "`skjob run --cluster NAME` starts on it at once, one run at a time. ps" in " ".join(shown.split())


def test_a_value_is_one_of_those_there_are(complete: Callable[..., list[str]]) -> None:
    assert complete("run", "--on", "") == ["auto", "kubernetes", "local"]
    assert complete("run", "--on", "k") == ["kubernetes"]
    assert complete("up", "--env", "") == ["auto", "none"]


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "ann", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": "lab", "user": "ann"}} for name in ("lab", "large", "play")],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


@pytest.mark.usefixtures("kubeconfig")
def test_contexts_are_those_of_the_kubeconfig(complete: Callable[..., list[str]]) -> None:
    assert complete("ps", "--context", "l") == ["lab", "large"]


class _Api:
    """A kubeconfig with a namespace for each of two teams."""

    def list(self, kind: str) -> list[Any]:
        assert kind == "Namespace"
        return [{"metadata": {"name": name}} for name in ("team-a", "team-b", "other")]


def test_namespaces_are_those_of_the_context_that_was_typed(
    complete: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[tuple[Any, ...]] = []

    def connect(*given: Any) -> _Api:
        connections.append(given)
        return _Api()

    monkeypatch.setattr("skjob.cli.options.connect_with_options", connect)
    assert complete("run", "--context", "lab", "--namespace", "team") == ["team-a", "team-b"]
    assert connections == [("", "lab", None)]


def test_a_cluster_that_can_not_be_reached_completes_nothing(
    complete: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    assert complete("run", "--cluster", "") == []
    assert complete("ps", "--context", "") == []


def test_an_api_that_does_not_answer_is_not_waited_for(
    complete: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "TIMEOUT", 0.01)
    monkeypatch.setattr("skjob.cli.options.connect_with_options", lambda *_: threading.Event().wait())
    assert complete("run", "--cluster", "") == []
