"""A cluster that is open in this process, with joblib's backend on it: `skjob.cluster()` and `skjob.Cluster`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skjob.config.plan import JobSpec, Plan, with_workers
from skjob.config.settings import Place, WorkerRange
from skjob.config.sources import ResolvedSettings
from skjob.deploy.base import Cluster
from skjob.deploy.kubernetes.manifests.labels import new_run_id
from skjob.engine.events import Report
from skjob.run.budget import RunBudget
from skjob.run.connect import Connection, forget_credentials, start_and_connect
from skjob.run.monitor import ClusterMonitor, monitored
from skjob.run.observer import RunObserver
from skjob.run.run import Run, RunOptions
from skjob.run.target import create_cluster, environment_for, private_folder, resolve_target
from skjob.utils.notify import Notify

if TYPE_CHECKING:
    from skjob.boosters.worker_barrier import WorkerBarrier
    from skjob.deploy.scaling.loop import ScalingLoop
    from skjob.engine.backend import SkjobBackend
    from skjob.engine.checkpoint.fit_cache import FitCache
    from skjob.engine.checkpoint.fit_counts import FitCounts


@dataclass
class OpenCluster:
    """A cluster that this process's Parallel calls run on, connected and with a worker."""

    connection: Connection
    monitor: ClusterMonitor
    loop: ScalingLoop
    backend: SkjobBackend
    barrier: WorkerBarrier
    fits: FitCache | None
    plan: Plan
    hurried: bool = False
    """Whether its end does not wait for the removal of what Kubernetes removes by itself."""

    @property
    def client(self) -> Any:
        """Its Dask client."""
        return self.connection.client

    @property
    def cluster(self) -> Cluster:
        """The cluster itself."""
        return self.connection.cluster

    @property
    def fit_counts(self) -> FitCounts | None:
        """How many fits were reused and stored so far; None if none are stored."""
        return self.fits.counts if self.fits is not None else None

    def scale(self, workers: WorkerRange) -> None:
        """Keep the number of workers within this range from now on, or as much of it as the limits allow.

        Raises:
            ConfigError: the limits allow no worker of this size.
        """
        plan = with_workers(replace(self.plan, limited={}), workers)
        for line in plan.limited.values():
            self.connection.run.observer.notify(line)
        self.plan = plan
        self.loop.scale(plan.workers)
        self.backend.width = plan.width
        self.barrier.expect(plan.width)


@contextmanager
def open_cluster(
    job: JobSpec, requested: ResolvedSettings, options: RunOptions, observer: RunObserver, report: Report | None = None
) -> Iterator[OpenCluster]:
    """Start a cluster for the length of a `with` block, with joblib's backend on it.

    `job` is the program that is running; `observer` hears what its user should know, and `report` the events of
    Parallel calls and their fits. A cluster that `options` name is used, and stays.

    Raises:
        SkjobError: there is no cluster to use.
    """
    import joblib

    from skjob.engine.backend import SkjobBackend
    from skjob.engine.checkpoint.fit_cache import FitCache
    from skjob.engine.fidelity.forks import JoblibDefaults, closed_by_owner_only, separate_children
    from skjob.engine.fidelity.settings.variables import SECRET_NAMES
    from skjob.run.program.prepare import prepare_client
    from skjob.run.program.variables import applied, variables_of

    notify = observer.notify
    variables = variables_of(requested)
    plain = JoblibDefaults.now()
    target = resolve_target(requested, notify)
    plan = target.plan()
    if options.cluster is None or plan.place is Place.KUBERNETES:
        notify(plan.why)
    environment = environment_for(plan, job)
    fits = FitCache(plan.checkpoint, notify=notify) if plan.checkpoint else None
    opened: OpenCluster | None = None
    with ExitStack() as stack, closed_by_owner_only(stack):
        private = stack.enter_context(private_folder())
        run = Run(job, new_run_id(), target, plan, private, observer, environment, options, variables)
        chosen = create_cluster(run)
        stack.callback(SECRET_NAMES.difference_update, chosen.variables.secret)
        plan, cluster = chosen.run.plan, chosen.cluster
        stack.enter_context(_last_in_first_out(applied({**chosen.variables.inherited, **variables.values})))
        stack.callback(lambda: cluster.close(hurried=lambda: opened is not None and opened.hurried))
        began = time.monotonic()
        connection = stack.enter_context(start_and_connect(chosen, default=True))
        client = connection.client
        if chosen.reused is not None:
            stack.callback(forget_credentials, client)
        if remaining := RunBudget(began, plan, cluster.cost).describe_remaining(cluster.requested()):
            # A program in the same process cannot be ended: its cluster is, by its deadline.
            then = "then the cluster ends" if chosen.reused is None else "the cluster keeps running after that"
            notify(f"{remaining}; {then}")
        packages = environment.packages if environment else None
        barrier = prepare_client(client, job.root, packages, plan.width, notify, chosen.variables)
        monitor = ClusterMonitor(cluster.name, notify)
        loop = stack.enter_context(monitored(connection, monitor))
        if fits is not None:
            stack.callback(fits.close)
        last: list[str] = []
        stack.callback(_notify_all, last, notify)
        backend = SkjobBackend(client, plan.width, job.root, plan.start_timeout, fits, notify, last.append, report)
        in_this_process = ExitStack()
        in_this_process.enter_context(joblib.parallel_config(backend=backend))
        in_this_process.callback(separate_children(plain))
        stack.enter_context(_last_in_first_out(in_this_process))
        opened = OpenCluster(connection, monitor, loop, backend, barrier, fits, plan)
        yield opened


_entered: list[_Entered] = []
"""What clusters that are open, or were when a later one opened, have changed in this process."""


@dataclass
class _Entered:
    context: ExitStack
    left: bool = False


@contextmanager
def _last_in_first_out(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a context that changes this process: it ends when those entered after it have ended too.

    Each restores what it has found. Of two clusters in a notebook the first to open may be the first to close.
    """
    entered = _Entered(ExitStack())
    entered.context.enter_context(context)
    _entered.append(entered)
    try:
        yield
    finally:
        entered.left = True
        while _entered and _entered[-1].left:
            _entered.pop().context.close()


def _notify_all(lines: list[str], notify: Notify) -> None:
    for line in lines:
        notify(line)
