"""Test what is sent with a run, what of it pods can import, and mismatches between the two ends."""

import io
import json
import pkgutil
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from clocks import DEADLINE
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import skjob
from skjob.config.plan import JobSpec
from skjob.environment.local.distributions import ENGINE
from skjob.environment.local.imports import imported_by
from skjob.environment.skjob_source import MAX_SOURCE_BYTES, NOT_FOR_PODS, skjob_archive
from skjob.environment.version_check import check_installed, check_pins, check_versions
from skjob.errors import StartError

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


def _all_that_is_needed(names: tuple[str, ...]) -> set[str]:
    needed: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return needed


def test_what_runs_on_scheduler_and_workers_is_imported_with_the_engine_alone() -> None:
    import skjob.engine

    there = ["distributed.scheduler", "distributed.worker", "distributed.cli.dask_worker", "skjob.deploy.scaling.loop"]
    there += [each.name for each in pkgutil.iter_modules(skjob.engine.__path__, "skjob.engine.")]
    allowed = {"skjob", *_all_that_is_needed(ENGINE)}
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
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("import a, b.c as d", {"a", "b"}),
        ("from a.b import c", {"a"}),
        ("def f():\n    import late", {"late"}),
        ("from . import beside", set()),
        ("", set()),
    ],
)
def test_what_a_program_imports(tmp_path: Path, script: str, names: set[str]) -> None:
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "beside.py").write_text("import of_a_module")
    (tmp_path / "broken.py").write_text("import (")
    assert imported_by(JobSpec(tmp_path / "train.py")) == names | {"of_a_module"}


def test_what_a_job_file_and_a_notebook_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.yaml").touch()
    assert imported_by(JobSpec(tmp_path / "job.yaml")) == {"pandas", "pyarrow"}
    monkeypatch.setattr(sys.modules["__main__"], "from_a_cell", Requirement, raising=False)
    assert "packaging" in imported_by(JobSpec(tmp_path / "notebook"))


# ------------------------------------------------------------------------------------------------- what is sent


@pytest.fixture(scope="module")
def archive() -> bytes:
    return skjob_archive()


def test_the_archive_holds_the_source_without_what_only_the_user_needs_and_nothing_else(archive: bytes) -> None:
    folder = Path(skjob.__file__).parent
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    source = {f"skjob/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.py")}
    left_out = tuple(each if each.endswith(".py") else f"{each}/" for each in NOT_FOR_PODS)
    assert content == {name: text for name, text in source.items() if not name.startswith(left_out)}
    for each in left_out:
        assert any(name.startswith(each) for name in source)
    command = content.pop("skjob/__main__.py")  # no pod runs this
    content.pop("skjob/__init__.py")  # no pod calls its functions
    names = "|".join(re.escape(each.removesuffix(".py").replace("/", ".")) for each in NOT_FOR_PODS)
    imports = re.compile(rf"^\s*(?:from|import) (?:{names})\b".encode(), re.M)
    by_name = re.compile(rb"^\s*from skjob\.deploy\.kubernetes(?:\.operator)? import .*\b(?:doctor|install)\b", re.M)
    assert imports.search(command)
    assert [name for name, text in content.items() if imports.search(text) or by_name.search(text)] == []


def test_the_archive_is_the_same_for_the_same_source(archive: bytes) -> None:
    assert skjob_archive() == archive


def test_the_archive_leaves_a_config_map_room(archive: bytes) -> None:
    assert len(archive) < MAX_SOURCE_BYTES * 9 / 10
    assert MAX_SOURCE_BYTES * 4 / 3 < 2**20


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
        timeout=DEADLINE,
        check=False,
    )
    # joblib, which tasks use, is missing: up to that import, skjob's own code runs.
    assert ended.returncode == 1
    assert "No module named 'joblib'" in ended.stderr
    assert f"{file}/skjob/engine/task.py" in ended.stderr


# ------------------------------------------------------------------------------------------------- whether both ends
# match


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
        (_versions(None), []),  # a worker that left during the request
        (_versions(_peer(pandas="3")), []),  # not installed here
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
    assert check_versions(versions) == [f"another version, which may change numbers: {note}" for note in notes]


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
        "choose an image with the same versions, with `--image`, or omit it to get one that matches"
    )


def test_what_an_image_that_is_taken_as_it_is_has_and_has_not() -> None:
    here = {"scikit-learn": "1.9.1", "numpy": "2.4.0", "dask": "2026.8.0", "tqdm": "4.67"}
    assert check_installed(here, here) == []
    assert check_installed(here, {"numpy": "2.4.1", "dask": "2026.7.0"}) == [
        "another version, which may change numbers: numpy 2.4.0 here, 2.4.1 on the cluster",
        "the image has no scikit-learn: tasks that need it will fail",
    ]


def test_a_cluster_with_another_environment_is_told_with_all_that_differs() -> None:
    pins = {"numpy": "2.4.0", "pandas": "2.2.3", "tqdm": "4.67"}
    check_pins(pins, {**pins, "more": "1"}, "skjob-train-3f9a1c")
    with pytest.raises(StartError) as raised:
        check_pins(pins, {"numpy": "2.4.0", "pandas": "3.1.0"}, "skjob-train-3f9a1c")
    assert raised.value.message == (
        "the cluster `skjob-train-3f9a1c` has another environment:"
        " pandas 2.2.3 here, 3.1.0 there, tqdm 4.67 here, none there"
    )
