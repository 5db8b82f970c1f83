"""What pods install, from where, what travels with a run, and when the two ends do not match."""

import io
import json
import pkgutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

import skjob
from skjob.environment import installation as module
from skjob.environment.index import pip_config_files, pip_files
from skjob.environment.installation import (
    ENGINE,
    Installation,
    distributions_of,
    imports,
    installation,
    interactive_names,
    local_files,
    pinned,
    program_names,
)
from skjob.environment.source import MOST_BYTES, skjob_archive
from skjob.environment.versions import check_versions
from skjob.errors import ConfigError, StartError
from skjob.plan import JobSpec

# ------------------------------------------------------------------------------------------------- what pods install


def _distribution(folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = (), **more: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    extras = {line.split("extra == ")[1].strip("'\"") for line in requires if "extra ==" in line}
    lines += [*(f"Provides-Extra: {extra}" for extra in extras), *(f"Requires-Dist: {line}" for line in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    for file, content in more.items():
        (info / file.replace("__", ".")).write_text(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions, the only ones there are."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_pins_of_all_that_is_needed(site: Path) -> None:
    _distribution(site, "Top_Level", "2.0", ("middle>=1", "absent", "other; python_version < '3'", "skjob"))
    _distribution(site, "middle", "1.5", ("leaf", "Top-Level", "fancy; extra == 'more'"))
    _distribution(site, "leaf", "0.1+local")
    _distribution(site, "fancy", "3")
    _distribution(site, "unrelated", "9")
    assert pinned(["top-level"]) == ({"top-level": "2.0", "middle": "1.5", "leaf": "0.1+local"}, set())


def test_an_extra_is_followed_only_where_it_is_asked_for(site: Path) -> None:
    _distribution(site, "top", requires=("middle[more]",))
    _distribution(site, "middle", requires=("fancy; extra == 'more'", "odd; extra == 'odd'"))
    _distribution(site, "fancy", "3")
    _distribution(site, "odd")
    assert pinned(["top"]) == ({"top": "1.0", "middle": "1.0", "fancy": "3"}, set())


@pytest.mark.parametrize(
    ("origin", "on_an_index"),
    [
        # Here, and nowhere else.
        ({"url": "file://{here}/my%20project", "dir_info": {}}, False),
        ({"url": "file://localhost{here}/my%20project", "dir_info": {}}, False),
        ({"url": "file://{here}/mine.whl", "archive_info": {"hash": "sha256=0"}}, False),
        ({"url": "file://{here}/gone", "dir_info": {"editable": True}}, False),
        ({"url": "https://git.example/mine.git", "vcs_info": {"vcs": "git", "commit_id": "0"}}, False),
        ({"url": "file://{here}/gone.git", "vcs_info": {"vcs": "git", "commit_id": "0"}}, False),
        ({"url": "https://files.example/mine-1.0.zip", "archive_info": {}}, False),
        # As conda writes it: where a package was built, elsewhere.
        ({"url": "file:///no/such/feedstock_root/work", "dir_info": {}}, True),
        ({"url": "file:///no/such/dask-1.0-py3-none-any.whl", "archive_info": {}}, True),
        ({"url": "file://{here}/gone", "dir_info": {"editable": False}}, True),
        # No such record.
        ({}, True),
        ({"url": "file://{here}/my%20project", "dir_info": None}, True),
        ([], True),
        ("", True),
    ],
)
def test_what_is_installed_from_elsewhere_than_an_index_is_left_out_and_what_it_needs_is_not(
    site: Path, origin: Any, on_an_index: bool
) -> None:
    (site / "my project").mkdir()
    (site / "mine.whl").touch()
    record = json.dumps(origin).replace("{here}", str(site))
    _distribution(site, "mine", requires=("leaf",), direct_url__json=record)
    _distribution(site, "leaf")
    expected = ({"leaf": "1.0", "mine": "1.0"}, set()) if on_an_index else ({"leaf": "1.0"}, {"mine"})
    assert pinned(["mine"]) == expected


@pytest.mark.parametrize("record", ["", "no JSON", "{"])
def test_a_record_of_origin_that_is_none(site: Path, record: str) -> None:
    _distribution(site, "mine", direct_url__json=record)
    assert pinned(["mine"]) == ({"mine": "1.0"}, set())


def test_what_is_installed_for_the_engine_here() -> None:
    pins, _ = pinned(ENGINE)
    assert pins.keys() >= {*ENGINE, "scipy", "tornado", "msgpack", "threadpoolctl"}
    assert {name: metadata.version(name) for name in pins} == pins
    assert "skjob" not in pins
    assert "cryptography" not in pins  # makes the certificates, here


REFUSER = """
import importlib, json, sys

refused = set(json.loads(sys.argv[1]))

class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuser())
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
"""


def test_what_runs_on_scheduler_and_workers_is_imported_with_the_engine_alone() -> None:
    import skjob.engine

    there = ["distributed.scheduler", "distributed.worker", "distributed.cli.dask_worker", "skjob.scaling.loop"]
    there += [each.name for each in pkgutil.iter_modules(skjob.engine.__path__, "skjob.engine.")]
    pins, _ = pinned(ENGINE)
    allowed = {"skjob", *pins}
    refused = [
        name
        for name, distributions in metadata.packages_distributions().items()
        if allowed.isdisjoint(canonicalize_name(each) for each in distributions)
    ]
    assert {"cryptography", "kubernetes", "pydantic", "pandas", "rich", "typer"} <= {*refused}
    ended = subprocess.run(
        [sys.executable, "-c", REFUSER, json.dumps(refused), json.dumps(there)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_modules_are_not_called_as_their_distributions() -> None:
    names = ["sklearn", "yaml", "json", "dateutil", "no_such_module"]
    assert distributions_of(names) == {"scikit-learn", "PyYAML", "python-dateutil"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (b"import a, b.c as d", {"a", "b.c"}),
        (b"from a.b import c, d as e", {"a.b.c", "a.b.d"}),
        (b"from a import *", {"a.*"}),
        (b"from . import a\nfrom .b import c", {"top.inner.a", "top.inner.b.c"}),
        (b"from .. import a\nfrom ..b import c", {"top.a", "top.b.c"}),
        (b"from ... import a\nfrom ....b import c", set()),
        (b"def f():\n    try:\n        import a\n    except ImportError:\n        from b import c", {"a", "b.c"}),
        (b"if True:\n    import a\nprint('import b')", {"a"}),
        ("# -*- coding: latin-1 -*-\nimport é".encode("latin-1"), {"é"}),
        (b"import a\nthis is no Python", set()),
        (b"import a\x00", set()),
        (b"\xff\xfeimport a", set()),
        (b"", set()),
    ],
)
def test_imports(tmp_path: Path, source: bytes, names: set[str]) -> None:
    file = tmp_path / "top" / "inner" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_bytes(source)
    assert set(imports(file, tmp_path)) == names


def test_a_file_that_is_not_there_imports_nothing(tmp_path: Path) -> None:
    assert set(imports(tmp_path / "absent.py", tmp_path)) == set()


def _write(root: Path, files: Mapping[str, str]) -> Path:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("module", ["module.py"]),
        ("module.name", ["module.py"]),
        ("package", ["package/__init__.py"]),
        ("package.part", ["package/__init__.py", "package/part.py"]),
        ("package.part.name", ["package/__init__.py", "package/part.py"]),
        ("package.inner", ["package/__init__.py", "package/inner/__init__.py"]),
        ("package.*", ["package/__init__.py", "package/inner/__init__.py", "package/part.py"]),
        ("space.deep", ["space/deep.py"]),
        ("space", []),
        ("both", ["both/__init__.py"]),
        ("numpy.random", []),
    ],
)
def test_local_files(tmp_path: Path, name: str, files: list[str]) -> None:
    there = [
        "module.py",
        "package/part.py",
        "package/inner/__init__.py",
        "space/deep.py",
        "both.py",
        "both/__init__.py",
    ]
    _write(tmp_path, dict.fromkeys([*there, "package/__init__.py"], ""))
    assert sorted({str(file.relative_to(tmp_path)) for file in local_files(tmp_path, name)}) == files


@pytest.fixture
def program(tmp_path: Path) -> Path:
    files = {
        "train.py": "import yaml\nimport features",
        "features.py": "from package import deep\nimport train",
        "package/__init__.py": "",
        "package/deep.py": "from .deeper import name\nfrom . import data",
        "package/deeper.py": "import packaging\nimport data",
        "package/other.py": "import typer",
        "package/data.csv": "1",
        "data/one.csv": "1",
        "plot.py": "import rich",
        "tests/test_features.py": "import pytest",
        "job.yaml": "estimator:\n  class: features.Stacked\n  parameters:\n    last: {class: rich.Last}\n",
        "strange.yaml": "class: &all [*all, {class: 3, 5: class}]\nscoring: class",
    }
    return _write(tmp_path, files)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("train.py", {"yaml", "packaging", "data"}),
        ("link.py", {"yaml", "packaging", "data"}),
        ("plot.py", {"rich"}),
        ("job.yaml", {"yaml", "packaging", "data", "rich"}),
    ],
)
def test_the_names_of_a_program_are_those_that_it_reaches(program: Path, path: str, names: set[str]) -> None:
    (program / "elsewhere").mkdir()
    (program / "elsewhere" / "link.py").symlink_to(program / "train.py")
    folder = program / "elsewhere" if path == "link.py" else program
    assert program_names(JobSpec(folder / path)) == names


def test_a_job_file_that_holds_itself(program: Path) -> None:
    assert program_names(JobSpec(program / "strange.yaml")) <= {"3", "class", "scoring"}


def test_a_notebook_may_come_to_import_anything_beside_it(program: Path) -> None:
    found = program_names(JobSpec(program / "notebook"))
    assert found >= {"yaml", "packaging", "typer", "rich", "pytest"}
    assert not found & {"features", "package", "train"}


def _no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "environ", {})  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "pip_config_files", list)


