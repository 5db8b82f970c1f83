"""The modules beside a script: which files they are, which imported modules, and the state they carry."""

import io
import os
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from skjob.engine.transfer import modules
from skjob.engine.transfer.modules import (
    MAX_DATA_FILE_BYTES,
    Sources,
    find_sources,
    module_state,
    pack_modules,
    restore_module,
)
from skjob.engine.transfer.worker_plugins import WorkerModules


def _write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")


def _sources(*names: str, complete: bool = True) -> Sources:
    return Sources(tuple(Path(name) for name in names), complete)


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["train.py", "features.py"], ["features.py", "train.py"]),
        (["notes.txt", "data.csv", "Makefile"], []),
        ([".secret.py", ".git/hooks/x.py", ".venv/lib/x.py"], []),
        (["pkg/__init__.py", "pkg/words.txt", "pkg/sub/__init__.py", "pkg/sub/a.py"],
         ["pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/a.py", "pkg/words.txt"]),
        (["z.py", "a/b/c/__init__.py", "a/b/__init__.py"], ["z.py", "a/b/__init__.py", "a/b/c/__init__.py"]),
        (["pkg/__init__.py", "pkg/.cache/x.py", "pkg/__pycache__/x.py"], ["pkg/__init__.py"]),
        (["space/a.py", "space/data.bin", "space/deep/b.py"], ["space/a.py", "space/deep/b.py"]),
        (["data/one.csv", "data/two.parquet"], []),
        (["my-data/a.py", "2024/a.py"], []),
        (["env/pyvenv.cfg", "env/lib/python3.11/site-packages/numpy/__init__.py", "env/lib/x.py"], []),
        (["env/conda-meta/history", "env/lib/python3.11/json/__init__.py"], []),
        (["pkg/__init__.py", "pkg/env/pyvenv.cfg", "pkg/env/lib/x.py"], ["pkg/__init__.py"]),
        (["pyvenv.cfg", "train.py"], ["train.py"]),
        (["site-packages/a.py", "node_modules/a.py", "__pycache__/a.py"], []),
    ],
)  # fmt: skip
def test_source_files(tmp_path: Path, present: list[str], taken: list[str]) -> None:
    _write(tmp_path, *present)
    assert find_sources(tmp_path) == _sources(*taken)


def test_large_files_stay(tmp_path: Path) -> None:
    _write(tmp_path, "pkg/__init__.py")
    (tmp_path / "pkg" / "model.bin").write_bytes(b"x" * (MAX_DATA_FILE_BYTES + 1))
    (tmp_path / "pkg" / "table.bin").write_bytes(b"x" * MAX_DATA_FILE_BYTES)
    assert find_sources(tmp_path) == _sources("pkg/__init__.py", "pkg/table.bin")


def test_an_archive_is_its_content_and_no_times(tmp_path: Path) -> None:
    _write(tmp_path, "a.py", "pkg/__init__.py")
    first = pack_modules(tmp_path).content
    os.utime(tmp_path / "a.py", (0, 0))
    assert pack_modules(tmp_path).content == first
    with zipfile.ZipFile(io.BytesIO(first)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "a.py": b"# a.py\n",
            "pkg/__init__.py": b"# pkg/__init__.py\n",
        }
    (tmp_path / "a.py").write_text("# changed\n")
    assert pack_modules(tmp_path).content != first


def test_an_archive_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 10_000)
    assert len(pack_modules(tmp_path).content) < 1000


def test_a_home_folder_is_not_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands nearest to the script comes first, and modules before data."""
    monkeypatch.setattr(modules, "MAX_FILES", 3)
    _write(tmp_path, "a/__init__.py", "a/words.txt", "a/deep/b.py", "y.py", "z.py")
    packed = pack_modules(tmp_path)
    assert not packed.complete
    with zipfile.ZipFile(io.BytesIO(packed.content)) as opened:
        assert opened.namelist() == ["y.py", "z.py", "a/__init__.py"]


@pytest.mark.parametrize(("room", "complete"), [(0, True), (-1, False)])
def test_what_is_sent_has_a_total_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, complete: bool
) -> None:
    _write(tmp_path, "pkg/__init__.py", "pkg/a.txt", "pkg/b.txt", "train.py")
    (tmp_path / "pkg" / "a.txt").write_bytes(b"x" * 1000)
    small = ["train.py", "pkg/__init__.py", "pkg/b.txt"]
    monkeypatch.setattr(modules, "MAX_BYTES", 1000 + sum((tmp_path / name).stat().st_size for name in small) + room)
    taken = [*small[:2], "pkg/a.txt", "pkg/b.txt"]
    assert find_sources(tmp_path) == _sources(*(taken if complete else taken[:3]), complete=complete)


def _opened(monkeypatch: pytest.MonkeyPatch, refuse: str | None = None) -> list[str]:
    """Collects the names of the folders that are looked into. The one to refuse cannot be read."""
    opened: list[str] = []
    scandir = os.scandir

    def look(path: Path) -> object:
        opened.append(path.name)
        if path.name == refuse:
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(modules.os, "scandir", look)  # type: ignore[attr-defined]
    return opened


def test_a_mountain_of_data_is_not_climbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes after it in the alphabet is found."""
    monkeypatch.setattr(modules, "MAX_FOLDERS", 6)
    _write(tmp_path, "train.py", *(f"data/part{number}/{number}.csv" for number in range(20)), "src/app/a.py")
    opened = _opened(monkeypatch)
    assert find_sources(tmp_path) == _sources("train.py", "src/app/a.py")
    assert opened[1:] == ["data", "src", "app", "part0", "part1"]


