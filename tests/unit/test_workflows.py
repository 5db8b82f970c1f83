"""The workflows of GitHub Actions do what the project says it does; `make check-workflows` lints them."""

from __future__ import annotations

import os
import re
import subprocess
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


def workflow(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return found


def jobs(name: str) -> dict[str, Any]:
    found: dict[str, Any] = workflow(name)["jobs"]
    return found


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job.get("steps", ()))


def waits_for(job: str, among: dict[str, Any]) -> set[str]:
    """Return the jobs that are over when `job` starts."""
    needs = among[job].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(waits_for(each, among) for each in direct))


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


CHECKS = {"distributions", "documentation", "ci"}
PUBLISHING = {"image", "package", "chart", "site", "newest"}


def test_nothing_is_published_that_was_not_checked() -> None:
    release = jobs("release.yml")
    assert release.keys() == CHECKS | PUBLISHING
    assert "make dist" in commands(release["distributions"])
    assert "make docs" in commands(release["documentation"])
    assert release["ci"]["uses"] == "./.github/workflows/ci.yml"
    for name in PUBLISHING:
        assert waits_for(name, release) >= CHECKS
    for name in {"ci"} | PUBLISHING:
        assert release[name]["if"] == "github.event_name == 'push'"


def test_a_release_tests_what_a_landing_on_main_does() -> None:
    ci, release = workflow("ci.yml"), workflow("release.yml")
    assert "workflow_call" in ci[True]  # YAML's name of `on`
    conditions = {job.get("if") for job in ci["jobs"].values()}
    assert conditions == {None, "github.event_name != 'schedule'", "github.event_name == 'schedule'"}
    # They hold a group each while a release waits for its tests: with the same one, it would wait for itself.
    groups = [each["concurrency"]["group"].partition("-")[0] for each in (ci, release)]
    assert groups == ["ci", "release"]


def test_what_is_published_names_only_what_is_there() -> None:
    release = jobs("release.yml")
    assert waits_for("package", release) == CHECKS | {"image"}
    for name in ("chart", "site"):
        assert waits_for(name, release) == CHECKS | {"image", "package"}
    assert 'helm push "dist/chart/skjob-$VERSION.tgz" "oci://' in commands(release["chart"])
    assert waits_for("newest", release) == CHECKS | PUBLISHING - {"newest"}
    assert f"for python in {' '.join(PYTHONS)}; do" in commands(release["newest"])
    [built] = [step["with"]["tags"] for step in release["image"]["steps"] if "tags" in step.get("with", {})]
    assert built.endswith(":${{ needs.distributions.outputs.version }}-py${{ matrix.python }}")
    assert "," not in built, "the tags of the newest images move at the end"


def test_who_may_release_is_asked_before_anything_is_published() -> None:
    environments = {name: job.get("environment") for name, job in jobs("release.yml").items()}
    site = environments.pop("site")
    assert site["name"] == "github-pages"
    assert environments == dict.fromkeys(CHECKS) | dict.fromkeys(PUBLISHING - {"site"}, "release")


def test_actions_of_others_cannot_change_under_a_release() -> None:
    used = {step["uses"] for job in jobs("release.yml").values() for step in job.get("steps", ()) if "uses" in step}
    others = {action for action in used if not action.startswith("actions/")}
    by_name = {action for action in others if not re.search("@[0-9a-f]{40}$", action)}
    assert len(others) == 5
    assert by_name == {"pypa/gh-action-pypi-publish@release/v1"}  # as its own documentation has it


@pytest.mark.parametrize(("branch", "status"), [("main", 0), ("other", 1)])
def test_only_a_commit_on_main_is_released(tmp_path: Path, branch: str, status: int) -> None:
    [step] = [step for step in jobs("release.yml")["distributions"]["steps"] if "merge-base" in step.get("run", "")]
    assert step["if"] == "github.event_name == 'push'"
    checkout = tmp_path / "checkout"

    def git(*arguments: str, folder: Path = tmp_path) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--initial-branch", "main", "origin")
    origin = tmp_path / "origin"
    git("commit", "--allow-empty", "--message", "one", folder=origin)
    git("checkout", "-B", branch, folder=origin)
    git("commit", "--allow-empty", "--message", "two", folder=origin)
    git("tag", "--annotate", "--message", "two", "v1.0.0", folder=origin)
    git("checkout", "main", folder=origin)
    git("commit", "--allow-empty", "--message", "three", folder=origin)
    git("clone", str(origin), str(checkout))
    git("checkout", "v1.0.0", folder=checkout)
    command = ["bash", "-e", "-c", step["run"]]
    variables = {**os.environ, "GITHUB_REF_NAME": "v1.0.0"}
    ended = subprocess.run(command, cwd=checkout, env=variables, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (status, "")
    assert ended.stdout == ("" if status == 0 else "::error::the commit of v1.0.0 is not on main\n")
