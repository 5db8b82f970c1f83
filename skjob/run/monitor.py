"""While the program runs: its process, its messages, the cluster that carries it, and what ends it before its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skjob.errors import ClusterLost, SkjobError, without_credentials
from skjob.run.budget import RunBudget
from skjob.run.connect import Connection
from skjob.run.events.file import EventsReader
from skjob.run.program.messages import MessageReader
from skjob.run.program.process import ProgramProcess
from skjob.run.record import Recorder
from skjob.utils.notify import Notify
from skjob.utils.periodic import PeriodicThread
from skjob.utils.reconnect import abandon

if TYPE_CHECKING:
    from skjob.deploy.scaling.loop import ScalingLoop

_POLL_INTERVAL = 0.1
_COST_REPORT_INTERVAL = 2.0
UNSEEN_TIMEOUT = 5.0
"""Seconds without an answer of the scheduler after which a program that fails has failed for that."""


class ClusterMonitor:
    """What the scaling loop finds out about a cluster: `lost` is the error once it cannot carry the run any more.

    `notify` gets that error's message.
    """

    def __init__(self, cluster_name: str, notify: Notify = lambda _: None) -> None:
        self._name = cluster_name
        self._notify = notify
        self.lost: SkjobError | None = None
        self.unseen_for: Callable[[], float] = lambda: 0.0

    def lose(self, error: Exception) -> ClusterLost:
        """Take note of the error that ended the loop, and return the one that ends the run."""
        lost = error if isinstance(error, ClusterLost) else self.as_lost(error)
        self.lost = lost
        self._notify(lost.message)
        return lost

    def as_lost(self, error: Exception | None = None) -> ClusterLost:
        """Return the error for a scheduler that does not answer."""
        hint = "run it again; `skjob doctor` looks for causes in the cluster"
        if isinstance(error, SkjobError):
            return ClusterLost(f"the scheduler of `{self._name}` is gone: {error.message}", error.hint or hint)
        cause = f": {type(error).__name__}: {error}" if error else ""
        return ClusterLost(f"the scheduler of `{self._name}` is gone{cause}", hint)


@contextmanager
def monitored(
    connection: Connection, monitor: ClusterMonitor, done_here: Callable[[], int] = lambda: 0
) -> Iterator[ScalingLoop]:
    """Within the block, the scaling loop, which it yields, looks after the cluster, and the run's observer hears of it.

    When the cluster is lost, the client is closed: no call waits for a cluster that will not come back. `done_here`
    returns how many tasks the program has done itself.
    """
    # It imports distributed, which can wait until the pods are on their way.
    from skjob.deploy.scaling.loop import ScalingLoop

    client, plan, observer = connection.client, connection.run.plan, connection.run.observer
    loop = ScalingLoop(
        connection.cluster,
        client,
        plan.workers,
        plan.size.threads,
        reconnect_timeout=plan.reconnect_timeout,
        observe=observer.workers,
        progress=observer.progress,
        notify=observer.notify,
        lost=lambda error: abandon(client, monitor.lose(error).message),
        usual_start=connection.seconds,
        memory=observer.memory,
        done_here=done_here,
    )
    monitor.unseen_for = loop.unseen_for
    costs = PeriodicThread("skjob-cost-reports", lambda: _report_cost(connection))
    loop.start()
    costs.start(_COST_REPORT_INTERVAL)
    try:
        yield loop
    finally:
        costs.stop()
        loop.stop()


def _report_cost(connection: Connection) -> None:
    if (cost := connection.cluster.cost()) is not None:
        connection.run.observer.cost(cost, connection.run.plan.max_cost)


class MessagePump:
    """Moves the program's messages and events into the record."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._reader = MessageReader(folder)
        self._events = EventsReader(recorder.path.parent)
        self._recorder = recorder
        self.last: list[str] = []
        """Lines to show at the end of the run."""

    def read(self) -> None:
        """Record what has come since the last time."""
        for message in self._reader.read_new():
            if message.kind == "note":
                self._recorder.notify(message.content)
            elif message.kind == "last":
                self.last.append(message.content)
            elif message.kind == "tasks":
                self._recorder.done_here = message.content
            elif message.kind == "fits":
                self._recorder.record.fits = message.content
            elif message.kind == "mlflow":
                self._recorder.mlflow_run(message.content)
            elif message.kind == "failure":
                self._recorder.record.outcome.cause = without_credentials(message.content)
        for event in self._events.read_new():
            self._recorder.event(event)


def supervise(
    program: ProgramProcess,
    monitor: ClusterMonitor,
    budget: RunBudget,
    read_messages: Callable[[], None],
    check: Callable[[], None],
) -> int:
    """Wait until the program has ended and return its exit status; `read_messages` and `check` are called meanwhile.

    Raises:
        DeadlineError: `--max-time` is over, or `--max-cost` nearly spent.
        ClusterLost: the scheduler is gone, or the cluster cannot be seen any more.
    """
    while True:
        code = program.wait(_POLL_INTERVAL)
        read_messages()
        if code is not None:
            # A program that ends because its cluster is gone can notice that sooner than this process.
            if code != 0 and (monitor.lost is not None or monitor.unseen_for() > UNSEEN_TIMEOUT):
                raise monitor.lost or monitor.as_lost()
            return code
        if monitor.lost is not None:
            raise monitor.lost
        budget.check()
        check()