def _pinned_names(requirements: str) -> set[str]:
    return {line.partition("==")[0] for line in requirements.splitlines()}


@pytest.mark.parametrize(("job", "also"), [("train.py", set()), ("job.yaml", {"pandas", "pyarrow", "rich"})])
def test_a_program_is_installed_with_what_it_and_its_modules_import(
    program: Path, monkeypatch: pytest.MonkeyPatch, job: str, also: set[str]
) -> None:
    _no_pip_settings(monkeypatch)
    found = installation(JobSpec(program / job))
    expected, _ = pinned([*ENGINE, "pyyaml", "packaging", *also])
    assert found == Installation("".join(f"{name}=={version}\n" for name, version in sorted(expected.items())))
    assert (_pinned_names(found.requirements) >= {"pandas", "pyarrow"}) is bool(also)


def test_a_notebook_is_installed_with_what_it_has_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    import __main__

    _no_pip_settings(monkeypatch)
    monkeypatch.setattr(__main__, "loaded_in_a_cell", yaml, raising=False)
    assert "yaml" in interactive_names()
    assert "pyyaml" in _pinned_names(installation(JobSpec(tmp_path / "notebook")).requirements)


# ------------------------------------------------------------------------------------------------- from where


def _conf(files: dict[str, bytes]) -> list[str]:
    return files["pip.conf"].decode().splitlines()


