"""The workflows of GitHub Actions do what the project says it does; `make check-workflows` lints them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]


def jobs(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["jobs"]
    return found


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_every_python_is_tested_and_has_an_image() -> None:
    assert PYTHONS[0] == PROJECT["requires-python"].removeprefix(">=")
    assert len(PYTHONS) == 4
    assert jobs("ci.yml")["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert jobs("release.yml")["image"]["strategy"]["matrix"]["python"] == PYTHONS


def test_macos_runs_the_unit_tests_with_the_oldest_and_the_newest_python() -> None:
    job = jobs("ci.yml")["macos"]
    assert job["runs-on"].startswith("macos-")
    assert job["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]
    assert 'pytest -n 3 -m "not slow" tests/unit' in commands(job)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_step_makes_can_be_made(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)) | {".venv/.completed"}
    made = [word for job in jobs(path.name).values() for line in commands(job).splitlines()
            if line.startswith("make ") for word in line.partition(" #")[0].split()[1:] if "=" not in word]  # fmt: skip
    assert made
    assert [target for target in made if target not in targets and not target.startswith("tests/")] == []


def test_nothing_is_published_that_was_not_checked() -> None:
    release = jobs("release.yml")
    assert "make dist" in commands(release["distributions"])
    assert "make docs" in commands(release["documentation"])
    for name in ("package", "chart", "site"):
        assert set(release[name]["needs"]) == {"distributions", "documentation", "image"}
        assert release[name]["if"] == "github.event_name == 'push'"
    assert release["image"]["needs"] == "distributions"
    assert 'helm push "dist/chart/skjob-$VERSION.tgz" "oci://' in commands(release["chart"])
