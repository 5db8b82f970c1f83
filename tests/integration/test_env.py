"""Real environments made by uv and the build backends: detected packages, sent packages, and output of `skjob env`.

Most tests need no index, as uv includes a build backend. Other backends are installed from the index that uv uses.
"""

import io
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uv
from waiting import DEADLINE

import skjob

REPOSITORY = Path(skjob.__file__).parents[1]
BUILD_SECONDS = 2 * DEADLINE
"""Timeout of uv, which may download a build backend."""

ITSELF = "skjob itself travels with each run"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

PACK = """
import sys
from pathlib import Path
from skjob.environment.local.distributions import scan_environment
from skjob.environment.local.archive import pack_local
Path(sys.argv[1]).write_bytes(pack_local(scan_environment().local).content)
"""


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment with the packages of this test's own environment, and those that the test installs."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *arguments: str | Path, offline: bool = True) -> None:
        run_uv("pip", "install", "--no-deps", *(["--offline"] if offline else []), "--python", self.python, *arguments)

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("SKJOB_", "PYTHON"))}
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.folder.parent,
            env={**environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def env(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "skjob", "env", *arguments, **variables)

    def sent(self, *arguments: str) -> dict[str, Any]:
        ended = self.env(*arguments, "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        report: dict[str, Any] = json.loads(ended.stdout)
        return report


def run_uv(*arguments: str | Path, folder: Path | None = None) -> None:
    ended = subprocess.run(
        [uv.find_uv_bin(), *arguments], cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def venv(tmp_path: Path) -> VirtualEnvironment:
    folder = tmp_path / "venv"
    run_uv("venv", "--offline", "--python", sys.executable, folder)
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    (site / "zz_shared.pth").write_text(sysconfig.get_path("purelib"))
    return VirtualEnvironment(folder)


def project(folder: Path, name: str, backend: str = "uv_build", more: str = "", src: str = "src/{}") -> Path:
    """Create a project whose package reads its own name from a data file."""
    modules = {"uv_build": "uv_build", "hatchling": "hatchling.build", "setuptools": "setuptools.build_meta"}
    modules |= {
        "poetry-core": "poetry.core.masonry.api",
        "flit_core": "flit_core.buildapi",
        "pdm-backend": "pdm.backend",
    }
    package = folder / name / src.format(name)
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        f"from importlib.resources import files\nNAME = files({name!r}).joinpath('name.txt').read_text()\n"
    )
    (package / "name.txt").write_text(name)
    (folder / name / "pyproject.toml").write_text(
        f"[build-system]\nrequires = [{backend!r}]\nbuild-backend = {modules[backend]!r}\n"
        f"[project]\nname = {name!r}\nversion = '1.5'\ndescription = 'a test'\n{more}"
    )
    return folder / name


def sent_distributions(report: Mapping[str, Any], *names: str) -> list[tuple[str, str, str, str]]:
    return [
        (each["name"], each["version"], each["how"], each["why"])
        for each in report["distributions"]
        if each["name"] in names
    ]


def import_from_archive(archive: bytes, folder: Path, *names: str) -> list[str]:
    """Import these packages from the archive alone; return the names and versions that they report."""
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from importlib import import_module, metadata\n"
        f"for name in {names!r}: print(import_module(name).NAME, metadata.version(name))"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


# ------------------------------------------------------------------------------------------------- detected packages


def test_packages_installed_in_every_way_are_sent(venv: VirtualEnvironment, tmp_path: Path) -> None:
    projects = {name: project(tmp_path, name) for name in ("in_place", "copied", "wheeled", "cloned", "published")}
    wheels = tmp_path / "wheels"
    for name in ("wheeled", "published"):
        run_uv("build", "--offline", "--wheel", "--out-dir", wheels, projects[name])
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", projects["cloned"])
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "first")):
        subprocess.run([*git, *command], check=True, timeout=DEADLINE)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=DEADLINE
    ).stdout
    venv.install("--editable", projects["in_place"])
    venv.install(projects["copied"])
    wheel = wheels / "wheeled-1.5-py3-none-any.whl"
    venv.install(wheel)
    venv.install(f"cloned @ git+{projects['cloned'].as_uri()}")
    venv.install("--no-index", "--find-links", wheels, "published")

    report = venv.sent()
    assert (report["python"], report["tool"], report["problems"], report["compiled"]) == (PYTHON, "uv", [], [])
    assert sent_distributions(report, "in-place", "copied", "wheeled", "cloned", "published", "skjob") == [
        ("cloned", "1.5", "as an archive", f"vcs: {projects['cloned'].as_uri()}@{commit[:12]}"),
        ("copied", "1.5", "as an archive", f"folder: {projects['copied']}"),
        ("in-place", "1.5", "as an archive", f"editable: {projects['in_place']}"),
        ("published", "1.5", "from an index", "installed here"),
        ("skjob", version("skjob"), "not sent", ITSELF),
        ("wheeled", "1.5", "as an archive", f"archive: {wheel}"),
    ]
    assert report["totals"]["as an archive"] == 4
    assert report["archive_bytes"] > 0
    assert {
        (each["name"], each["bytes"] > 0) for each in report["distributions"] if each["how"] == "as an archive"
    } == {
        ("cloned", True),
        ("copied", True),
        ("in-place", True),
        ("wheeled", True),
    }

    packed = venv.run("-c", PACK, str(tmp_path / "archive.zip"))
    assert packed.stderr == ""
    names = ("in_place", "copied", "wheeled", "cloned")
    archive = (tmp_path / "archive.zip").read_bytes()
    assert import_from_archive(archive, tmp_path / "there", *names) == [f"{name} 1.5" for name in names]


