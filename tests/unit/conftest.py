"""What unit tests share: a clock that takes no time, and a joblib backend that keeps each of scikit-learn's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import joblib
import pytest
from clocks import Clock
from joblib._parallel_backends import ParallelBackendBase

from skjob.engine.joblib_calls import JoblibCall, calls_of


class RecordingBackend(ParallelBackendBase):  # type: ignore[misc]
    """Two jobs wide. `instead` gives the result of a call that is not to run; None lets it run."""

    supports_retrieve_callback = True

    def __init__(self, calls: list[JoblibCall], instead: Callable[[JoblibCall], Any]) -> None:
        super().__init__(nesting_level=0)
        self._calls = calls
        self._instead = instead

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        return 2

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Future[Any]:
        settled: Future[Any] = Future()
        settled.add_done_callback(callback)
        [call] = calls_of(func)
        self._calls.append(call)
        try:
            result = self._instead(call)
            settled.set_result(func() if result is None else [result])
        except Exception as error:
            settled.set_exception(error)
        return settled

    def retrieve_result_callback(self, settled: Future[Any]) -> Any:
        return settled.result()


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    """`clock_of(module, ...)`: these modules tell the time and sleep by this clock."""

    def replaced(*modules: ModuleType) -> Clock:
        clock = Clock()
        for module in modules:
            monkeypatch.setattr(module, "time", clock)
        return clock

    return replaced


@pytest.fixture
def recorded() -> Callable[..., Any]:
    """`with recorded() as calls:` keeps the calls of joblib-parallel work in the block."""

    @contextmanager
    def record(instead: Callable[[JoblibCall], Any] = lambda _: None) -> Iterator[list[JoblibCall]]:
        calls: list[JoblibCall] = []
        with joblib.parallel_config(backend=RecordingBackend(calls, instead), n_jobs=2):
            yield calls

    return record
