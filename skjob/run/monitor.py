"""While the program runs: its process, what it tells, the cluster that carries it, and what ends it before its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skjob.config.plan import Plan
from skjob.deploy.base import Cluster, WorkerCounts
from skjob.errors import ClusterLost, SkjobError
from skjob.run.budget import RunBudget
from skjob.run.program.messages import MessageReader
from skjob.run.program.process import ProgramProcess
from skjob.run.record import Recorder
from skjob.utils.reconnect import abandon

if TYPE_CHECKING:
    from skjob.deploy.scaling.loop import Progress

POLL = 0.1
UNSEEN = 5.0
"""Seconds without a word from the scheduler after which a program that fails has failed for that."""


class ClusterMonitor:
    """What the scaling loop has seen: `lost` is set, and `told`, when the cluster can't carry the run any more."""

    def __init__(self, cluster_name: str, told: Callable[[str], None] = lambda _: None) -> None:
        self._name = cluster_name
        self._told = told
        self.lost: SkjobError | None = None
        self.unseen_for: Callable[[], float] = lambda: 0.0

    def lose(self, error: Exception) -> ClusterLost:
        """Called as the loop ends; what it ends the run with."""
        lost = error if isinstance(error, ClusterLost) else self.gone(error)
        self.lost = lost
        self._told(lost.message)
        return lost

    def gone(self, error: Exception | None = None) -> ClusterLost:
        """The error for a scheduler that does not answer."""
        hint = "run it again; `skjob doctor` looks for causes in the cluster"
        if isinstance(error, SkjobError):
            return ClusterLost(f"the scheduler of `{self._name}` is gone: {error.message}", error.hint or hint)
        cause = f": {type(error).__name__}: {error}" if error else ""
        return ClusterLost(f"the scheduler of `{self._name}` is gone{cause}", hint)


@contextmanager
def monitored(
    cluster: Cluster,
    client: Any,
    plan: Plan,
    usual_start: float,
    observe: Callable[[WorkerCounts], None],
    progress: Callable[[Progress], None],
    complain: Callable[[str], None],
    watch: ClusterMonitor,
    memory: Callable[[dict[str, int]], None] = lambda _: None,
    done_here: Callable[[], int] = lambda: 0,
) -> Iterator[ClusterMonitor]:
    """Within the block, the scaling loop looks after the cluster. When it loses it, `client` is closed: no call waits
    for a cluster that will not come back. `done_here` tells how many tasks the program has done itself."""
    from skjob.deploy.scaling.loop import (
        ScalingLoop,  # imports distributed, which can wait until the pods are on their way
    )

    loop = ScalingLoop(
        cluster,
        client,
        plan.workers,
        plan.size.threads,
        reconnect_timeout=plan.reconnect_timeout,
        observe=observe,
        progress=progress,
        notify=complain,
        lost=lambda error: abandon(client, watch.lose(error).message),
        usual_start=usual_start,
        memory=memory,
        done_here=done_here,
    )
    watch.unseen_for = loop.unseen_for
    loop.start()
    try:
        yield watch
    finally:
        loop.stop()


class MessagePump:
    """What the program tells, on its way into the record."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._reader = MessageReader(folder)
        self._recorder = recorder
        self.last: list[str] = []
        """What is to be told at the end of the run."""

    def read(self) -> None:
        """Record what has come since the last time."""
        for letter in self._reader.news():
            if letter.kind == "note":
                self._recorder.note(letter.content)
            elif letter.kind == "last":
                self.last.append(letter.content)
            elif letter.kind == "tasks":
                self._recorder.done_here = letter.content
            elif letter.kind == "fits":
                self._recorder.record.fits = letter.content
            elif letter.kind == "failure":
                self._recorder.record.outcome.cause = letter.content


def supervise(
    program: ProgramProcess,
    watch: ClusterMonitor,
    limit: RunBudget,
    read_mail: Callable[[], None],
    check: Callable[[], None],
) -> int:
    """Wait until the program has ended; its exit status. `read_mail` and `check` are called meanwhile.

    Raises:
        DeadlineError: `--max-time` is over, or `--max-cost` nearly spent.
        ClusterLost: the scheduler is gone, or the cluster can't be seen any more.
    """
    while True:
        code = program.wait(POLL)
        read_mail()
        if code is not None:
            # A program that ends because its cluster is gone may notice that sooner than we do.
            if code != 0 and (watch.lost is not None or watch.unseen_for() > UNSEEN):
                raise watch.lost or watch.gone()
            return code
        if watch.lost is not None:
            raise watch.lost
        limit.check()
        check()