SETUPTOOLS_MAPPED = "[tool.setuptools]\npackages = ['{0}']\n[tool.setuptools.package-dir]\n{0} = 'code/inner'\n"


@pytest.mark.parametrize("strict", [False, True])
def test_editable_packages_of_setuptools(venv: VirtualEnvironment, tmp_path: Path, strict: bool) -> None:
    """The layouts use a folder on the path and an import hook with a table, and strict mode uses links."""
    layouts = {
        "in_src": ("src/{}", ""),
        "flat": ("{}", ""),
        "mapped": ("code/inner", SETUPTOOLS_MAPPED.format("mapped")),
    }
    mode = ("--config-setting", "editable_mode=strict") if strict else ()
    for name, (src, more) in layouts.items():
        more += f"[tool.setuptools.package-data]\n{name} = ['*.txt']\n"
        venv.install(*mode, "--editable", project(tmp_path, name, "setuptools", more, src), offline=False)
    assert_editable(venv, tmp_path, *layouts)


def test_editable_packages_of_other_backends(venv: VirtualEnvironment, tmp_path: Path) -> None:
    backends = {"by_hatch": "hatchling", "by_poetry": "poetry-core", "by_flit": "flit_core", "by_pdm": "pdm-backend"}
    for name, backend in backends.items():
        venv.install("--editable", project(tmp_path, name, backend), offline=False)
    assert_editable(venv, tmp_path, *backends)


def assert_editable(venv: VirtualEnvironment, tmp_path: Path, *names: str) -> None:
    report = venv.sent()
    sent = sent_distributions(report, *(name.replace("_", "-") for name in names))
    assert sent == sorted(
        (name.replace("_", "-"), "1.5", "as an archive", f"editable: {tmp_path / name}") for name in names
    )
    packed = venv.run("-c", PACK, str(tmp_path / "archive.zip"))
    assert packed.stderr == ""
    archive = (tmp_path / "archive.zip").read_bytes()
    assert import_from_archive(archive, tmp_path / "there", *names) == [f"{name} 1.5" for name in names]


# ------------------------------------------------------------------------------------------------- output


def test_table_for_users(venv: VirtualEnvironment, tmp_path: Path) -> None:
    venv.install("--editable", project(tmp_path, "mine"))
    ended = venv.env()
    assert ended.returncode == 0
    lines = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]
    assert lines[0] == ["NAME", "VERSION", "HOW            WHY"]
    assert ["mine", "1.5", f"as an archive  editable: {tmp_path}/mine"] in lines
    assert ["dask", version("dask"), "from an index  part of every worker"] in lines
    assert ["skjob", version("skjob"), f"not sent       {ITSELF}"] in lines
    assert f"skjob: Python {PYTHON} (uv): " in ended.stderr
    assert ", 1 as an archive, " in ended.stderr


