"""Test the requirements of pods: written here, read there, and compared with what is installed."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from clocks import DEADLINE

from skjob.environment.pod.requirements import REQUIREMENTS_FILE, PodRequirements, installed, missing_pins, normalized
from skjob.environment.skjob_source import skjob_archive


def test_needs_travel_as_text(tmp_path: Path) -> None:
    needs = PodRequirements("3.11", {"numpy": "2.4.0", "a-b": "1+cpu"}, served_at="kept.team:8443", uv="0.9")
    (tmp_path / REQUIREMENTS_FILE).write_text(needs.as_json())
    assert PodRequirements.read(tmp_path) == needs


def test_the_distributions_here_are_found_as_importlib_finds_them() -> None:
    expected: dict[str, str] = {}
    for each in metadata.distributions():
        expected.setdefault(normalized(each.metadata["Name"]), each.version)
    assert installed() == expected


def test_the_first_on_the_path_counts(tmp_path: Path) -> None:
    for folder, version in (("site", "2.2.3"), ("image", "3.1.0")):
        (tmp_path / folder / f"pandas-{version}.dist-info").mkdir(parents=True)
    (tmp_path / "image" / "Flask_Cors-6.0.dist-info").mkdir()
    (tmp_path / "image" / "old_style-1.2-py3.11.egg-info").mkdir()
    (tmp_path / "image" / "no-metadata").mkdir()
    path = [str(tmp_path / name) for name in ("absent", "site", "image")]
    assert installed(path) == {"pandas": "2.2.3", "flask-cors": "6.0", "old-style": "1.2"}


@pytest.mark.parametrize(
    ("pinned", "there", "differs"),
    [
        ("1.0", {"x": "1.0"}, False),
        ("1.0", {"x": "1.1"}, True),
        ("1.0", {}, True),
        ("2024.01", {"x": "2024.1"}, False),
        ("1.0+CPU", {"x": "1.0+cpu"}, False),
        ("1.10", {"x": "1.1"}, True),
        ("1.0", {"x": "10.0"}, True),
    ],
)
def test_what_differs(pinned: str, there: dict[str, str], differs: bool) -> None:
    assert missing_pins({"x": pinned}, there) == ({"x": pinned} if differs else {})


def test_what_pods_run_first_needs_nothing_but_python(tmp_path: Path) -> None:
    archive = tmp_path / "skjob.zip"
    archive.write_bytes(skjob_archive())
    code = (
        "import sys, skjob.environment.pod.entrypoint, skjob.environment.pod.package_server; "
        "print(sorted({n.partition('.')[0] for n in sys.modules} - sys.stdlib_module_names - {'__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.stdout, done.stderr) == ("['skjob']\n", "")
