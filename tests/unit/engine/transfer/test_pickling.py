"""Code that is sent by value is known by its file, there and when it comes back."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import cloudpickle
import pytest
from joblib._parallel_backends import SequentialBackend

from skjob.engine.remote_traceback import with_source
from skjob.engine.task import Outcome, run_batch
from skjob.engine.task_warnings import warn_again
from skjob.engine.transfer.modules import module_state
from skjob.engine.transfer.pickling import NO_FILE, dumps
from skjob.engine.transfer.task_pickler import dump_task

pytestmark = pytest.mark.unit

SOURCE = """\
import warnings

class Scaler:
    def fit(self):
        raise ValueError("no scale")

def warn():
    warnings.warn("too few", UserWarning)

def made():
    def inner():
        return 1
    return inner
"""


@pytest.fixture(params=["as installed", "without files"], autouse=True)
def code_reducer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """cloudpickle 3.1.3 leaves the file's name out; the installed one may not."""
    if request.param == "without files":
        table = cloudpickle.Pickler.dispatch_table
        original: Callable[[CodeType], Any] = table[CodeType]
        monkeypatch.setitem(table, CodeType, lambda code: original(code.replace(co_filename=NO_FILE)))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module beside the script: its functions and classes travel by value."""
    (tmp_path / "pickled_script.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import pickled_script  # type: ignore[import-not-found]

    yield pickled_script
    sys.modules.pop("pickled_script", None)


def _ran(function: Callable[[], Any], root: Path) -> Outcome:
    payload = dump_task(([(function, (), {})], SequentialBackend(), {}), lambda _: None, root)
    [outcome] = run_batch("the-task", payload, [])
    return outcome


def test_a_function_keeps_its_file_and_so_do_those_within() -> None:
    def outer() -> Callable[[], int]:
        return lambda: 1

    again = cloudpickle.loads(dumps(outer))
    assert again is not outer
    assert (again.__code__.co_filename, again().__code__.co_filename) == (__file__, __file__)


def test_code_is_otherwise_as_cloudpickle_makes_it() -> None:
    def add(number: int, *, other: int = 2) -> int:
        return number + other

    again = cloudpickle.loads(dumps(add))
    assert again(1) == 3
    assert again.__code__ == add.__code__
    assert again.__code__.co_firstlineno == add.__code__.co_firstlineno


def test_a_traceback_from_a_worker_names_the_file_and_the_line(script: Any, tmp_path: Path) -> None:
    text = with_source(_ran(script.Scaler().fit, tmp_path).traceback)
    assert f'  File "{script.__file__}", line 5, in fit\n    raise ValueError("no scale")\n' in text


def test_a_result_that_holds_code_comes_back_with_its_file(script: Any, tmp_path: Path) -> None:
    outcome = _ran(script.made, tmp_path)
    assert cloudpickle.loads(outcome.content).__code__.co_filename == script.__file__


def test_the_state_of_a_module_has_code_with_its_file(script: Any) -> None:
    cloudpickle.register_pickle_by_value(script)  # as while a task is pickled
    try:
        state = module_state(script)
    finally:
        cloudpickle.unregister_pickle_by_value(script)
    again = cloudpickle.loads(state["Scaler"])
    assert again.fit.__code__.co_filename == script.__file__


@pytest.mark.parametrize("shown", [True, False])
def test_a_warning_is_one_of_the_users_file_and_filters_by_it_work(script: Any, tmp_path: Path, shown: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        [warned] = _ran(script.warn, tmp_path).warnings
    assert (warned.file, warned.line) == (script.__file__, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not shown:
            warnings.filterwarnings("ignore", module="pickled_script")
        warn_again(warned, {})
    assert [each.filename for each in caught] == [script.__file__] * shown