def test_requirement_of_skjob_is_sent_if_the_program_imports_it(venv: VirtualEnvironment, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import kubernetes\n")
    kubernetes = version("kubernetes")
    assert sent_distributions(venv.sent(), "kubernetes") == [
        ("kubernetes", kubernetes, "not sent", "needed by skjob only, not on workers")
    ]
    assert sent_distributions(venv.sent("--program", "train.py"), "kubernetes") == [
        ("kubernetes", kubernetes, "from an index", "installed here")
    ]


def test_packages_that_cannot_be_sent_are_errors(venv: VirtualEnvironment, tmp_path: Path) -> None:
    for name in ("moved", "also_moved"):
        venv.install("--editable", project(tmp_path, name))
        (tmp_path / name).rename(tmp_path / f"{name}_away")
    problems = [
        f"`{name}` is installed in editable mode from `{tmp_path}/{folder}/src`, which does not exist: "
        f"install it again, or remove it with `uv pip uninstall {name}`"
        for name, folder in (("also-moved", "also_moved"), ("moved", "moved"))
    ]
    for command in ((), ("build",)):
        ended = venv.env(*command)
        assert ended.returncode == 120
        assert "\n".join(["error: 2 problems:", *(f"  - {problem}" for problem in problems), ""]) in ended.stderr
        assert "Traceback" not in ended.stderr
    ended = venv.env("--json")
    assert ended.returncode == 120
    assert json.loads(ended.stdout)["problems"] == problems


def test_env_none_sends_nothing(venv: VirtualEnvironment) -> None:
    report = venv.sent("--env", "none")
    assert (report["totals"].keys(), report["archive_bytes"]) == ({"not sent"}, 0)
    ended = venv.env("build", "--env", "none")
    assert (ended.returncode, ended.stdout) == (120, "")
    assert ended.stderr.startswith("error: `--env none` leaves nothing to build")


# ------------------------------------------------------------------------------------------------- files of requirement


def lock(folder: Path, packages: str) -> None:
    (folder / "pylock.toml").write_text(f'lock-version = "1.0"\ncreated-by = "a test"\n{packages}')


def wheel(name: str, version: str) -> str:
    """Return the files of a published package, as a lock file lists them."""
    return f"wheels = [{{ url = 'https://host/{name}-{version}-py3-none-any.whl', hashes = {{ sha256 = '00' }} }}]"


def test_lock_file(venv: VirtualEnvironment, tmp_path: Path) -> None:
    venv.install("--editable", project(tmp_path, "mine"))
    lock(
        tmp_path,
        f"""
        requires-python = ">=3.8"
        [[packages]]
        name = "six"
        version = "1.16.0"
        {wheel("six", "1.16.0")}
        [[packages]]
        name = "pywin32"
        version = "300"
        marker = "sys_platform == 'win32'"
        {wheel("pywin32", "300")}
        [[packages]]
        name = "joblib"
        version = "{version("joblib")}"
        {wheel("joblib", version("joblib"))}
        [[packages]]
        name = "mine"
        directory = {{ path = "mine", editable = true }}
        """,
    )
    report = venv.sent("--env", "pylock.toml")
    assert sent_distributions(report, "six", "pywin32", "dask", "joblib", "mine", "pytest") == [
        ("dask", version("dask"), "from an index", "part of every worker"),
        ("joblib", version("joblib"), "from an index", "part of every worker"),
        ("mine", "1.5", "as an archive", f"editable: {tmp_path}/mine"),
        ("pytest", version("pytest"), "not sent", "not requested by pylock.toml"),
        ("six", "1.16.0", "from an index", "requested by pylock.toml"),
    ]


def test_all_problems_of_a_lock_file_are_reported(venv: VirtualEnvironment, tmp_path: Path) -> None:
    lock(
        tmp_path,
        f"""
        requires-python = "<3.8"
        [[packages]]
        name = "elsewhere"
        vcs = {{ type = "git", url = "https://me:secret@host/x.git", commit-id = "00" }}
        [[packages]]
        name = "versionless"
        {wheel("versionless", "1")}
        [[packages]]
        name = "joblib"
        version = "0.1"
        {wheel("joblib", "0.1")}
        """,
    )
    ended = venv.env("--env", "pylock.toml")
    assert (ended.returncode, ended.stdout) == (120, "")
    elsewhere = "`pylock.toml` requests `elsewhere` from `https://host/x.git`, which no index has"
    problems = [
        f"`pylock.toml` is for Python <3.8, but this is {PYTHON}",
        f"{elsewhere}: install it here too to send it as an archive",
        "`pylock.toml` requests `versionless` without a version",
        f"`pylock.toml` requests `joblib` 0.1, but {version('joblib')} is installed here: both ends must have the same",
    ]
    assert ended.stderr.splitlines()[:5] == ["error: 4 problems:", *(f"  - {problem}" for problem in problems)]


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder that serves as an index; `upper` requires `lower`."""
    folder = tmp_path / "wheels"
    for name, more in (("upper", "dependencies = ['lower>=1']"), ("lower", "")):
        run_uv("build", "--offline", "--wheel", "--out-dir", folder, project(tmp_path / "source", name, more=more))
    return folder


def test_requirements_file_is_resolved(venv: VirtualEnvironment, tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links {wheels}\nupper\n")
    report = venv.sent("--env", "requirements.txt")
    assert sent_distributions(report, "upper", "lower") == [
        ("lower", "1.5", "from an index", "requested by requirements.txt"),
        ("upper", "1.5", "from an index", "requested by requirements.txt"),
    ]


def test_versions_of_uvs_lock_file_are_used(venv: VirtualEnvironment, tmp_path: Path, wheels: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'locked'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['upper']\n"
        "[dependency-groups]\ndev = ['only-for-tests']\n"
        f"[tool.uv]\nno-index = true\nfind-links = ['{wheels}']\n"
        "[tool.uv.sources]\nonly-for-tests = { path = '../tests_only' }\n"
    )
    project(tmp_path, "tests_only")
    content = (tmp_path / "tests_only" / "pyproject.toml").read_text().replace("tests_only", "only-for-tests")
    content += "[tool.uv.build-backend]\nmodule-name = 'tests_only'\n"
    (tmp_path / "tests_only" / "pyproject.toml").write_text(content)
    run_uv("lock", "--offline", "--python", sys.executable, folder=folder)
    newer = project(tmp_path / "newer", "lower") / "pyproject.toml"
    newer.write_text(newer.read_text().replace("1.5", "2.0"))
    run_uv("build", "--offline", "--wheel", "--out-dir", wheels, newer.parent)
    report = venv.sent("--env", "locked/pyproject.toml")
    assert sent_distributions(report, "upper", "lower", "locked", "only-for-tests") == [
        ("lower", "1.5", "from an index", "requested by locked/pyproject.toml"),
        ("upper", "1.5", "from an index", "requested by locked/pyproject.toml"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("--no-index\nupper\n", "because upper was not found in the provided package locations"),
        ("joblib=1\n", 'no such comparison operator "="'),
        ("--no-index\njoblib==0.1\n", "because you require joblib==0.1 and joblib=="),
    ],
)
def test_file_that_uv_cannot_resolve(venv: VirtualEnvironment, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "requirements.txt").write_text(content)
    ended = venv.env("--env", "requirements.txt")
    assert (ended.returncode, ended.stdout) == (120, "")
    assert ended.stderr.startswith(f"error: uv cannot resolve `requirements.txt` for Python {PYTHON} on Linux: ")
    assert message in ended.stderr.lower()
    assert "\nhint: workers have cloudpickle, dask, " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "`requested.toml`, which `--env` names, cannot be read: No such file or directory"),
        (b"\xff\xfe", "`requested.toml`, which `--env` names, is not text"),
    ],
)
def test_file_that_cannot_be_read(
    venv: VirtualEnvironment, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "requested.toml").write_bytes(content)
    ended = venv.env("--env", "requested.toml")
    hint = "name a file of requirements, a pyproject.toml or a lock; or `auto`, or `none`"
    assert (ended.returncode, ended.stderr) == (120, f"error: {message}\n\nhint: {hint}\n")


# ------------------------------------------------------------------------------------------------- images


def test_files_of_an_image(venv: VirtualEnvironment, tmp_path: Path) -> None:
    venv.install("--editable", project(tmp_path, "mine"))
    ended = venv.env("build", "--output", "image", "--base", "example.org/python:own")
    assert (ended.returncode, ended.stdout) == (0, "")
    image = tmp_path / "image"
    assert {path.name for path in image.iterdir()} == {"Dockerfile", "requirements.txt", "local"}
    assert (image / "local" / "mine" / "name.txt").read_text() == "mine"
    requirements = (image / "requirements.txt").read_text().splitlines()
    assert f"dask=={version('dask')}" in requirements
    assert [line for line in requirements if line.startswith(("mine", "skjob", "pip=", "uv="))] == []
    text = (image / "Dockerfile").read_text()
    assert text.startswith("ARG BASE=example.org/python:own\n")
    assert f"\nCOPY local/ /opt/environment/lib/python{PYTHON}/site-packages/\n" in text
    assert "\nUSER 1000:1000\n" in text

    ended = venv.env("build", "--output", "image")
    assert (ended.returncode, ended.stdout) == (120, "")
    assert ended.stderr.startswith("error: the folder `image` of `--output` already exists")


def test_dockerfile_is_printed(venv: VirtualEnvironment) -> None:
    ended = venv.env("build")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"ARG BASE=python:{PYTHON}-slim\n")
    assert "COPY local/" not in ended.stdout  # there are no local packages
    assert ended.stdout == venv.env("--env", "auto", "build", "--print").stdout


def test_build_without_docker_or_podman(venv: VirtualEnvironment, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = venv.env("build", "--tag", "localhost/never", PATH=str(tmp_path / "empty"))
    assert (ended.returncode, ended.stdout) == (120, "")
    assert ended.stderr == (
        "error: no image can be built here: `docker` is not installed, `podman` is not installed\n\nhint: start one of "
        "them, or build the files elsewhere: `skjob env build --output FOLDER`\n"
    )
