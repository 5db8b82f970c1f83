"""A cluster for the length of a `with` block: `skjob.cluster()`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.config.sources import Layer
from skjob.deploy.kubernetes.manifests.labels import new_run_id
from skjob.run.budget import RunBudget
from skjob.run.connect import forget_credentials, start_and_connect
from skjob.run.monitor import ClusterMonitor, monitored
from skjob.run.runner import once, tell_all
from skjob.run.target import create_cluster, environment_for, private_folder, resolve_target


@contextmanager
def open_cluster(job: JobSpec, layers: Sequence[Layer], name: str | None, note: Callable[[str], None]) -> Iterator[Any]:
    """A cluster for the length of a `with` block, with joblib's backend on it: the Python API behind `skjob.cluster`.

    `job` is the program that is running, `name` a cluster that `skjob up` or `--keep` has left; it is used and stays.
    Yields the Dask client.
    """
    import joblib

    from skjob.engine.backend import SkjobBackend
    from skjob.engine.checkpoint.fit_cache import FitCache
    from skjob.engine.fidelity.forks import JoblibDefaults, closed_by_owner_only, separate_children
    from skjob.run.program.prepare import prepare_client

    note = once(note)
    plain = JoblibDefaults.now()
    ground = resolve_target(layers, note)
    plan = ground.plan()
    if name is None or plan.place is Place.KUBERNETES:
        note(plan.why)
    wanted = environment_for(plan, job)
    fits = FitCache(plan.checkpoint, notify=note) if plan.checkpoint else None
    with ExitStack() as stack, closed_by_owner_only(stack):
        private = stack.enter_context(private_folder())
        chosen = create_cluster(job, new_run_id(), plan, ground, private, note, wanted, name=name)
        cluster, plan = chosen.cluster, chosen.plan
        stack.callback(cluster.close)
        began = time.monotonic()
        connection = stack.enter_context(start_and_connect(chosen, job, wanted, note, default=True))
        client = connection.client
        if name is not None:
            stack.callback(forget_credentials, client)
        if told := RunBudget(began, plan, cluster.spent).money_lasts(cluster.asked()):
            # A program in the same process can't be ended: its cluster is, by its deadline.
            note(f"{told}; then the cluster ends" if name is None else f"{told}; the cluster keeps running after that")
        prepare_client(client, job.root, wanted.packages if wanted else None, plan.width, note)
        watch = ClusterMonitor(cluster.name, told=note)
        stack.enter_context(
            monitored(cluster, client, plan, connection.seconds, lambda _: None, lambda _: None, note, watch)
        )
        if fits is not None:
            stack.callback(fits.close)
        last: list[str] = []
        stack.callback(tell_all, last, note)
        backend = SkjobBackend(client, plan.width, job.root, plan.start_timeout, fits, note, last.append)
        stack.enter_context(joblib.parallel_config(backend=backend))
        stack.callback(separate_children(plain))
        yield client
