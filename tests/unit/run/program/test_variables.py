"""Variables that a user sets, in the program's process and on workers, and that they are gone afterwards."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from skjob import errors
from skjob.config.environment_variables import NO_VARIABLES, Variables
from skjob.config.sources import flags, resolve
from skjob.engine.fidelity.settings import process
from skjob.engine.fidelity.settings.process import ProcessSettings, apply_here
from skjob.errors import ConfigError
from skjob.run.program.storage_credentials import Credentials, found_files
from skjob.run.program.variables import ProgramVariables, applied, variables_of
from skjob.run.program.worker_variables import WorkerVariables

GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_hidden", [])
    monkeypatch.delenv(GOOGLE, raising=False)


def test_workers_of_a_runs_own_cluster_are_sent_nothing() -> None:
    found = ProgramVariables.of(Variables({"A": "1"}, {"B": "2"}), None)
    assert found == ProgramVariables({}, (), ("A", "B"), ("B",))
    assert ProgramVariables.of(NO_VARIABLES, NO_VARIABLES) == ProgramVariables()


def test_a_secret_is_hidden_from_the_moment_that_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame")
    found = variables_of(resolve([flags({"set_env": ["A=1"], "secret_env": ["MY_TOKEN"]})]))
    assert found == Variables({"A": "1"}, {"MY_TOKEN": "sesame"})
    assert errors.without_credentials("sesame opens it") == "**** opens it"


def test_what_is_set_for_a_block_is_what_it_was_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LEVEL", "mine")
    monkeypatch.delenv("MY_TOKEN", raising=False)
    before = dict(os.environ)
    with applied({"MY_LEVEL": "1", "MY_TOKEN": "sesame"}):
        assert (os.environ["MY_LEVEL"], os.environ["MY_TOKEN"]) == ("1", "sesame")
        os.environ["MY_LEVEL"] = "what the program has set"
    assert dict(os.environ) == before


def test_a_time_zone_applies_in_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on workers, whose processes start with it."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with applied({"TZ": "Asia/Tokyo"}):
        assert time.tzname[0] == "JST"
    assert time.tzname[0] == "UTC"
    monkeypatch.undo()
    time.tzset()


def test_a_worker_has_the_variables_of_a_run_for_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LEVEL", "the cluster's")
    monkeypatch.delenv("MY_TOKEN", raising=False)
    before = dict(os.environ)
    plugin = WorkerVariables({"MY_LEVEL": "1", "MY_TOKEN": "sesame"})
    plugin.setup(None)
    assert dict(os.environ) == {**before, "MY_LEVEL": "1", "MY_TOKEN": "sesame"}
    plugin.teardown(None)
    assert dict(os.environ) == before
    assert "sesame" not in f"{plugin!r} {plugin.name}"


def test_a_file_with_credentials_must_be_there(tmp_path: Path) -> None:
    requested = resolve([flags({"set_env": [f"{GOOGLE}={tmp_path}/none.json"]})])
    with pytest.raises(ConfigError, match=f"the file that `{GOOGLE}` names cannot be read"):
        variables_of(requested)


def test_a_file_with_credentials_is_copied_for_a_worker_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.json").write_text("{}")
    path = str(tmp_path / "key.json")
    plugin = Credentials({}, found_files({GOOGLE: path}))
    folder = tmp_path / "worker"
    folder.mkdir()
    plugin.setup(SimpleNamespace(local_directory=str(folder)))
    copy = Path(os.environ[GOOGLE])
    assert (copy.read_text(), folder in copy.parents, copy.suffix) == ("{}", True, ".json")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    # A task whose code reads the variable brings its value along: the path in the program's process.
    undo: list[process.Undo] = []
    apply_here(ProcessSettings(variables=((GOOGLE, path), ("MY_PATH", path))), undo)
    assert (os.environ[GOOGLE], os.environ["MY_PATH"]) == (str(copy), path)
    undo[0]()
    plugin.teardown(None)
    assert GOOGLE not in os.environ
    assert list(folder.iterdir()) == []
    assert process.COPIED_FILES == {}


@pytest.mark.parametrize(
    ("here", "given", "copied"),
    [("key.json", [GOOGLE], False), ("other.json", [], False), ("other.json", [GOOGLE], True)],
    ids=["the same file", "a worker's own", "given to the run"],
)
def test_a_worker_keeps_a_file_that_it_has(
    here: str, given: list[str], copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv(GOOGLE, str(tmp_path / here))
    plugin = Credentials({}, found_files({GOOGLE: str(tmp_path / "key.json")}), given)
    plugin.setup(SimpleNamespace(local_directory=str(tmp_path)))
    assert (os.environ[GOOGLE] != str(tmp_path / here)) is copied
    plugin.teardown(None)
    assert os.environ[GOOGLE] == str(tmp_path / here)


def test_what_was_given_to_a_run_by_name_is_no_identity_of_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from the run's Secret")
    keys = {"AWS_ACCESS_KEY_ID": "ann", "AWS_SECRET_ACCESS_KEY": "from the run's Secret"}
    plugin = Credentials(keys, given=["AWS_SECRET_ACCESS_KEY"])
    plugin.setup(None)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "ann"
    plugin.teardown(None)
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "from the run's Secret"


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    assert found_files({}) == {}
    assert found_files({GOOGLE: ""}) == {}
    assert found_files({GOOGLE: str(tmp_path)}) == {}
    assert found_files({GOOGLE: "a\0b"}) == {}
