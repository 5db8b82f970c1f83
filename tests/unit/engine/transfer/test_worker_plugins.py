"""The user's modules on a worker that had an older version of them: imported anew, or the worker is started again."""

import importlib
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skjob.engine.cancellation import ENDED_BY_SKJOB
from skjob.engine.transfer import worker_plugins
from skjob.engine.transfer.worker_plugins import WorkerModules


class Loop:
    """Of a worker: what is to be done later is noted."""

    def __init__(self) -> None:
        self.later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call_later(self, _: float, function: Callable[..., Any], *arguments: Any) -> None:
        self.later.append((function, arguments))


class Worker:
    """What a plugin sees of a worker."""

    def __init__(self, folder: Path) -> None:
        self.local_directory = str(folder)
        self.data: dict[str, object] = {}
        self.loop = Loop()

    @property
    def starts_again(self) -> bool:
        return self.loop.later == [(os._exit, (ENDED_BY_SKJOB,))]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(worker_plugins, "_unpacked", {})
    before = set(sys.modules)
    yield Worker(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _archive(**sources: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in sources.items():
            archive.writestr(f"{name}.py", source)
    return buffer.getvalue()


FIRST = _archive(unit_features="VALUE = 1", unit_model="import unit_features\nclass Model: pass")
SECOND = _archive(unit_features="VALUE = 2", unit_model="import unit_features\nclass Model: pass")


def test_what_was_changed_is_imported_anew(worker: Worker) -> None:
    WorkerModules("packages", FIRST).setup(worker)
    assert importlib.import_module("unit_model").unit_features.VALUE == 1
    WorkerModules("packages", SECOND).setup(worker)
    assert importlib.import_module("unit_model").unit_features.VALUE == 2
    assert worker.loop.later == []


def test_what_was_not_changed_stays_imported(worker: Worker) -> None:
    WorkerModules("packages", FIRST).setup(worker)
    before = importlib.import_module("unit_model")
    WorkerModules("packages", FIRST).setup(worker)
    assert importlib.import_module("unit_model") is before


def test_the_script_s_own_modules_stay_before_those_of_packages(worker: Worker) -> None:
    WorkerModules("packages", FIRST).setup(worker)
    WorkerModules("script", _archive(unit_features="VALUE = 'beside the script'")).setup(worker)
    assert importlib.import_module("unit_features").VALUE == "beside the script"
    WorkerModules("packages", SECOND).setup(worker)
    assert importlib.import_module("unit_features").VALUE == "beside the script"


def test_what_another_part_has_taken_from_what_was_changed_is_taken_anew(worker: Worker) -> None:
    script = _archive(unit_beside="from unit_features import VALUE")
    WorkerModules("packages", FIRST).setup(worker)
    WorkerModules("script", script).setup(worker)
    assert importlib.import_module("unit_beside").VALUE == 1
    WorkerModules("packages", SECOND).setup(worker)
    WorkerModules("script", script).setup(worker)
    assert importlib.import_module("unit_beside").VALUE == 2


def test_a_package_without_an_init_file_is_imported_anew_too(worker: Worker) -> None:
    for number in (1, 2):
        WorkerModules("packages", _archive(**{"unit_space/part": f"VALUE = {number}"})).setup(worker)
        importlib.import_module("unit_space.part")
        assert number == importlib.import_module("unit_space").part.VALUE


def test_a_worker_that_holds_what_is_of_an_old_class_is_started_again(worker: Worker) -> None:
    WorkerModules("packages", FIRST).setup(worker)
    worker.data["fitted"] = importlib.import_module("unit_model").Model()
    WorkerModules("packages", SECOND).setup(worker)
    assert worker.starts_again


def test_data_of_other_kinds_is_no_reason(worker: Worker) -> None:
    WorkerModules("packages", FIRST).setup(worker)
    importlib.import_module("unit_model")
    worker.data["X"] = [1.0, 2.0]
    WorkerModules("packages", SECOND).setup(worker)
    assert worker.loop.later == []


def test_a_worker_with_compiled_code_of_the_user_is_started_again(worker: Worker) -> None:
    """Python cannot load another version of a compiled module into the same process."""
    import numpy._core._multiarray_umath as compiled

    name = Path(compiled.__file__ or "").name.replace("_multiarray_umath", "unit_compiled")
    WorkerModules("packages", FIRST).setup(worker)
    module = type(sys)("unit_compiled")
    module.__file__ = str(Path(worker_plugins._unpacked["packages"].first[0]) / name)
    sys.modules["unit_compiled"] = module
    WorkerModules("packages", SECOND).setup(worker)
    assert worker.starts_again