@pytest.mark.parametrize(
    ("environ", "lines"),
    [
        ({"PIP_INDEX_URL": "https://a.example/simple"}, ["index-url = https://a.example/simple"]),
        ({"PIP_EXTRA_INDEX_URL": "https://a.example\n https://b.example"}, ["extra-index-url = https://a.example https://b.example"]),
        ({"PIP_TRUSTED_HOST": "a.example"}, ["trusted-host = a.example"]),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, ["proxy = http://proxy.example:3128"]),
        ({"https_proxy": "http://proxy.example:3128"}, ["proxy = http://proxy.example:3128"]),
        ({"HTTPS_PROXY": "http://upper.example", "https_proxy": "http://lower.example"}, ["proxy = http://upper.example"]),
        ({"HTTPS_PROXY": "http://all.example", "PIP_PROXY": "http://pip.example"}, ["proxy = http://pip.example"]),
    ],
)  # fmt: skip
def test_what_the_environment_says(environ: Mapping[str, str], lines: list[str]) -> None:
    assert pip_files(environ, [], "/m") == {"pip.conf": "\n".join(["[global]", *lines, ""]).encode()}


@pytest.mark.parametrize("environ", [{}, {"PIP_INDEX_URL": ""}, {"HTTP_PROXY": "http://p"}, {"PIP_QUIET": "1"}])
def test_nothing_is_said_where_nothing_is_set(environ: Mapping[str, str], tmp_path: Path) -> None:
    assert pip_files(environ, [tmp_path / "absent.conf"], "/m") == {}


