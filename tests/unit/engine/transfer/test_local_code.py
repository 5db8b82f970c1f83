"""What is the user's own code: every module whose file no environment has."""

import sys
import sysconfig
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy
import pytest

import skjob
from skjob.engine.transfer import local_code
from skjob.engine.transfer.code_origin import Origins
from skjob.engine.transfer.local_code import CodeOrigin, LocalModules, is_installed_beside, is_local, origin_of

STDLIB = sysconfig.get_path("stdlib")


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the interpreter is that runs the script, without a site-packages around its own modules."""
    folder = tmp_path / "project" / "env"
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(sys, "base_prefix", str(folder))
    return folder


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("file", "home"),
    [
        ("{tmp}/project/features.py", CodeOrigin.LOCAL),
        ("{tmp}/project/pkg/__init__.py", CodeOrigin.LOCAL),
        ("{tmp}/project/venv/lib/python3.11/site-packages/numpy/__init__.py", CodeOrigin.INSTALLED),
        ("{tmp}/project/venv/lib/python3/dist-packages/x.py", CodeOrigin.INSTALLED),
        ("{tmp}/project/env/lib/python3.11/json/__init__.py", CodeOrigin.INSTALLED),
        ("{tmp}/project-other/features.py", CodeOrigin.LOCAL),
        ("{tmp}/lib/shop/features.py", CodeOrigin.LOCAL),
        ("{tmp}/project/scripts/../../lib/shop.py", CodeOrigin.LOCAL),
        ("/usr/lib/python3/dist-packages/x.py", CodeOrigin.INSTALLED),
        ("{stdlib}/json/__init__.py", CodeOrigin.PYTHON),
        ("{stdlib}/site-packages/x.py", CodeOrigin.INSTALLED),
        ("{skjob}", CodeOrigin.EDITABLE),
    ],
)
def test_the_home_of_a_file(tmp_path: Path, file: str, home: CodeOrigin) -> None:
    path = file.format(tmp=tmp_path, stdlib=STDLIB, skjob=skjob.__file__)
    assert origin_of("m", path, tmp_path / "project") is home


def test_a_program_inside_the_environments_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may well have Python in /usr, the program in /usr/src/app and its library in /usr/src/lib."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    root = tmp_path / "src" / "app"
    assert origin_of("features", str(root / "features.py"), root) is CodeOrigin.LOCAL
    assert origin_of("shop", str(tmp_path / "src" / "lib" / "shop.py"), root) is CodeOrigin.LOCAL
    assert origin_of("x", str(tmp_path / "lib" / "site-packages" / "x.py"), root) is CodeOrigin.INSTALLED


@pytest.fixture
def editable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is installed in editable mode, as hatchling and setuptools do it."""
    project, site = tmp_path / "project", tmp_path / "site-packages"
    info = site / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    project.mkdir()
    (info / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    (info / "direct_url.json").write_text('{"url": "file:///project", "dir_info": {"editable": true}}')
    (info / "RECORD").write_text("_acme.pth,,\n__editable___acme.pth,,\n")
    (site / "_acme.pth").write_text(f"{project}\n")
    (site / "__editable___acme.pth").write_text("import _acme_finder\n")
    (site / "_acme_finder.py").write_text(f"MAPPING = {{'mapped': {str(tmp_path / 'elsewhere' / 'mapped')!r}}}\n")
    (tmp_path / "elsewhere" / "mapped").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    return project


def test_what_is_installed_in_editable_mode_is_on_workers(editable: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere" / "scripts"
    assert origin_of("acme.model", str(editable / "acme" / "model.py"), root) is CodeOrigin.EDITABLE
    assert origin_of("acme", str(editable / "acme" / "__init__.py"), root) is CodeOrigin.EDITABLE
    assert origin_of("mapped.x", str(tmp_path / "elsewhere" / "mapped" / "x.py"), root) is CodeOrigin.EDITABLE


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("shop", "shop/__init__.py", True),
        ("shop.model", "shop/model.py", True),
        ("shop.parts", "shop/parts/__init__.py", True),
        ("single", "single.py", True),
        ("mine", "mine.py", False),
        ("mine.shop", "mine/shop.py", False),
        ("shop.model", "else/where/shop/model.py", False),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o", "/x.py", False),
    ],
)
def test_a_library_that_is_installed_into_a_folder(name: str, file: str, expected: bool, tmp_path: Path) -> None:
    """As `pip install --target` does, possibly beside the user's own modules."""
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    (info / "RECORD").write_text("acme-1.0.dist-info/METADATA,,\nshop/__init__.py,sha256=x,3\nsingle.py,,\n")
    assert is_installed_beside(name, str(tmp_path / file)) == expected