def test_too_many_folders_of_modules_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_FOLDERS", 3)
    _write(tmp_path, "train.py", "a/a.py", "b/b.py", "c/c.py")
    assert find_sources(tmp_path) == _sources("train.py", "a/a.py", "b/b.py", complete=False)


def test_of_too_many_data_files_none_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_FILES", 4)
    _write(tmp_path, "pkg/__init__.py", *(f"pkg/{number}.txt" for number in range(5)))
    assert find_sources(tmp_path) == _sources("pkg/__init__.py", complete=False)
    _write(tmp_path, "train.py")
    (tmp_path / "pkg" / "__init__.py").unlink()
    assert find_sources(tmp_path) == _sources("train.py")


def test_a_folder_that_can_not_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "train.py", "secret/a.py", "shared/b.py")
    _opened(monkeypatch, refuse="secret")
    assert find_sources(tmp_path) == _sources("train.py", "shared/b.py")


def test_links_are_followed_as_import_follows_them_and_not_for_ever(tmp_path: Path) -> None:
    _write(tmp_path, "elsewhere/common/__init__.py", "project/pkg/a.py")
    (tmp_path / "project" / "common").symlink_to(tmp_path / "elsewhere" / "common")
    (tmp_path / "project" / "pkg" / "up").symlink_to(tmp_path / "project")
    (tmp_path / "elsewhere" / "common" / "across").symlink_to(tmp_path / "project" / "pkg")
    assert find_sources(tmp_path / "project") == _sources("common/__init__.py", "pkg/a.py", "common/across/a.py")


def test_a_file_that_can_not_be_read_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "a.py", "secret.py", "pkg/__init__.py")
    (tmp_path / "pkg" / os.fsdecode(b"\xff.txt")).touch()
    (tmp_path / "broken.py").symlink_to(tmp_path / "absent.py")
    assert find_sources(tmp_path) == _sources("a.py", "secret.py", "pkg/__init__.py")
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "secret.py":
            raise PermissionError(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    packed = pack_modules(tmp_path)
    assert not packed.complete
    with zipfile.ZipFile(io.BytesIO(packed.content)) as opened:
        assert opened.namelist() == ["a.py", "pkg/__init__.py"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "unit_features.py").write_text(
        "import threading\n"
        "import json as other\n"
        "SCALE = 2\n"
        "NAMES = {'a': [1]}\n"
        "lock = threading.Lock()\n"
        "class Config:\n    value = 1\n"
        "CONFIG = Config()\n"
        "def double(x):\n    return SCALE * x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("unit_features", None)


def test_module_state_is_the_plain_data_that_can_travel(project: Path) -> None:
    import unit_features

    unit_features.SCALE = 3
    unit_features.added = "later"
    state = module_state(unit_features)
    assert state.keys() >= {"SCALE", "NAMES", "CONFIG", "added"}
    assert not {"lock", "double", "other", "threading", "__name__", "__builtins__"} & state.keys()
    assert {name: cloudpickle.loads(state[name]) for name in ("SCALE", "NAMES", "added")} == {
        "SCALE": 3,
        "NAMES": {"a": [1]},
        "added": "later",
    }


def test_a_restored_module_has_the_state_and_its_own_functions_see_it(project: Path) -> None:
    import unit_features

    unit_features.SCALE = 5
    state = module_state(unit_features)
    del sys.modules["unit_features"]  # as on a worker, where nothing has been imported yet
    restored = restore_module("unit_features", state)
    assert restored is not unit_features
    assert sys.modules["unit_features"] is restored
    assert (restored.SCALE, restored.double(2), type(restored.lock).__name__) == (5, 10, "lock")


def test_a_module_that_no_import_finds_is_made_of_its_source(tmp_path: Path) -> None:
    """With the state it has here; two tasks have the same one."""
    (tmp_path / "experiment-7.py").write_text(
        "import threading\nlock = threading.Lock()\nPOWER = 2\ndef f(): return POWER\n"
    )
    spec = spec_from_file_location("unit_experiment", tmp_path / "experiment-7.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.POWER = 3  # type: ignore[attr-defined]
    make, arguments = modules.reduce_module(module)
    made = make(*arguments)
    assert made is not module
    assert (made.__name__, made.POWER, made.f()) == ("unit_experiment", 3, 3)
    assert make(*arguments) is made
    assert "unit_experiment" not in sys.modules


def test_a_module_whose_file_is_gone_is_left_to_cloudpickle(tmp_path: Path) -> None:
    module = ModuleType("unit_gone")
    module.__file__ = str(tmp_path / "gone.py")
    assert modules.reduce_module(module) is NotImplemented


class _Worker:
    def __init__(self, folder: Path) -> None:
        self.local_directory = str(folder)
        self.data: dict[str, object] = {}


def test_a_worker_imports_what_the_plugin_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    _write(source, "unit_brought.py")
    (source / "unit_brought.py").write_text("VALUE = 7\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugin = WorkerModules("script", pack_modules(source).content)
    plugin.setup(_Worker(tmp_path / "worker"))
    import unit_brought  # type: ignore[import-not-found]

    assert unit_brought.VALUE == 7
    assert Path(unit_brought.__file__).is_relative_to(tmp_path / "worker")
