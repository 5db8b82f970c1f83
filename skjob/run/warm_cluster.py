"""A warm cluster: `skjob up` starts it ahead of the programs that use it, one after the other, with `--cluster NAME`.

It is a run's cluster without a program: the same objects under the same anchor, left as `--keep` leaves them. It lives
for its idle timeout after its last use; `skjob down` ends it sooner. A start that fails or is stopped removes what it
made.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from skjob.config import sources
from skjob.config.environment_variables import CREDENTIAL_FILES, Variables
from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.config.sources import Layer, ResolvedSettings
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory import name_conflicts, runs
from skjob.deploy.kubernetes.manifests.labels import RunNames, new_run_id
from skjob.errors import ConfigError
from skjob.run.connect import connect_client, first_worker
from skjob.run.observer import NoteObserver
from skjob.run.program.variables import variables_of
from skjob.run.run import Run
from skjob.run.signals import Signals, Stopped
from skjob.run.target import check_name, environment_for, private_folder, resolve_target
from skjob.utils.notify import Notify


def start_warm_cluster(name: str, layers: Sequence[Layer], folder: Path, write: Notify) -> int:
    """Start a cluster of this name, leave it once it has a worker, and return the exit status.

    `folder` is where programs will run: what they import there is part of what workers need. `write` takes each line
    for the user.

    Raises:
        SkjobError: it could not be started; nothing of it is left.
    """
    problems = sources.Problems()
    with problems:
        check_name(name)
    with problems:
        requested = sources.resolve(layers)
        with problems:
            _check_travels(variables_of(requested))
        if requested.settings.on is Place.LOCAL:
            raise ConfigError(
                "`skjob up` needs Kubernetes: on this machine nothing outlives skjob",
                f"leave out {requested.called('on')}",
            )
    problems.raise_any()
    try:
        with Signals() as signals, ExitStack() as stack:
            _start_and_leave(name, requested, folder, NoteObserver(write), stack, signals)
    except Stopped as stopped:
        write("stopped; nothing is left of it")
        return 128 + stopped.number
    return 0


def _start_and_leave(
    name: str,
    requested: ResolvedSettings,
    folder: Path,
    observer: NoteObserver,
    stack: ExitStack,
    signals: Signals,
) -> None:
    from skjob.deploy.kubernetes.cluster import KubernetesCluster

    began = time.monotonic()
    notify = observer.notify
    on_kubernetes = replace(requested, settings=replace(requested.settings, on=Place.KUBERNETES))
    target = resolve_target(on_kubernetes, notify)
    assert target.api is not None  # noqa: S101 - a target on Kubernetes has one
    plan = target.plan()
    for line in plan.limited.values():
        notify(line)
    _check_absent(target.api, name)
    job = JobSpec(folder / name)
    private = stack.enter_context(private_folder())
    environment = environment_for(plan, job)
    run = Run(job, new_run_id(), target, plan, private, observer, environment, variables=variables_of(requested))
    names = RunNames(run.run_id, "skjob up", getpass.getuser(), existing=name, team=target.rules.team)
    cluster = KubernetesCluster(
        target.api, names, plan, private, notify, environment_spec=environment, variables=run.variables
    )
    stack.callback(lambda: cluster.close(hurried=lambda: signals.hurried))
    stack.callback(signals.note_only)  # the first to be called: nothing cuts the removal short
    cluster.start()
    with connect_client(cluster) as client:
        first_worker(run, cluster, client)
    notify(f"`{name}` is ready after {time.monotonic() - began:.1f} s, with {plan.workers} workers")
    signals.note_only()  # what is left half-way would be neither there nor gone
    cluster.detach()


def _check_travels(variables: Variables) -> None:
    """Raise ConfigError if a variable names a file with credentials, which only a run sends to workers."""
    if files := [f"`{name}`" for name in CREDENTIAL_FILES if name in variables.values]:
        raise ConfigError(
            f"`skjob up` cannot set {', '.join(files)}: the file travels with each run, and leaves with it",
            "leave it out here, and set it where you run programs",
        )


def _check_absent(api: Api, name: str) -> None:
    """Raise ConfigError if something has this name, and say whose it is."""
    namespace = api.context.namespace
    for run in runs.runs(api, namespace):
        if run.name == name:
            raise ConfigError(
                f"`{name}` already exists: {run.user}'s, {run.state}, with {run.workers} workers",
                f"`skjob run --cluster {name}` uses it; `skjob down {name}` ends it",
            )
    name_conflicts.check_available(api, name)