def test_what_the_files_say_the_last_one_first_and_the_environment_before_all(tmp_path: Path) -> None:
    weak, strong = tmp_path / "weak.conf", tmp_path / "strong.conf"
    weak.write_text("[global]\nindex-url = https://weak\ntrusted-host = weak\nproxy = weak%20proxy\nquiet = 1\n")
    strong.write_text("[global]\nindex-url = https://strong\n[install]\ntrusted-host =\n    one\n    two\n")
    assert _conf(pip_files({}, [weak, strong], "/m")) == [
        "[global]",
        "index-url = https://strong",
        "proxy = weak%20proxy",
        "trusted-host = one two",
    ]
    environ = {"PIP_INDEX_URL": "https://variable", "HTTPS_PROXY": "weaker than a file"}
    assert _conf(pip_files(environ, [weak, strong], "/m"))[1:3] == [
        "index-url = https://variable",
        "proxy = weak%20proxy",
    ]


@pytest.fixture
def authorities(tmp_path: Path) -> dict[str, str]:
    """A certificate file for each way to name one."""
    names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "file")
    for name in names:
        (tmp_path / name).write_text(f"authority of {name}")
    return {name: str(tmp_path / name) for name in names}


@pytest.mark.parametrize("first", range(5))
def test_the_certificate_authority_goes_along(authorities: dict[str, str], tmp_path: Path, first: int) -> None:
    """Of those that are named, the strongest: the variables in order, then the file."""
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\ncert = {authorities['file']}\n")
    named = dict(list(authorities.items())[first:])
    strongest = next(iter(named))
    named.pop("file")
    assert pip_files(named, [config], "/mounted") == {
        "authority.pem": f"authority of {strongest}".encode(),
        "pip.conf": b"[global]\ncert = /mounted/authority.pem\n",
    }


