"""The locks come from one resolution: what works with one of them works with the others."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ALL = ROOT / "requirements-dev.lock"
RUNTIME = ROOT / "requirements.lock"
IMAGE = ROOT / "image-requirements.lock"
DASHBOARD = ROOT / "image-dashboard.lock"
BENCHMARKS = ROOT / "benchmarks" / "requirements.txt"
GALLERY = ROOT / "requirements-gallery.lock"
DOCS = ROOT / "requirements-docs.lock"
WORKS_WITH = ROOT / "requirements-works-with.lock"
RELEASE = ROOT / "requirements-release.lock"
BROWSER = ROOT / "requirements-browser.lock"


def _names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def _pins(lock: Path) -> dict[str, set[str]]:
    """By distribution: its version, or its versions where it depends on Python's."""
    pins = defaultdict(set)
    for line in lock.read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            pins[canonicalize_name(requirement.name)].add(str(requirement.specifier))
    return pins


@pytest.mark.parametrize("lock", [RUNTIME, IMAGE])
def test_a_lock_has_the_versions_that_are_tested(lock: Path) -> None:
    tested = _pins(ALL)
    assert {name: versions for name, versions in _pins(lock).items() if tested.get(name) != versions} == {}


@pytest.mark.parametrize("lock", [BENCHMARKS, BROWSER])
def test_others_have_the_versions_that_are_tested(lock: Path) -> None:
    """Beside what skjob is compared with, and JupyterLab, which are installed elsewhere."""
    tested = _pins(ALL)
    pins = _pins(lock).items()
    assert {name: versions for name, versions in pins if name in tested and tested[name] != versions} == {}


def test_the_locks_have_what_is_asked_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = _names(asked["project"]["dependencies"])
    groups = asked["dependency-groups"]
    drawing, documentation = _names(groups.pop("gallery")), _names(groups.pop("docs"))
    libraries, checking = _names(groups.pop("works-with")), _names(groups.pop("release"))
    notebooks = _names(groups.pop("browser"))
    tools = _names([line for group in groups.values() for line in group if isinstance(line, str)])
    assert runtime <= _pins(RUNTIME).keys()
    assert runtime | tools <= _pins(ALL).keys()
    assert not (tools - runtime) & _pins(RUNTIME).keys()
    assert drawing <= _pins(GALLERY).keys()
    assert notebooks <= _pins(BROWSER).keys()
    assert not _pins(GALLERY).keys() & _pins(ALL).keys(), "an example would import another copy than a worker"
    assert documentation <= _pins(DOCS).keys()
    assert not _pins(DOCS).keys() & _pins(ALL).keys(), "it would be imported in another version than is tested"
    assert runtime | libraries <= _pins(WORKS_WITH).keys()
    assert checking <= _pins(RELEASE).keys()


def test_the_image_has_nothing_twice() -> None:
    assert "bokeh" in _pins(DASHBOARD)
    assert not _pins(DASHBOARD).keys() & _pins(IMAGE).keys()


def test_each_library_that_skjob_works_with_has_a_program() -> None:
    """ipykernel runs the notebook of Papermill's."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["works-with"]
    programs = {path.name for path in (ROOT / "tests" / "works_with").iterdir()}
    assert _names(group) - {"ipykernel"} == programs
