"""What a call has consumed, and how it goes on in another place."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skjob.engine.fidelity.replay import Replay


def _tasks(count: int) -> list[Any]:
    return [(abs, (-index,), {}) for index in range(count)]


def _numbers(tasks: Any) -> list[int]:
    return [-arguments[0] for _, arguments, _ in tasks]


class _Source:
    """An iterable that can be read once, and counts what was read."""

    def __init__(self, count: int) -> None:
        self.read = 0
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        for task in _tasks(self.count):
            self.read += 1
            yield task


def test_the_first_task_is_looked_at_and_not_lost() -> None:
    source = _Source(3)
    replay = Replay(source, in_order=True)
    assert replay.peek() == (abs, (0,), {})
    assert source.read == 1
    assert _numbers(replay.tasks()) == [0, 1, 2]


def test_an_empty_iterable_has_no_first_task() -> None:
    replay = Replay([], in_order=True)
    assert replay.peek() is None
    assert list(replay.tasks()) == []


def test_the_number_of_tasks_is_known_if_the_program_knows_it() -> None:
    assert len(Replay(_tasks(4), in_order=True).tasks()) == 4  # type: ignore[arg-type]
    assert not hasattr(Replay(_Source(4), in_order=True).tasks(), "__len__")


def test_in_order_only_results_before_the_first_missing_one_count() -> None:
    """The second task is missing: the third, which is there, may have seen another state than in the program."""
    shown: list[int] = []
    replay = Replay(_Source(6), in_order=True)
    replay.peek()
    reader = iter(replay.tasks())
    for _ in range(4):
        next(reader)
    replay.finished(2, ["c"], lambda: shown.append(2))
    replay.finished(0, ["a"], lambda: shown.append(0))
    assert shown == [0]
    remaining = replay.remaining()
    assert _numbers(remaining) == [1, 2, 3, 4, 5]
    assert list(replay.merged(iter("BCDEF"))) == ["a", "B", "C", "D", "E", "F"]
    assert shown == [0]


def test_of_processes_each_result_counts_as_soon_as_it_is_there() -> None:
    shown: list[int] = []
    replay = Replay(_Source(5), in_order=False)
    replay.peek()
    reader = iter(replay.tasks())
    for _ in range(4):
        next(reader)
    replay.finished(2, ["c"], lambda: shown.append(2))
    assert shown == [2]
    replay.finished(0, ["a"], lambda: shown.append(0))
    assert _numbers(replay.remaining()) == [1, 3, 4]
    assert list(replay.merged(iter("BDE"))) == ["a", "B", "c", "D", "E"]


def test_what_was_printed_is_shown_in_the_order_of_the_tasks() -> None:
    shown: list[int] = []
    replay = Replay(_tasks(4), in_order=True)
    list(replay.tasks())
    for start in (3, 1, 0, 2):
        replay.finished(start, [start], lambda start=start: shown.append(start))  # type: ignore[misc]
    assert shown == [0, 1, 2, 3]


def test_what_the_program_has_got_is_not_given_again() -> None:
    replay = Replay(_tasks(4), in_order=True)
    list(replay.tasks())
    replay.finished(0, ["a", "b"], lambda: None)
    replay.note_yielded()
    assert _numbers(replay.remaining()) == [2, 3]
    assert list(replay.merged(iter("CD"))) == ["b", "C", "D"]


def test_after_the_end_nothing_counts_any_more() -> None:
    shown: list[int] = []
    replay = Replay(_tasks(2), in_order=True)
    list(replay.tasks())
    replay.end()
    replay.finished(0, ["a"], lambda: shown.append(0))
    assert shown == []
    assert list(replay.tasks()) == []


class _Events:
    def __init__(self) -> None:
        self.kept: list[int] = []

    def drop_results(self, kept: int) -> None:
        self.kept.append(kept)


@pytest.mark.parametrize(("in_order", "kept"), [(True, [1]), (False, [])])
def test_a_call_that_is_taken_back_reports_from_where_on_results_are_dropped(in_order: bool, kept: list[int]) -> None:
    """Results are reported as they come, and in order they may have to be dropped."""
    events: Any = _Events()
    reported: list[int] = []
    replay = Replay(_Source(4), in_order=in_order, events=events)
    replay.peek()
    reader = iter(replay.tasks())
    for _ in range(3):
        next(reader)
    for place in (2, 0):
        replay.finished(place, ["result"], lambda: None, partial(reported.append, place))
    replay.take_back()
    replay.finished(1, ["late"], lambda: None, partial(reported.append, 1))
    assert reported == [2, 0]
    assert events.kept == kept


@pytest.mark.parametrize(("in_order", "places"), [(True, [1, 2, 3, 4]), (False, [1, 3, 4])])
def test_remaining_tasks_have_their_places_in_the_call(in_order: bool, places: list[int]) -> None:
    replay = Replay(_Source(5), in_order=in_order)
    replay.peek()
    reader = iter(replay.tasks())
    for _ in range(4):
        next(reader)
    replay.finished(2, ["c"], lambda: None)
    replay.finished(0, ["a"], lambda: None)
    noted: list[int] = []

    def note(tasks: Iterator[Any], at: Iterator[int]) -> Iterator[Any]:
        for place, task in zip(at, tasks, strict=False):
            noted.append(place)
            yield task

    assert _numbers(replay.remaining(note)) == places
    assert noted == places


def test_what_a_task_printed_is_shown_as_the_program_gets_its_result() -> None:
    shown: list[int] = []
    replay = Replay(_Source(4), in_order=True, shows_as_yielded=True)
    replay.peek()
    tasks = iter(replay.tasks())
    for index in range(3):
        next(tasks)
        replay.finished(index, [index], partial(shown.append, index))
    assert shown == []
    replay.note_yielded()
    assert shown == [0]
    remaining = replay.remaining()
    assert _numbers(remaining) == [3]
    results = replay.merged(iter([3]))
    assert [(next(results), list(shown)) for _ in range(3)] == [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2])]


def test_files_of_results_that_do_not_count_are_removed(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "2"]
    replay = Replay(_Source(3), in_order=True)
    replay.peek()
    list(replay.tasks())
    for file in files:
        file.write_text("")
        replay.finished(int(file.name), [None], lambda: None, created=(str(file),))
    replay.take_back()
    assert [file.exists() for file in files] == [True, False]


def _broken() -> Iterator[Any]:
    yield from _tasks(2)
    raise ValueError("no more tasks")


def test_an_error_of_the_iterable_waits_for_the_tasks_before_it() -> None:
    replay = Replay(_broken(), in_order=True)
    replay.peek()
    assert _numbers(replay.tasks()) == [0, 1]
    with pytest.raises(ValueError, match="no more tasks"):
        replay.raise_error()


def test_an_error_of_the_iterable_comes_where_the_rest_is_run() -> None:
    replay = Replay(_broken(), in_order=True)
    replay.peek()
    next(iter(replay.tasks()))
    done: list[Any] = []
    with pytest.raises(ValueError, match="no more tasks"):
        done.extend(replay.remaining())
    assert _numbers(done) == [0, 1]
