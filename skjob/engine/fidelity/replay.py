"""Record what a Parallel call has consumed and its results so far, so that it can continue elsewhere.

The tasks come from an iterable that can be read once. A call that workers must refuse continues in the program's own
process: with the tasks whose results do not count yet, and then with the rest of the iterable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from skjob.engine.fidelity.effects.guard import remove_created
from skjob.engine.joblib_calls import JoblibCall

if TYPE_CHECKING:
    from skjob.engine.reporting.call_events import CallEvents

_END = object()

Wrap = Callable[[Iterator[JoblibCall], Iterator[int]], Iterator[JoblibCall]]


class CallRefused(Exception):
    """Raised in a call that workers cannot run as plain Python does. Its message is the reason."""


class Replay:
    """The tasks of a call, and the results that count.

    Thread-safe: joblib reads tasks and reports results from its callback threads too.

    Parameters
    ----------
    iterable : iterable of tasks
        What the program passed to Parallel.
    in_order : bool
        Whether a result counts only if those of all tasks before it do: if plain Python runs the tasks in the program's
        process, each may see what those before it changed. What a task printed is shown when its result counts.
    of_program : bool, default=False
        Whether the program itself makes the call, and no library for it.
    events : CallEvents, default=None
        What reports the events of the call.
    shows_as_yielded : bool, default=False
        Whether what a task printed is shown only when the program gets its result, as plain Python runs it then.
    """

    def __init__(
        self,
        iterable: Iterable[JoblibCall],
        *,
        in_order: bool,
        of_program: bool = False,
        events: CallEvents | None = None,
        shows_as_yielded: bool = False,
    ) -> None:
        self.of_program = of_program
        self.events = events
        self.shows_as_yielded = shows_as_yielded and in_order
        self._source = iter(iterable)
        self.length = len(iterable) if isinstance(iterable, Sized) else None
        self._in_order = in_order
        self._reading = threading.Lock()
        self._lock = threading.RLock()
        self._read = 0
        self._tasks: dict[int, JoblibCall] = {}
        self._values: dict[int, Any] = {}
        self._shown: dict[int, Callable[[], None]] = {}
        self._counted = 0
        self._yielded = 0
        self._ended = False
        self._error: Exception | None = None
        self._first: Any = _END
        self._created: dict[int, tuple[str, ...]] = {}
        self.unseen: dict[str, None] = {}
        """Descriptions of what tasks may have changed without being seen, in the order in which they were noted."""

    def peek(self) -> JoblibCall | None:
        """Return the first task without consuming it; None if there is none. Raises what the iterable raises."""
        self._first = next(self._source, _END)
        return None if self._first is _END else self._first

    def tasks(self) -> _Tasks:
        """Return the tasks for joblib to read."""
        return _Tasks(self._recorded(), self.length)

    def _recorded(self) -> Iterator[JoblibCall]:
        while True:
            with self._reading:
                task: Any = _END if self._ended else self._next()
                if task is _END:
                    return
                with self._lock:
                    self._tasks[self._read] = task
                    self._read += 1
            yield task

    def _next(self) -> Any:
        if self._first is not _END:
            task, self._first = self._first, _END
            return task
        try:
            return next(self._source, _END)
        except Exception as error:
            if not self._in_order:
                raise
            # Plain Python has run all tasks before this one when it asks for it.
            self._error, self._source = error, iter(())
            return _END

    def raise_error(self) -> None:
        """Raise what the iterable raised instead of a task: all tasks before it are done."""
        if self._error is not None:
            raise self._error

    def finished(
        self,
        start: int,
        values: list[Any],
        show: Callable[[], None],
        report: Callable[[], None] = lambda: None,
        created: tuple[str, ...] = (),
    ) -> None:
        """Note the results of the tasks from `start` on; `show` shows what they printed.

        `report` reports them at once, even if results of earlier tasks are still to come. `created` are the files that
        these tasks created.
        """
        with self._lock:
            if self._ended:
                return
            report()
            self._values.update(enumerate(values, start))
            if not self._in_order:
                for index in range(start, start + len(values)):
                    self._tasks.pop(index, None)
            self._shown[start] = show
            if created:
                self._created[start] = created
            for each in self._count(start):
                each()

    def _count(self, start: int) -> list[Callable[[], None]]:
        """Return what to show now: the output of the tasks whose results count from now on."""
        if not self._in_order:
            return [self._shown.pop(start)]
        shows = []
        while self._counted in self._values:
            if self._counted in self._shown:
                if not self.shows_as_yielded:
                    shows.append(self._shown.pop(self._counted))
                self._created.pop(self._counted, None)
            self._tasks.pop(self._counted, None)
            if self._counted < self._yielded:
                del self._values[self._counted]
            self._counted += 1
        return shows

    def note_yielded(self) -> None:
        """Note that the program gets the next result, which need not be stored any longer."""
        with self._lock:
            if self.shows_as_yielded and (show := self._shown.pop(self._yielded, None)) is not None:
                show()
            if self._yielded < self._counted or not self._in_order:
                self._values.pop(self._yielded, None)
            self._yielded += 1

    def end(self) -> None:
        """Stop: nothing is read, counted or shown any more."""
        with self._lock:
            self._ended = True

    def remove_uncounted_files(self) -> None:
        """Stop, and remove what tasks have created on this machine whose results do not count."""
        self.end()
        while self._created:
            remove_created(self._created.popitem()[1])

    def take_back(self) -> None:
        """Stop, and report that results do not count that had to wait for those before them."""
        self.remove_uncounted_files()
        if self._in_order and self.events is not None:
            self.events.drop_results(self._counted)

    def remaining(self, wrap: Wrap | None = None) -> _Tasks:
        """Return the tasks that remain to be run elsewhere, in order.

        `wrap` gets them with their places in the call, and yields what is to be run.
        """
        self.end()
        with self._reading, self._lock:  # another thread may be reading a task
            places = sorted(self._tasks)
            unfinished = [self._tasks[index] for index in places]
            self._tasks.clear()
        left = self.length - self._read + len(unfinished) if self.length is not None else None
        tasks = self._chained(unfinished)
        return _Tasks(tasks if wrap is None else wrap(tasks, chain(places, count(self._read))), left)

    def _chained(self, unfinished: list[JoblibCall]) -> Iterator[JoblibCall]:
        unfinished.reverse()
        while unfinished:
            yield unfinished.pop()
        while (task := self._next()) is not _END:
            yield task
        self.raise_error()

    def merged(self, results: Iterator[Any]) -> Iterator[Any]:
        """Yield the results that the program does not have yet, in the order of the tasks: those that count, and in
        between `results`, which are those of the remaining tasks."""
        index = self._yielded
        known = {
            place: value
            for place, value in self._values.items()
            if place >= index and (place < self._counted or not self._in_order)
        }
        self._values.clear()
        while True:
            if index in known:
                value = known.pop(index)
                if (show := self._shown.pop(index, None)) is not None and self.shows_as_yielded:
                    show()
            else:
                value = next(results, _END)
                if value is _END:
                    return
            index += 1
            yield value


class _Tasks:
    """Tasks that can be read once, with their number if the program's iterable has one."""

    def __new__(cls, tasks: Iterator[JoblibCall], length: int | None) -> _Tasks:
        return super().__new__(_CountedTasks if length is not None else cls)

    def __init__(self, tasks: Iterator[JoblibCall], length: int | None) -> None:
        self._tasks = tasks
        self._length = length

    def __iter__(self) -> Iterator[JoblibCall]:
        return self._tasks


class _CountedTasks(_Tasks):
    """Tasks with a number, which joblib shows in its progress."""

    def __len__(self) -> int:
        assert self._length is not None  # noqa: S101 - else it is not of this class
        return self._length