@pytest.mark.parametrize(("name", "why"), [("absent.pem", "No such file or directory"), ("folder", "Is a directory")])
def test_an_authority_that_can_not_be_read(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        pip_files({"PIP_CERT": str(tmp_path / name)}, [], "/m")
    assert caught.value.message == (
        f"the certificate authority `{tmp_path / name}`, which pip's settings name, can't be read: {why}"
    )
    assert caught.value.hint == "correct the setting, or choose an image that has everything with `--image`"


def test_a_pip_configuration_that_is_not_one(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("index-url = https://a.example\n")
    with pytest.raises(ConfigError) as caught:
        pip_files({}, [file], "/m")
    assert caught.value.message == f"pip's configuration `{file}` can't be read: File contains no section headers."


def test_pips_own_files_the_one_that_is_named_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    usual = [
        Path("/etc/pip.conf"),
        tmp_path / ".pip" / "pip.conf",
        tmp_path / ".config" / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    assert pip_config_files() == usual
    monkeypatch.setenv("PIP_CONFIG_FILE", "/own.conf")
    assert pip_config_files() == [*usual, Path("/own.conf")]


# ------------------------------------------------------------------------------------------------- what travels


@pytest.fixture(scope="module")
def archive() -> bytes:
    return skjob_archive()


def test_the_archive_holds_the_whole_source_and_nothing_else(archive: bytes) -> None:
    folder = Path(skjob.__file__).parent
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    assert content == {f"skjob/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.py")}


def test_the_archive_is_the_same_for_the_same_source(archive: bytes) -> None:
    assert skjob_archive() == archive


def test_the_archive_leaves_a_config_map_room(archive: bytes) -> None:
    assert len(archive) < MOST_BYTES / 3
    assert MOST_BYTES * 4 / 3 < 2**20


def test_python_imports_from_the_archive(archive: bytes, tmp_path: Path) -> None:
    file = tmp_path / "skjob.zip"
    file.write_bytes(archive)
    # -S: without site-packages, in which skjob is installed
    code = "import skjob, skjob.engine.task as task; print(skjob.__file__); print(task.run_batch.__module__)"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(file)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # The engine registers itself with joblib, which is not there: as far as that, it is skjob's own code that runs.
    assert ended.returncode == 1
    assert "No module named 'joblib'" in ended.stderr
    assert f"{file}/skjob/engine/__init__.py" in ended.stderr


# ------------------------------------------------------------------------------------------------- whether both match


def _peer(python: str = "3.11.9.final.0", **packages: str | None) -> dict[str, Any]:
    return {"host": {"python": python}, "packages": {"dask": "1", "numpy": "2", **packages}}


def _versions(*workers: Any, client: Any = None, scheduler: Any = None) -> dict[str, Any]:
    return {
        "client": client or _peer(),
        "scheduler": scheduler or _peer(),
        "workers": {f"tls://w{number}": worker for number, worker in enumerate(workers)},
    }


@pytest.mark.parametrize(
    ("versions", "notes"),
    [
        (_versions(), []),
        (_versions(_peer(), _peer()), []),
        (_versions(_peer("3.11.2.final.0")), []),
        (_versions(None), []),  # a worker that left while it was asked
        (_versions(_peer(pandas="3")), []),  # which is not here
        (_versions(_peer(numpy=None)), []),
        (_versions(_peer(tornado="6"), client=_peer(tornado="5")), []),
        (_versions(_peer(numpy="2.1")), ["numpy 2 here, 2.1 on the cluster"]),
        (_versions(_peer(numpy="2.1"), _peer(numpy="2.1")), ["numpy 2 here, 2.1 on the cluster"]),
        (
            _versions(_peer(numpy="2.1"), _peer(numpy="2.2")),
            ["numpy 2 here, 2.1 on the cluster", "numpy 2 here, 2.2 on the cluster"],
        ),
        (
            _versions(scheduler=_peer(scipy="1.2", numpy="2.1"), client=_peer(scipy="1.1")),
            ["numpy 2 here, 2.1 on the cluster", "scipy 1.1 here, 1.2 on the cluster"],
        ),
    ],
)  # fmt: skip
def test_differences_that_are_told(versions: dict[str, Any], notes: list[str]) -> None:
    assert check_versions(versions) == [f"another version, which may give other numbers: {note}" for note in notes]


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        (_versions(scheduler=_peer("3.12.1.final.0")), "python 3.11.9.final.0 here, 3.12.1.final.0 on the cluster"),
        (_versions(_peer(dask="2")), "dask 1 here, 2 on the cluster"),
        (_versions(_peer(), _peer(dask="2", numpy="9"), _peer(dask="2")), "dask 1 here, 2 on the cluster"),
        (
            _versions(
                _peer("3.10.0.final.0", distributed="5", cloudpickle="7"),
                client=_peer(distributed="4", cloudpickle="6"),
            ),
            (
                "python 3.11.9.final.0 here, 3.10.0.final.0 on the cluster; distributed 4 here, 5 on the cluster; "
                "cloudpickle 6 here, 7 on the cluster"
            ),
        ),
    ],
)
def test_differences_that_end_a_run(versions: dict[str, Any], told: str) -> None:
    with pytest.raises(StartError) as caught:
        check_versions(versions)
    assert caught.value.message == f"the image does not match this environment: {told}"
    assert caught.value.hint == (
        "choose an image with the same versions, with `--image`, or leave it out for one made to match"
    )
