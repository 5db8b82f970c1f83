"""Programs that run as modules: which file it is, found without running anything, and what to run in a package."""

import ast
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from skjob.config.plan import JobSpec
from skjob.errors import ConfigError
from skjob.run.program.leading_imports import leading_imports
from skjob.utils.run_module import find_module, module_command, relative_import


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("proj/__init__.py", "proj/train.py", "proj/tool/__main__.py", "space/deep/train.py", "one.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import sklearn\n" if name.endswith("train.py") else "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("one", "one.py"),
        ("proj.train", "proj/train.py"),
        ("proj.tool", "proj/tool/__main__.py"),
        ("proj.tool.__main__", "proj/tool/__main__.py"),
        ("space.deep.train", "space/deep/train.py"),
    ],
)
def test_the_file_of_a_module(project: Path, name: str, file: str) -> None:
    assert find_module(name, project, []) == project / file


def test_the_working_directory_comes_first_and_then_the_import_path(project: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("one.py", "two.py"):
        (tmp_path / "lib" / name).touch()
    assert find_module("one", project, [str(tmp_path / "lib")]) == project / "one.py"
    assert find_module("two", project, [str(tmp_path / "lib")]) == tmp_path / "lib" / "two.py"


def test_an_import_hook_is_asked_as_of_a_package_in_editable_mode(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere" / "src"
    package.mkdir(parents=True)
    for name in ("__init__.py", "train.py"):
        (package / name).touch()

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> object:
            return (name == "unit_acme" and spec_from_file_location(name, package / "__init__.py")) or None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert find_module("unit_acme.train", project, []) == package / "train.py"


@pytest.mark.parametrize("name", ["", ".train", "proj.", "two", "proj.two", "one.two", "space", "proj", "itertools"])
def test_a_name_that_cannot_be_run(project: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_module(name, project, [])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import json\nfrom .model import make\n", 2),
        ("from . import model\n", 1),
        ("from model import make\n", None),
        ("try:\n    from .model import make\nexcept ImportError:\n    from model import make\n", None),
        ("def f():\n    from .model import make\n", None),
        ("if __package__:\n    from .model import make\n", None),
        ("__package__ = 'proj'\nfrom .model import make\n", None),
    ],
)
def test_a_relative_import_that_a_script_cannot_do(source: str, line: int | None) -> None:
    found = relative_import(ast.parse(source))
    assert (found and found.lineno) == line


def test_the_command_that_runs_a_script_as_a_module(project: Path) -> None:
    assert module_command(Path("proj/train.py"), 1, project) == "`skjob run -m proj.train`"
    assert module_command(Path("proj/tool/__main__.py"), 1, project) == "`skjob run -m proj.tool`"
    assert module_command(Path("space/deep/train.py"), 2, project) == "`skjob run -m space.deep.train`"
    assert module_command(Path("proj/train.py"), 1, project / "proj") == f"`skjob run -m proj.train` in `{project}`"
    (project / "my-proj").mkdir()
    assert module_command(Path("my-proj/train.py"), 1, project) is None


def test_a_job_that_is_a_module(project: Path) -> None:
    job = JobSpec(project / "proj" / "train.py", (), "proj.train")
    assert (job.name, job.stem, job.root, job.declared) == ("-m proj.train", "train", project, False)


def test_what_a_module_imports_first_waits_for_the_code_of_its_packages(project: Path) -> None:
    file = project / "proj" / "train.py"
    assert leading_imports(file, "proj.train") == ("sklearn",)
    (project / "proj" / "__init__.py").write_text("import os\nos.environ['OMP_NUM_THREADS'] = '1'\n")
    assert leading_imports(file, "proj.train") == ()
    (project / "proj" / "__init__.py").write_text("")
    (project / "sklearn.py").touch()
    assert leading_imports(file, "proj.train") == ()
