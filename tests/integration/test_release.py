"""The files of a release can be built with `make dist`, whose checks the workflow runs as well."""

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


def run_make(*arguments: str, folder: Path) -> str:
    ended = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=user_environment(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_distributions_and_chart_are_built(tmp_path: Path) -> None:
    """`make dist` also runs twine's checks, and the demo from the wheel in an otherwise empty environment."""
    output = run_make("dist", f"DIST={tmp_path / 'dist'}", folder=tmp_path)
    assert "skjob: succeeded" in output
    wheel = f"skjob-{VERSION}-py3-none-any.whl"
    files = sorted(
        str(path.relative_to(tmp_path / "dist")) for path in (tmp_path / "dist").rglob("*") if path.is_file()
    )
    assert files == [f"chart/skjob-{VERSION}.tgz", f"python/{wheel}", f"python/skjob-{VERSION}.tar.gz"]
    assert output.count("PASSED") == 2
    with ZipFile(tmp_path / "dist" / "python" / wheel) as archive:
        names = archive.namelist()
    assert {"skjob/py.typed", f"skjob-{VERSION}.dist-info/licenses/LICENSE"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"skjob", f"skjob-{VERSION}.dist-info"}
    with tarfile.open(tmp_path / "dist" / "chart" / f"skjob-{VERSION}.tgz") as chart:
        metadata = chart.extractfile("skjob/Chart.yaml")
        assert metadata is not None
        about = yaml.safe_load(metadata.read())
    assert (about["version"], about["appVersion"]) == (VERSION, VERSION)


def test_actionlint_finds_no_errors(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("actionlint is built with Go")
    run_make("check-workflows", folder=tmp_path)
