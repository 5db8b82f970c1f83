"""Test what a lock requests: versions by name for a worker, and every problem of an unusable lock."""

from pathlib import Path

import pytest

from skjob.environment.local.lockfile import read_lock
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

ENGINE = {"dask": "2026.8.0", "joblib": "1.5.3"}


def package(name: str, version: str, more: str = "", file: str | None = None) -> str:
    """Return the entry of a published package in a lock."""
    url = f"https://host/{file or f'{name}-{version}-py3-none-any.whl'}"
    wheels = f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "00" }} }}]'
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{more}\n{wheels}\n'


def read(folder: Path, *content: str, name: str = "pylock.toml", **options: object) -> dict[str, str]:
    (folder / name).write_text("\n".join(['lock-version = "1.0"\ncreated-by = "a test"', *content]))
    return read_lock(folder / name, "3.11", **options)  # type: ignore[arg-type]


def problems(folder: Path, *content: str, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, *content, **options)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_what_applies_to_a_worker_is_taken(tmp_path: Path) -> None:
    pins = read(
        tmp_path,
        'requires-python = ">=3.11.4"\ndefault-groups = ["models"]',
        package("six", "1.16.0"),
        package("older", "1", "marker = \"python_version < '3.11'\""),
        package("windows", "1", "marker = \"sys_platform == 'win32'\""),
        package("models", "2", "marker = \"'models' in dependency_groups\""),
        package("optional", "2", "marker = \"'fast' in extras\""),
        package("skjob", "0.1"),
    )
    assert pins == {"six": "1.16.0", "models": "2"}


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.workers.toml", "pylock.gpu.workers.toml"])
def test_a_lock_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, package("six", "1.16.0"), name=name) == {"six": "1.16.0"}


def test_a_local_version_is_encoded_in_the_address_of_its_wheel(tmp_path: Path) -> None:
    torch = package("torch", "2.5.1+cpu", file="torch-2.5.1%2Bcpu-cp311-cp311-linux_x86_64.whl")
    assert read(tmp_path, torch) == {"torch": "2.5.1+cpu"}


def test_a_lock_of_uv_0_9_is_read(tmp_path: Path) -> None:
    """It has no packages if the project has no dependencies, and no hashes if the index provides none."""
    assert read(tmp_path, "") == {}
    wheel = 'wheels = [{ url = "https://example.org/six-1-py3-none-any.whl", hashes = {} }]\n'
    assert read(tmp_path, f'[[packages]]\nname = "six"\nversion = "1"\n{wheel}') == {"six": "1"}


def test_what_an_extra_requires_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, package("six", "1", "marker = \"extra == 'gpu'\"")) == {}


def test_a_condition_that_cannot_be_evaluated_is_a_problem(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, package("six", "1", "marker = \"extras == 'gpu'\""))
    assert problem.startswith("`pylock.toml` requests `six` under a condition that cannot be evaluated: ")


def test_one_name_has_one_version_among_those_that_apply(tmp_path: Path) -> None:
    first = package("six", "1.16.0", "marker = \"python_version < '3.12'\"")
    second = package("six", "1.17.0", "marker = \"python_version >= '3.12'\"")
    assert read(tmp_path, first, second) == {"six": "1.16.0"}
    assert problems(tmp_path, package("six", "1.16.0"), package("six", "1.17.0")) == [
        "`pylock.toml` requests `six` in two versions, 1.16.0 and 1.17.0"
    ]


def test_what_workers_are_made_of_is_there_in_its_version(tmp_path: Path) -> None:
    assert read(tmp_path, package("joblib", "1.5.3"), engine=ENGINE) == ENGINE
    assert problems(tmp_path, package("joblib", "1.4.2"), engine=ENGINE) == [
        "`pylock.toml` requests `joblib` 1.4.2, but 1.5.3 is installed here: both ends must have the same"
    ]


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ('vcs = { type = "git", url = "https://me:secret@host/x.git", commit-id = "00" }', "https://host/x.git"),
        ('directory = { path = "../mine", editable = true }', "../mine"),
        ('archive = { path = "mine-1.zip", hashes = { sha256 = "00" } }', "mine-1.zip"),
    ],
)
def test_what_no_index_has_must_be_local(tmp_path: Path, source: str, address: str) -> None:
    entry = f'[[packages]]\nname = "mine"\n{source}\n'
    assert read(tmp_path, entry, local=["mine"]) == {}
    requested = f"`pylock.toml` requests `mine` from `{address}`, which no index has"
    assert problems(tmp_path, entry) == [f"{requested}: install it here too to send it as an archive"]


def test_every_problem_of_a_lock_is_reported(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        'requires-python = "<3.8"',
        '[[packages]]\nname = "mine"\ndirectory = { path = "mine" }\n',
        package("six", "1.16.0").replace('version = "1.16.0"\n', ""),
    )
    assert found == [
        "`pylock.toml` is for Python <3.8, but this is 3.11",
        "`pylock.toml` requests `mine` from `mine`, which no index has: install it here too to send it as an archive",
        "`pylock.toml` requests `six` without a version",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("packages = [", "Invalid value"),
        ("packages = 3", "Unexpected type int (expected Sequence) in 'packages'"),
        ('[[packages]]\nversion = "1"', "Missing required value in 'packages[0].name'"),
        ('requires-python = "three"\npackages = []', "Invalid specifier: 'three' in 'requires-python'"),
        (package("six", "1", "marker = \"color == 'red'\""), "Expected a marker variable"),
        (package("six", "1").replace('"six"', '"Six"'), "Name 'Six' is not normalized in 'packages[0].name'"),
    ],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (problem,) = problems(tmp_path, content)
    assert problem.startswith("`pylock.toml` is not a lock that skjob can read: ")
    assert reason in problem


def test_a_lock_of_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text('lock-version = "2.0"\ncreated-by = "a test"\npackages = []')
    with pytest.raises(ConfigError, match=r"skjob can read: pylock version 2.0 is not supported"):
        read_lock(tmp_path / "pylock.toml", "3.11")
