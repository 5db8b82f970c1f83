"""Test the scan of an environment: the distributions, where each is from, and what goes to workers."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skjob.engine.transfer.editable import EditableSources, resolve_editable
from skjob.environment.local import distributions as module
from skjob.environment.local.distributions import (
    CLIENT_SIDE,
    ENGINE,
    INSTALLER,
    REMAINDER,
    SKJOB_ITSELF,
    LocalDistribution,
    scan_environment,
)

Install = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions, the only ones that exist."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    module._has_conda.cache_clear()
    yield folder
    module._has_conda.cache_clear()


@pytest.fixture
def install(site: Path) -> Install:
    """Install a distribution: its metadata, and the files that it claims to have. Return its .dist-info."""

    def add(
        name: str,
        version: str = "1.0",
        requires: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        direct_url: object = None,
        *,
        requested: bool = False,
        installer: str = "uv",
    ) -> Path:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [*(f"Requires-Dist: {line}" for line in requires), "", "Requires-Dist: from-the-description"]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "INSTALLER").write_text(f"{installer}\n")
        for file in files:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).touch()
        own = [f"{info.name}/METADATA", f"{info.name}/RECORD"]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, *own)))
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        if requested:
            (info / "REQUESTED").touch()
        return info

    return add


@pytest.fixture
def engine(install: Install) -> None:
    """Install the distributions that workers consist of."""
    for name in ENGINE:
        install(name, "9.0")


ENGINE_PINS = dict.fromkeys(ENGINE, "9.0")


def local(**more: object) -> LocalDistribution:
    """Return the only local distribution, found in this way."""
    [only] = scan_environment().local
    for name, value in more.items():
        assert getattr(only, name) == value, name
    return only


# ------------------------------------------------------------------------------------------------- what is sent


@pytest.mark.usefixtures("engine")
def test_every_distribution_with_its_exact_version(install: Install) -> None:
    install("Top_Level.Package", "2.0+cu118")
    found = scan_environment()
    assert found.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found.pins == {**ENGINE_PINS, "top-level-package": "2.0+cu118"}
    assert (found.local, found.left_out, found.problems) == ((), {}, ())


@pytest.mark.usefixtures("engine")
def test_without_skjob_its_client_side_and_installers(install: Install) -> None:
    install("skjob", requires=("dask", "pandas>=2", "rich", "typer; python_version>='3'", "absent", "uv"))
    install("pandas", requires=("python-dateutil",))
    for name in ("python-dateutil", "shared", "markdown-it", "shellingham", "pip", "uv", "setuptools"):
        install(name)
    install("rich", requires=("markdown-it", "shared"))
    install("typer", requires=("rich", "shellingham"))
    install("users-own", requires=("shared", "setuptools"))
    found = scan_environment()
    assert found.pins == {
        **ENGINE_PINS,
        **dict.fromkeys(("pandas", "python-dateutil", "shared", "users-own", "setuptools"), "1.0"),
    }
    assert found.left_out == {
        "markdown-it": CLIENT_SIDE,
        "pip": INSTALLER,
        "rich": CLIENT_SIDE,
        "shellingham": CLIENT_SIDE,
        "skjob": SKJOB_ITSELF,
        "typer": CLIENT_SIDE,
        "uv": INSTALLER,
    }


@pytest.mark.usefixtures("engine")
def test_what_somebody_asked_for_by_name_is_sent(install: Install) -> None:
    install("skjob", requires=("rich", "typer"))
    install("rich", requires=("markdown-it",), requested=True)
    install("markdown-it")
    install("typer")
    assert scan_environment().left_out == {"skjob": SKJOB_ITSELF, "typer": CLIENT_SIDE}


@pytest.mark.usefixtures("engine")
def test_a_lock_file_asks_for_everything_and_so_says_nothing(install: Install) -> None:
    install("skjob", requires=("rich", "typer"), requested=True)
    install("rich", requested=True)
    install("typer", requested=True)
    assert set(scan_environment().left_out) == {"skjob", "rich", "typer"}


@pytest.mark.usefixtures("engine")
def test_what_the_program_imports_is_sent(install: Install) -> None:
    install("skjob", requires=("pyyaml-like", "typer"))
    install("pyyaml-like", files=("yaml/__init__.py", "_yaml.cpython-311-x86_64-linux-gnu.so"), requires=("libyaml",))
    install("libyaml")
    install("typer", files=("typer/__init__.py",))
    assert set(scan_environment({"yaml", "os"}).left_out) == {"skjob", "typer"}
    assert set(scan_environment({"_yaml"}).left_out) == {"skjob", "typer"}


@pytest.mark.usefixtures("engine")
def test_requirements_hold_under_their_conditions(install: Install) -> None:
    install("skjob", requires=("client[fast]>=1",))
    install(
        "client",
        requires=(
            "only-fast; extra == 'fast'",
            "only-slow; extra == 'slow'",
            "only-windows; sys_platform == 'win32'",
            "either; python_version < '3' or extra == 'fast'",
            "not a requirement at all",
        ),
    )
    for name in ("only-fast", "only-slow", "only-windows", "either"):
        install(name)
    found = scan_environment()
    assert set(found.left_out) == {"skjob", "client", "only-fast", "either"}
    assert found.pins.keys() - set(ENGINE) == {"only-slow", "only-windows"}


def test_engine_with_what_it_needs(install: Install) -> None:
    for name in ENGINE:
        install(name, "9.0", requires=("toolz",) if name == "dask" else ())
    install("toolz", "0.1")
    install("unrelated")
    assert scan_environment().engine == {**ENGINE_PINS, "toolz": "0.1"}


def test_the_first_of_a_name_counts(
    install: Install, engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("twice", "1.0")
    other = tmp_path / "user" / "site-packages" / "twice-2.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Name: twice\nVersion: 2.0\n")
    monkeypatch.setattr(sys, "path", [str(other.parent), *sys.path])
    assert scan_environment().pins["twice"] == "2.0"
    monkeypatch.setattr(sys, "path", sys.path[::-1])
    assert scan_environment().pins["twice"] == "1.0"


@pytest.mark.usefixtures("engine")
def test_damaged_metadata(install: Install, site: Path) -> None:
    for folder in ("gone-1.0.dist-info", "~ip-1.0.dist-info"):
        (site / folder).mkdir()
    no_version = install("no-version", "3.0")
    (no_version / "METADATA").write_text("Name: no-version\n")
    no_metadata = install("no-metadata", "4.0")
    (no_metadata / "METADATA").unlink()
    found = scan_environment()
    assert found.pins == {**ENGINE_PINS, "no-version": "3.0", "no-metadata": "4.0"}
    assert found.left_out == {"gone": REMAINDER}


@pytest.mark.usefixtures("engine")
def test_a_version_that_no_index_has_goes_as_files(install: Install, site: Path) -> None:
    install("odd", "unknown", files=("odd.py",))
    local(name="odd", version="unknown", kind="path", files=(("odd.py", site / "odd.py"),))


# ------------------------------------------------------------------------------------------------- where each is from


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("direct_url", "kind", "origin"),
    [
        ({"url": "file:///no/where/x.whl", "archive_info": {}}, "archive", "/no/where/x.whl"),
        ({"url": "file:///no/a%20folder", "dir_info": {}}, "folder", "/no/a folder"),
        (
            {"url": "https://user:secret@host/x-1.0.whl?token=secret#sha", "archive_info": {"hash": "sha256=1"}},
            "archive",
            "https://host/x-1.0.whl",
        ),
        (
            {"url": "https://token@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}},
            "vcs",
            "https://host/x.git@0123456789ab",
        ),
    ],
)
def test_by_the_record_of_where_it_is_from(
    install: Install, site: Path, direct_url: object, kind: str, origin: str
) -> None:
    files = ("x/__init__.py", "x/__pycache__/i.pyc", "x/data.csv", "../../bin/x", "/etc/x.conf")
    install("x", direct_url=direct_url)
    record = site / "x-1.0.dist-info" / "RECORD"
    record.write_text("".join(f"{file},,\n" for file in files) + record.read_text())
    local(
        name="x",
        kind=kind,
        origin=origin,
        metadata=record.parent,
        files=tuple((name, site / name) for name in ("x/__init__.py", "x/data.csv")),
    )
    assert scan_environment().problems == ()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("damaged", ["not json", "[]", "{}", '{"url": 3}', '{"url": "http://[half"}'])
def test_a_record_that_says_nothing(install: Install, damaged: str) -> None:
    (install("x") / "direct_url.json").write_text(damaged)
    assert scan_environment().pins["x"] == "1.0"


@pytest.mark.usefixtures("engine")
def test_conda_tells_folders_of_other_machines(install: Install, tmp_path: Path) -> None:
    built = {"url": "file:///home/conda/feedstock_root/build_artifacts/x/work", "dir_info": {}}
    install("by-conda", direct_url=built, installer="conda")
    install("older", direct_url=built, installer="pip")
    (tmp_path / "conda-meta").mkdir()
    here = tmp_path / "own"
    here.mkdir()
    install("own", direct_url={"url": here.as_uri(), "dir_info": {}}, files=("own.py",), installer="pip")
    module._has_conda.cache_clear()
    found = scan_environment()
    assert found.tool == "conda"
    assert found.pins == {**ENGINE_PINS, "by-conda": "1.0", "older": "1.0"}
    local(name="own", kind="folder", origin=str(here))


@pytest.mark.usefixtures("engine")
def test_metadata_beside_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create what `setup.py develop` leaves: a link in the folder of installed packages, and the folder on the path."""
    source = tmp_path / "source"
    info = source / "old_style.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Name: old-style\nVersion: 0.1\n")
    (info / "requires.txt").write_text("absent\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(source)])
    local(name="old-style", version="0.1", kind="path", origin=str(source), sources=EditableSources(folders=(source,)))


@pytest.mark.usefixtures("engine")
def test_installed_into_a_folder_of_ones_own(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install --target libraries` still counts as published."""
    install("x")
    (tmp_path / "libraries").mkdir()
    info = tmp_path / "libraries" / "y-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: y\nVersion: 1.0\n")
    (info / "RECORD").write_text("y.py,,\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(info.parent)])
    assert scan_environment().pins == {**ENGINE_PINS, "x": "1.0", "y": "1.0"}


# ------------------------------------------------------------------------------------------------- editable ones

EDITABLE = {"url": "file:///home/me/mine", "dir_info": {"editable": True}}


@pytest.mark.usefixtures("engine")
def test_editable_by_folders_on_the_path(install: Install, site: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "src").mkdir(parents=True)
    (tmp_path / "mine" / "lib").mkdir()
    install("mine", direct_url=EDITABLE, files=("_mine.pth", "mine_native.so", "../bin/mine"))
    lines = ["# a remark", "", str(tmp_path / "mine" / "src"), "../mine/lib", "import sys; sys.modules"]
    (site / "_mine.pth").write_text("\n".join(lines))
    local(
        kind="editable",
        origin="/home/me/mine",
        sources=EditableSources(folders=(tmp_path / "mine" / "src", tmp_path / "mine" / "lib")),
        files=(("mine_native.so", site / "mine_native.so"),),
    )


SETUPTOOLS = """
from __future__ import annotations
MAPPING: dict[str, str] = {{'mine': '{0}/mine', 'acme.part': '{0}/part', 'single': '{0}/single'}}
NAMESPACES: dict[str, list[str]] = {{'acme': ['{0}/acme']}}
raise SystemExit('must not be run')
"""
OLD_SETUPTOOLS = "MAPPING = {{'mine': '{0}/mine'}}\nNAMESPACES = {{}}\nraise SystemExit"
EDITABLES = """
from editables.redirector import RedirectingFinder as F
F.install()
F.map_module('mine', '{0}/mine/__init__.py')
F.map_module('single', '{0}/single.py')
"""


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (SETUPTOOLS, {"acme.part": "part", "mine": "mine", "single": "single.py"}),
        (OLD_SETUPTOOLS, {"mine": "mine"}),
        (EDITABLES, {"mine": "mine", "single": "single.py"}),
    ],
)
def test_editable_by_an_import_hook(
    install: Install, site: Path, tmp_path: Path, hook: str, expected: dict[str, str]
) -> None:
    source = tmp_path / "source"
    for folder in ("mine", "part"):
        (source / folder).mkdir(parents=True)
        (source / folder / "__init__.py").touch()
    (source / "single.py").touch()
    install("mine", direct_url=EDITABLE, files=("__editable__.mine.pth", "__editable___mine_finder.py"))
    (site / "__editable__.mine.pth").write_text("import __editable___mine_finder; __editable___mine_finder.install()")
    (site / "__editable___mine_finder.py").write_text(hook.format(source))
    local(sources=EditableSources(modules=tuple((name, source / path) for name, path in expected.items())), files=())
    assert scan_environment().problems == ()


def test_a_module_in_compiled_form(tmp_path: Path) -> None:
    (tmp_path / "fast.abi3.so").touch()
    (tmp_path / "x.pth").write_text("import hook")
    (tmp_path / "hook.py").write_text(f"MAPPING = {{'fast': '{tmp_path}/fast'}}")
    install = resolve_editable(tmp_path, ["x.pth", "hook.py"])
    assert install.sources == EditableSources(modules=(("fast", tmp_path / "fast.abi3.so"),))
    assert install.hooks == {"x.pth", "hook.py"}


@pytest.mark.usefixtures("engine")
def test_every_editable_one_that_cannot_be_followed_is_told(install: Install, site: Path, tmp_path: Path) -> None:
    install("moved", direct_url=EDITABLE, files=("moved.pth",))
    (site / "moved.pth").write_text(str(tmp_path / "away"))
    install("mapped", direct_url=EDITABLE, files=("mapped.pth", "_mapped.py"))
    (site / "mapped.pth").write_text("import _mapped")
    (site / "_mapped.py").write_text(f"MAPPING = {{'mapped': '{tmp_path}/away/mapped'}}")
    install("meson", direct_url=EDITABLE, files=("meson.pth", "_meson_loader.py"))
    (site / "meson.pth").write_text("import _meson_loader")
    (site / "_meson_loader.py").write_text("install({'meson'}, '/build', ['ninja'])")
    install("empty", direct_url=EDITABLE)
    assert [problem.partition(": ")[::2] for problem in scan_environment().problems] == [
        ("`empty`, from /home/me/mine, has no record of its files", "install it again"),
        (
            f"`mapped` is installed in editable mode from `{tmp_path}/away/mapped`, which does not exist",
            "install it again, or remove it with `uv pip uninstall mapped`",
        ),
        (
            "`meson` is installed in editable mode by a build backend that skjob cannot follow (`_meson_loader.py`)",
            "install it without `--editable`",
        ),
        (
            f"`moved` is installed in editable mode from `{tmp_path}/away`, which does not exist",
            "install it again, or remove it with `uv pip uninstall moved`",
        ),
    ]


def test_an_engine_that_is_local_or_absent_is_told(install: Install) -> None:
    for name in ENGINE[1:]:
        install(name, files=(f"{name}.py",), direct_url=EDITABLE if name == "joblib" else None)
    found = scan_environment()
    assert [problem.partition(": ")[::2] for problem in found.problems] == [
        (
            "`joblib` is installed from /home/me/mine, but workers need it before anything can be sent to them",
            "install a published version, or build an image with `skjob env build`",
        ),
        (
            "`cloudpickle` has no metadata here, but workers need it",
            "install it with `uv pip install cloudpickle`",
        ),
    ]
    assert found.image_problems == found.problems[1:]
    assert [each.name for each in found.local] == ["joblib"]


# ------------------------------------------------------------------------------------------------- which tool made it


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("config", "installer", "tool"),
    [
        ("home = /usr/bin\nuv = 0.9.1\n", "uv", "uv"),
        ("home = /usr/bin\n", "pip", "venv"),
        ("home = /usr/bin\n", "Poetry 2.1", "poetry"),
        (None, "pip", "system"),
    ],
)
def test_tool(install: Install, tmp_path: Path, config: str | None, installer: str, tool: str) -> None:
    install("joblib", installer=installer)
    if config is not None:
        (tmp_path / "pyvenv.cfg").write_text(config)
    assert scan_environment().tool == tool
