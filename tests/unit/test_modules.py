"""The modules beside a script: which files they are, which imported modules, and the state they carry."""

import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from skjob.engine import modules
from skjob.engine.modules import (
    LARGEST_FILE,
    LocalModules,
    archive,
    is_local,
    local_modules,
    module_state,
    restore_module,
    source_files,
)


def _write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["train.py", "features.py"], ["features.py", "train.py"]),
        (["notes.txt", "data.csv", "Makefile"], []),
        ([".secret.py", ".git/hooks/x.py", ".venv/lib/x.py"], []),
        (["pkg/__init__.py", "pkg/words.txt", "pkg/sub/__init__.py", "pkg/sub/a.py"],
         ["pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/a.py", "pkg/words.txt"]),
        (["pkg/__init__.py", "pkg/.cache/x.py", "pkg/__pycache__/x.py"], ["pkg/__init__.py"]),
        (["space/a.py", "space/data.bin", "space/deep/b.py"], ["space/a.py", "space/deep/b.py"]),
        (["data/one.csv", "data/two.parquet"], []),
        (["my-data/a.py", "2024/a.py"], []),
        (["env/pyvenv.cfg", "env/lib/python3.11/site-packages/numpy/__init__.py", "env/lib/x.py"], []),
        (["env/conda-meta/history", "env/lib/python3.11/json/__init__.py"], []),
        (["site-packages/a.py", "node_modules/a.py", "__pycache__/a.py"], []),
    ],
)  # fmt: skip
def test_source_files(tmp_path: Path, present: list[str], taken: list[str]) -> None:
    _write(tmp_path, *present)
    assert [str(file) for file in source_files(tmp_path)] == taken


def test_large_files_stay(tmp_path: Path) -> None:
    _write(tmp_path, "pkg/__init__.py")
    (tmp_path / "pkg" / "model.bin").write_bytes(b"x" * (LARGEST_FILE + 1))
    (tmp_path / "pkg" / "table.bin").write_bytes(b"x" * LARGEST_FILE)
    assert [str(file) for file in source_files(tmp_path)] == ["pkg/__init__.py", "pkg/table.bin"]


def test_an_archive_is_its_content_and_no_times(tmp_path: Path) -> None:
    _write(tmp_path, "a.py", "pkg/__init__.py")
    first = archive(tmp_path)
    os.utime(tmp_path / "a.py", (0, 0))
    assert archive(tmp_path) == first
    with zipfile.ZipFile(io.BytesIO(first)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {
            "a.py": b"# a.py\n",
            "pkg/__init__.py": b"# pkg/__init__.py\n",
        }
    (tmp_path / "a.py").write_text("# changed\n")
    assert archive(tmp_path) != first


def test_an_archive_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 10_000)
    assert len(archive(tmp_path)) < 1000


def test_a_home_folder_is_not_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MOST_FILES", 3)
    _write(tmp_path, *(f"m{number}.py" for number in range(9)))
    with zipfile.ZipFile(io.BytesIO(archive(tmp_path))) as opened:
        assert opened.namelist() == ["m0.py", "m1.py", "m2.py"]


def test_a_file_that_can_not_be_read_does_not_end_the_run(tmp_path: Path) -> None:
    _write(tmp_path, "a.py")
    (tmp_path / "broken.py").symlink_to(tmp_path / "absent.py")
    assert [str(file) for file in source_files(tmp_path)] == ["a.py"]


@pytest.mark.parametrize(
    ("file", "local"),
    [
        ("{root}/features.py", True),
        ("{root}/pkg/__init__.py", True),
        ("{root}/venv/lib/python3.11/site-packages/numpy/__init__.py", False),
        ("{root}/venv/lib/python3/dist-packages/x.py", False),
        ("{root}/env/lib/python3.11/json/__init__.py", False),
        ("{root}-other/features.py", False),
        ("/usr/lib/python3.11/json/__init__.py", False),
        (None, False),
    ],
)
def test_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, local: bool) -> None:
    """`env` is where the interpreter is that runs the script, without a site-packages around its own modules."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "env"))
    module = ModuleType("m")
    module.__file__ = file and file.format(root=tmp_path)
    assert is_local(module, tmp_path) is local


def test_a_script_inside_the_environments_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may well have Python in /usr and the program in /usr/src/app."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    module = ModuleType("m")
    module.__file__ = str(tmp_path / "src" / "app" / "features.py")
    assert is_local(module, tmp_path / "src" / "app")


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


def test_local_modules(project: Path) -> None:
    import unit_features  # type: ignore[import-not-found]

    assert local_modules(project) == [unit_features]
    assert local_modules(None) == []
    assert local_modules(project / "elsewhere") == []


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


class _Worker:
    def __init__(self, folder: Path) -> None:
        self.local_directory = str(folder)


def test_a_worker_imports_what_the_plugin_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    _write(source, "unit_brought.py")
    (source / "unit_brought.py").write_text("VALUE = 7\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugin = LocalModules(archive(source))
    plugin.setup(_Worker(tmp_path / "worker"))
    import unit_brought  # type: ignore[import-not-found]

    assert unit_brought.VALUE == 7
    assert Path(unit_brought.__file__).is_relative_to(tmp_path / "worker")


def test_a_plugin_is_called_by_its_content(tmp_path: Path) -> None:
    """Distributed keeps one plugin of each name, and a second run in a notebook may have changed the modules."""
    assert LocalModules(b"a").name == LocalModules(b"a").name != LocalModules(b"b").name
