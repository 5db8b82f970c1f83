"""A cluster for the length of a `with` block: `skjob.cluster()`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.config.sources import ResolvedSettings
from skjob.deploy.kubernetes.manifests.labels import new_run_id
from skjob.engine.events import Report
from skjob.run.budget import RunBudget
from skjob.run.connect import forget_credentials, start_and_connect
from skjob.run.monitor import ClusterMonitor, monitored
from skjob.run.observer import NoteObserver
from skjob.run.run import Run, RunOptions
from skjob.run.target import create_cluster, environment_for, private_folder, resolve_target
from skjob.utils.notify import Notify


@contextmanager
def open_cluster(
    job: JobSpec, asked: ResolvedSettings, options: RunOptions, write: Notify, report: Report | None = None
) -> Iterator[Any]:
    """Start a cluster for the length of a `with` block, with joblib's backend on it, and yield its Dask client.

    `job` is the program that is running; `write` takes each line for its user, and `report` the events of
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

    observer = NoteObserver(write)
    notify = observer.notify
    variables = variables_of(asked)
    plain = JoblibDefaults.now()
    target = resolve_target(asked, notify)
    plan = target.plan()
    if options.cluster is None or plan.place is Place.KUBERNETES:
        notify(plan.why)
    environment = environment_for(plan, job)
    fits = FitCache(plan.checkpoint, notify=notify) if plan.checkpoint else None
    with ExitStack() as stack, closed_by_owner_only(stack):
        private = stack.enter_context(private_folder())
        run = Run(job, new_run_id(), target, plan, private, observer, environment, options, variables)
        chosen = create_cluster(run)
        stack.callback(SECRET_NAMES.difference_update, chosen.variables.secret)
        plan, cluster = chosen.run.plan, chosen.cluster
        stack.enter_context(applied({**chosen.variables.inherited, **variables.values}))
        stack.callback(cluster.close)
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
        prepare_client(client, job.root, packages, plan.width, notify, chosen.variables)
        stack.enter_context(monitored(connection, ClusterMonitor(cluster.name, notify)))
        if fits is not None:
            stack.callback(fits.close)
        last: list[str] = []
        stack.callback(_notify_all, last, notify)
        backend = SkjobBackend(client, plan.width, job.root, plan.start_timeout, fits, notify, last.append, report)
        stack.enter_context(joblib.parallel_config(backend=backend))
        stack.callback(separate_children(plain))
        yield client


def _notify_all(lines: list[str], notify: Notify) -> None:
    for line in lines:
        notify(line)
