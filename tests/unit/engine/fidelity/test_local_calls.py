"""Where the tasks of a call run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed

from skjob.engine.fidelity import local_calls
from skjob.engine.fidelity.placement import CallSite
from skjob.engine.fidelity.replay import Replay


class _Overruns:
    """Runs the first task of a call, and takes too long for it."""

    def run(self, tasks: Iterable[Any], events: object) -> tuple[list[Any], bool]:
        function, arguments, keywords = next(iter(tasks))
        return [function(*arguments, **keywords)], False


class _Router:
    def __init__(self, patched: str | None) -> None:
        self._patched = patched
        self.measured: list[object] = []

    def small_call(self, *_: object) -> tuple[None, _Overruns]:
        return None, _Overruns()

    def why_patched(self, *_: object) -> str | None:
        return self._patched

    def count_local(self, number: int) -> None:
        pass

    def note_measured(self, *call: object) -> None:
        self.measured.append(call)

    def note_unseen(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("patched", [None, "Ridge.fit"])
def test_the_rest_of_a_small_call_runs_here_if_libraries_are_patched(
    monkeypatch: pytest.MonkeyPatch, patched: str | None
) -> None:
    sent: list[Any] = []
    parallel = Parallel(n_jobs=2)
    monkeypatch.setattr(parallel._backend, "measured_call", None, raising=False)
    router: Any = _Router(patched)

    def call_here(_: object, __: object, replay: Replay, ___: object) -> list[Any]:
        return [function(*arguments) for function, arguments, _ in replay.remaining()]

    def call_on_workers(_: object, tasks: Iterable[Any]) -> list[Any]:
        sent.extend(tasks)
        return [function(*arguments) for function, arguments, _ in sent]

    monkeypatch.setattr(local_calls, "_call_locally", call_here)
    tasks = [delayed(abs)(-number) for number in range(3)]
    replay = Replay(tasks, in_order=False)
    first = replay.peek()
    assert first is not None
    results = local_calls._call(call_on_workers, parallel, replay, router, first, CallSite("", 0))
    assert results == [0, 1, 2]
    assert len(sent) == (0 if patched else 2)


def test_files_of_tasks_that_do_not_count_are_removed_if_the_program_stops_reading(tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    parallel = Parallel(n_jobs=2)

    def call_on_workers(_: object, tasks: Iterable[Any]) -> Iterator[int]:
        list(tasks)
        ahead.write_text("")
        replay.finished(1, [1], lambda: None, created=(str(ahead),))
        yield 0

    replay = Replay([delayed(abs)(number) for number in range(2)], in_order=True)
    router: Any = _Router(None)
    results = local_calls._generate(call_on_workers, parallel, replay, router, (abs, (0,), {}), CallSite("", 0))
    assert [next(results), next(results)] == [None, 0]
    assert ahead.exists()
    results.close()
    assert not ahead.exists()
