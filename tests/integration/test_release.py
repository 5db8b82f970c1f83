"""What a release publishes can be built here: `make dist`, whose checks the workflow runs too."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from local_runs import user_environment

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SECONDS = 600

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 60)]


def made(*arguments: str, folder: Path) -> str:
    ended = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=user_environment(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_the_distributions_and_the_chart_are_built_and_work(tmp_path: Path) -> None:
    """Among its checks: twine's, and a run of the demo by a wheel in an environment that has nothing else."""
    told = made("dist", f"DIST={tmp_path / 'dist'}", folder=tmp_path)
    assert "skjob: succeeded" in told
    wheel = f"skjob-{VERSION}-py3-none-any.whl"
    files = sorted(
        str(path.relative_to(tmp_path / "dist")) for path in (tmp_path / "dist").rglob("*") if path.is_file()
    )
    assert files == [f"chart/skjob-{VERSION}.tgz", f"python/{wheel}", f"python/skjob-{VERSION}.tar.gz"]
    assert told.count("PASSED") == 2
    with ZipFile(tmp_path / "dist" / "python" / wheel) as archive:
        names = archive.namelist()
    assert {"skjob/py.typed", f"skjob-{VERSION}.dist-info/licenses/LICENSE"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"skjob", f"skjob-{VERSION}.dist-info"}
    with tarfile.open(tmp_path / "dist" / "chart" / f"skjob-{VERSION}.tgz") as chart:
        described = chart.extractfile("skjob/Chart.yaml")
        assert described is not None
        about = yaml.safe_load(described.read())
    assert (about["version"], about["appVersion"]) == (VERSION, VERSION)


def test_the_workflows_have_no_mistake_that_actionlint_finds(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("actionlint is a program in Go")
    made("check-workflows", folder=tmp_path)
