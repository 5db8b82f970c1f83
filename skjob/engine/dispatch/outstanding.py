"""The tasks of one Parallel call that have no outcome yet.

Sending, settling and cancelling happen in different threads. Whoever takes a task out of here settles it, so that each
is settled exactly once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count

from skjob.engine.dispatch.batch import BatchTask


class OutstandingTasks:
    """Tasks that are being sent or run, by number, and quarantined ones that wait for their turn. Thread-safe."""

    def __init__(self) -> None:
        self.closed = False
        """Whether the call is over: nothing is added or sent any more."""
        self._lock = threading.Lock()
        self._tasks: dict[int, BatchTask] = {}
        self._quarantined: deque[BatchTask] = deque()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, number: int) -> bool:
        return number in self._tasks

    def get(self, number: int) -> BatchTask | None:
        """Return a task that has no outcome yet; None if it has been taken."""
        return self._tasks.get(number)

    def add(self, task: BatchTask) -> int | None:
        """Return the number of a new task; None if the call is over."""
        with self._lock:
            if self.closed:
                return None
            number = next(self._numbers)
            self._tasks[number] = task
            return number

    def take(self, number: int) -> BatchTask | None:
        """Remove a task and return it, for the caller to settle; None if another caller has taken it."""
        with self._lock:
            return self._tasks.pop(number, None)

    @contextmanager
    def sending(self, number: int) -> Iterator[bool]:
        """Yield whether a task is still to be sent.

        `close` waits for the end of the block: it finds the task either sent, or never to be sent.
        """
        with self._lock:
            yield number in self._tasks

    def quarantine(self, tasks: Iterable[BatchTask]) -> None:
        """Keep these tasks until no other is out."""
        with self._lock:
            self._quarantined += tasks

    def start_quarantined(self) -> tuple[int, BatchTask] | None:
        """Return the next quarantined task and its new number; None if there is none, or another task is out."""
        with self._lock:
            if self.closed or self._tasks or not self._quarantined:
                return None
            number = next(self._numbers)
            task = self._tasks[number] = self._quarantined.popleft()
            return number, task

    def give_up(self) -> tuple[list[int], list[BatchTask]]:
        """Return the numbers of the tasks that are out, and the quarantined tasks, which are removed."""
        with self._lock:
            quarantined = list(self._quarantined)
            self._quarantined.clear()
            return list(self._tasks), quarantined

    def close(self) -> list[BatchTask]:
        """End the call: remove and return all tasks. None is added or sent afterwards."""
        with self._lock:
            self.closed = True
            tasks = [*self._tasks.values(), *self._quarantined]
            self._tasks.clear()
            self._quarantined.clear()
            return tasks
