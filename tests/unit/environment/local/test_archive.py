"""Test local distributions in an archive: unpacked, they are installed; equal content gives equal bytes."""

import io
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from clocks import DEADLINE

from skjob.engine.transfer.editable import EditableSources
from skjob.environment.local import archive as module
from skjob.environment.local.archive import pack_local
from skjob.environment.local.distributions import LocalDistribution

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
INFO = ("mine-1.2.dist-info/METADATA", "mine-1.2.dist-info/RECORD", "mine-1.2.dist-info/entry_points.txt")


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def info(tmp_path: Path) -> Path:
    """Create the metadata of a distribution, including what its installation here left in it."""
    return write(
        tmp_path / "site-packages" / "mine-1.2.dist-info",
        {
            "METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.2\n",
            "entry_points.txt": "[mine.plugins]\nfirst = mine.plugin:First\n",
            "RECORD": "__editable__.mine.pth,,\n",
            "INSTALLER": "uv",
            "REQUESTED": "",
            "direct_url.json": "{}",
            "uv_cache.json": '{"timestamp": 1}',
        },
    )


def distribution(
    info: Path, sources: EditableSources | None = None, files: tuple[tuple[str, Path], ...] = (), name: str = "mine"
) -> LocalDistribution:
    return LocalDistribution(name, "1.2", "editable", "/home/me/mine", info, sources or EditableSources(), files)


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def run_unpacked(content: bytes, folder: Path, code: str) -> str:
    """Return the output of a program with only the unpacked archive on its import path."""
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder)
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.strip()


def test_unpacked_it_is_installed(info: Path, tmp_path: Path) -> None:
    source = write(
        tmp_path / "project" / "src",
        {
            "mine/__init__.py": (
                "from importlib.resources import files\nTEXT = files('mine').joinpath('data/a.txt').read_text()"
            ),
            "mine/plugin.py": "class First: pass",
            "mine/data/a.txt": "told",
            "single.py": "VALUE = 4",
            "space/part/__init__.py": "VALUE = 5",
        },
    )
    packed = pack_local([distribution(info, EditableSources(folders=(source,)))])
    assert names(packed.content) == [
        *INFO,
        "mine/__init__.py",
        "mine/data/a.txt",
        "mine/plugin.py",
        "single.py",
        "space/part/__init__.py",
    ]
    assert packed.sizes.keys() == {"mine"}
    assert (packed.problems, packed.compiled) == ((), ())
    code = (
        "import mine, single, space.part; from importlib import metadata as m; "
        "[plugin] = m.entry_points(group='mine.plugins'); "
        "print(mine.TEXT, single.VALUE, space.part.VALUE, m.version('mine'), plugin.load().__name__, "
        "m.packages_distributions()['mine'], len(m.files('mine')))"
    )
    assert run_unpacked(packed.content, tmp_path / "there", code) == "told 4 5 1.2 First ['mine'] 8"


def test_single_modules_stand_where_import_looks_for_them(info: Path, tmp_path: Path) -> None:
    """As setuptools maps them, wherever they are in the project."""
    write(
        tmp_path / "lib",
        {"pkg/__init__.py": "", "pkg/deep/er.py": "", "one.py": "", f"fast{SUFFIX}": "", "part/__init__.py": ""},
    )
    modules = {"mine": "pkg", "one": "one.py", "fast": f"fast{SUFFIX}", "acme.part": "part"}
    sources = EditableSources(modules=tuple((name, tmp_path / "lib" / path) for name, path in modules.items()))
    packed = pack_local([distribution(info, sources)])
    assert names(packed.content) == sorted(
        [*INFO, "acme/part/__init__.py", f"fast{SUFFIX}", "mine/__init__.py", "mine/deep/er.py", "one.py"]
    )
    assert packed.compiled == (f"fast{SUFFIX}",)


def test_a_project_is_not_taken_with_all_that_lies_in_it(info: Path, tmp_path: Path) -> None:
    project = write(
        tmp_path / "project",
        {
            "pyproject.toml": "",
            "mine/__init__.py": "",
            f"mine/native{SUFFIX}": "compiled in place",
            "mine/lib/libdeep.so.3": "",
            "mine/__pycache__/x.pyc": "",
            "mine/.cache/x": "",
            "mine/.env": "secret",
            f"top{SUFFIX}": "",
            "build/lib/mine/__init__.py": "stale",
            "dist/mine-1.2.tar.gz": "",
            "data/measured.csv": "1,2",
            ".venv/pyvenv.cfg": "",
            ".venv/lib/other.py": "",
            "environment/pyvenv.cfg": "",
            "environment/lib/other.py": "",
            "node_modules/x.py": "",
        },
    )
    packed = pack_local([distribution(info, EditableSources(folders=(project,)))])
    own = ["mine/__init__.py", "mine/lib/libdeep.so.3", f"mine/native{SUFFIX}", f"top{SUFFIX}"]
    assert names(packed.content) == sorted([*INFO, *own])
    assert packed.compiled == tuple(sorted(own[1:]))