def test_another_file_of_an_editable_project_is_not_installed(editable: Path, tmp_path: Path) -> None:
    """It has another name than an import would give it, from a folder that the program has put on `sys.path`."""
    assert origin_of("shop", str(editable / "lib" / "shop.py"), tmp_path / "scripts") is CodeOrigin.LOCAL
    assert origin_of("other", str(tmp_path / "elsewhere" / "mapped" / "x.py"), tmp_path / "scripts") is CodeOrigin.LOCAL


def test_keys_of_fits_and_pickles_agree(editable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local code is known by its source; so is that of a package in editable mode, which workers have."""
    for name, file in (("unit_shop", tmp_path / "lib" / "unit_shop.py"), ("unit_acme", editable / "unit_acme.py")):
        module = ModuleType(name)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, name, module)
    origins = Origins(tmp_path / "scripts", {})
    assert [origins.library(name) for name in ("unit_shop", "unit_acme", "json")] == [None, None, "python"]
    assert origins.library("numpy") == f"numpy=={numpy.__version__}"
    assert is_local(sys.modules["unit_shop"], tmp_path / "scripts")
    assert not is_local(sys.modules["unit_acme"], tmp_path / "scripts")


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """All that is imported."""
    modules = {"numpy": numpy, "__main__": ModuleType("__main__")}
    monkeypatch.setattr(local_code, "sys", SimpleNamespace(**vars(sys) | {"modules": modules}))
    return modules


def _module(name: str, file: Path) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(file)
    return module


def test_local_modules(imported: dict[str, ModuleType], tmp_path: Path) -> None:
    local = LocalModules()
    imported["__main__"].__file__ = str(tmp_path / "train.py")
    imported["space"] = ModuleType("space")
    imported["space"].__path__ = []  # a package without `__init__.py` has no file
    first = imported["features"] = _module("features", tmp_path / "features.py")
    assert local.find(tmp_path) == [first]
    again = local.find(tmp_path)
    assert again is local.find(tmp_path)
    second = imported["features"] = _module("features", tmp_path / "other.py")
    assert local.find(tmp_path) == [second]
    del imported["features"]
    assert local.find(tmp_path) == []
    assert local.find(None) == []


def test_a_module_that_the_program_has_made_by_hand(imported: dict[str, ModuleType], tmp_path: Path) -> None:
    """And not one that a library has: it has a package, or is known to Python, or has no code of Python's."""
    source = {"made": "def f(): pass", "made.below": "class C:\n    def f(self): pass", "compiled": "import json as f"}
    for name in ("made", "made.below", "compiled", "numpy.made", "typing", "sitecustomize"):
        imported[name] = ModuleType(name)
        exec(source.get(name, "def f(): pass"), vars(imported[name]))  # noqa: S102 - as such a program does
    assert LocalModules().find(tmp_path) == [imported["made"], imported["made.below"]]


def test_what_is_no_module_is_passed_over(imported: dict[str, object], tmp_path: Path) -> None:
    class Odd:
        __file__ = str(tmp_path / "odd.py")

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

    imported["odd"], imported["none"] = Odd(), None
    local = LocalModules()
    assert local.find(tmp_path) == []
    assert local.find(tmp_path) == []