def test_data_of_any_size_goes_with_its_package(info: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", {"mine/__init__.py": "", "mine/weights/a.bin": ""})
    (source / "mine" / "weights" / "a.bin").write_bytes(os.urandom(3 * 2**20))
    packed = pack_local([distribution(info, EditableSources(folders=(source,)))])
    assert "mine/weights/a.bin" in names(packed.content)
    assert packed.sizes["mine"] > 3 * 2**20


def test_a_link_to_a_folder_above_is_not_followed_for_ever(info: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", {"mine/__init__.py": "", "mine/sub/a.py": ""})
    (source / "mine" / "sub" / "loop").symlink_to(source / "mine")
    (source / "mine" / "linked.py").symlink_to(source / "mine" / "sub" / "a.py")
    (source / "mine" / "nowhere.py").symlink_to(source / "gone.py")
    packed = pack_local([distribution(info, EditableSources(folders=(source,)))])
    assert names(packed.content) == [*INFO, "mine/__init__.py", "mine/linked.py", "mine/sub/a.py"]


def test_the_same_content_gives_the_same_bytes(info: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", {"mine/__init__.py": "", "mine/a.py": "A = 1"})
    local = [distribution(info, EditableSources(folders=(source,)))]
    before = pack_local(local).content
    os.utime(source / "mine" / "a.py", (1, 1))
    (source / "mine" / "a.py").chmod(0o600)
    (info / "uv_cache.json").write_text('{"timestamp": 2}')
    (info / "direct_url.json").write_text('{"url": "file:///moved"}')
    assert pack_local(local).content == before
    (source / "mine" / "a.py").write_text("A = 2")
    assert pack_local(local).content != before


def test_installed_files_are_taken_as_they_are(info: Path) -> None:
    site = write(info.parent, {"mine/__init__.py": "", "mine/table.csv": "1", "other.py": ""})
    files = tuple((name, site / name) for name in ("mine/__init__.py", "mine/table.csv", ".gitignore"))
    assert names(pack_local([distribution(info, files=files)]).content) == [*INFO, "mine/__init__.py", "mine/table.csv"]


def test_metadata_beside_source(tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        {
            "setup.py": "",
            "old/__init__.py": "",
            "old_style.egg-info/PKG-INFO": "Metadata-Version: 1.0\nName: old-style\nVersion: 1.2\n",
            "old_style.egg-info/SOURCES.txt": "",
        },
    )
    local = distribution(source / "old_style.egg-info", EditableSources(folders=(source,)), name="old-style")
    packed = pack_local([local])
    assert names(packed.content) == [
        "old/__init__.py",
        "old_style.egg-info/PKG-INFO",
        "old_style.egg-info/RECORD",
    ]
    code = "import old; from importlib.metadata import version; print(version('old-style'))"
    assert run_unpacked(packed.content, tmp_path / "there", code) == "1.2"


def test_two_that_share_a_namespace(info: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"acme/one/__init__.py": ""})
    two = write(tmp_path / "two", {"acme/two/__init__.py": ""})
    other = write(tmp_path / "other-1.0.dist-info", {"METADATA": "Name: other\nVersion: 1.0\n"})
    local = [
        distribution(info, EditableSources(folders=(one,))),
        distribution(other, EditableSources(folders=(two,)), name="other"),
    ]
    packed = pack_local(local)
    assert packed.sizes.keys() == {"mine", "other"}
    assert run_unpacked(packed.content, tmp_path / "there", "import acme.one, acme.two; print('both')") == "both"


# ------------------------------------------------------------------------------------------------- what cannot be sent


def test_every_problem_is_told_at_once(info: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "big", {"big/__init__.py": ""})
    with (source / "big" / "sparse.bin").open("wb") as file:
        file.truncate(module.MAX_DISTRIBUTION_BYTES + 1)
    foreign = write(
        tmp_path / "foreign",
        {
            "fast.cpython-38-x86_64-linux-gnu.so": "",
            "both.cpython-38-x86_64-linux-gnu.so": "",
            f"both{SUFFIX}": "",
            "pure.cpython-38-x86_64-linux-gnu.so": "",
            "pure.py": "",
        },
    )
    files = tuple((path.name, path) for path in foreign.iterdir())
    gone = distribution(info, files=(("gone.py", tmp_path / "gone.py"),), name="gone")
    local = [
        distribution(info, EditableSources(folders=(source,)), name="big"),
        distribution(info, files=files, name="foreign"),
        gone,
    ]
    packed = pack_local(local)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    too_large = "`big`, from /home/me/mine, is larger than 200 MiB"
    other_python = "`foreign` has modules compiled for another Python (fast.cpython-38-x86_64-linux-gnu.so)"
    assert [problem.partition(": ")[::2] for problem in packed.problems] == [
        (too_large, "keep data out of the package, or build an image with `skjob env build`"),
        (other_python, f"rebuild it for Python {python}"),
        (f"`{tmp_path}/gone.py` cannot be read", "No such file or directory; fix its permissions"),
    ]
    assert names(packed.content) == sorted([*INFO, f"both{SUFFIX}", "pure.py"])


def test_what_is_compiled_for_another_system_is_a_problem(
    info: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skjob.environment.local.archive.ON_LINUX", False)
    write(tmp_path, {"fast.cpython-311-darwin.so": ""})
    packed = pack_local([distribution(info, files=(("fast.so", tmp_path / "fast.cpython-311-darwin.so"),))])
    compiled = "`mine` has modules compiled for this system (fast.so), but workers run Linux"
    assert packed.problems == (f"{compiled}: publish it on an index that workers can reach",)


def test_an_image_has_no_limit(info: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DISTRIBUTION_BYTES", 10)
    source = write(tmp_path / "src", {"mine/__init__.py": "# more than ten bytes"})
    local = [distribution(info, EditableSources(folders=(source,)))]
    assert pack_local(local, 10).problems != ()
    assert pack_local(local, float("inf")).problems == ()
