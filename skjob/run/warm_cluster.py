"""A warm cluster: started ahead of the programs that use it, `skjob up`, one after the other, with `--cluster NAME`.

It is a run's cluster without a run: the same objects under the same anchor, left as `--keep` leaves them. It lives for
its idle timeout after its last use; `skjob down` ends it sooner. A start that fails or is stopped removes what it made.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from skjob.config import sources
from skjob.config.plan import JobSpec
from skjob.config.settings import Place
from skjob.config.sources import Layer
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory import name_conflicts, runs
from skjob.deploy.kubernetes.manifests.labels import RunNames, new_run_id
from skjob.errors import ConfigError
from skjob.run.connect import connect, first_worker
from skjob.run.runner import once
from skjob.run.signals import Signals, Stopped
from skjob.run.target import check_name, environment_for, private_folder, resolve_target


def up(name: str, layers: Sequence[Layer], folder: Path, note: Callable[[str], None]) -> int:
    """Start a cluster of this name and leave it, once a worker is there; the exit status.

    `folder` is where programs will be run: what they import there is part of what workers need.

    Raises:
        SkjobError: it could not be started; nothing of it is left.
    """
    problems = sources.Problems()
    with problems:
        check_name(name)
    with problems:
        if sources.resolve(layers).on is Place.LOCAL:
            raise ConfigError(
                "`skjob up` needs Kubernetes: on this machine nothing outlives skjob",
                f"leave out {sources.called(layers, 'on')}",
            )
    problems.raise_any()
    try:
        with Signals() as signals, ExitStack() as stack:
            _start_and_leave(name, layers, folder, note, stack, signals)
    except Stopped as stopped:
        note("stopped; nothing is left of it")
        return 128 + stopped.number
    return 0


def _start_and_leave(
    name: str,
    layers: Sequence[Layer],
    folder: Path,
    note: Callable[[str], None],
    stack: ExitStack,
    signals: Signals,
) -> None:
    from skjob.deploy.kubernetes.cluster import KubernetesCluster

    began = time.monotonic()
    note = once(note)
    ground = resolve_target([sources.flags({"on": Place.KUBERNETES}), *layers], note)
    assert ground.api is not None  # noqa: S101 - there is no such ground without one
    plan = ground.plan()
    for line in plan.limited.values():
        note(line)
    _check_absent(ground.api, name)
    wanted = environment_for(plan, JobSpec(folder / name))
    names = RunNames(new_run_id(), "skjob up", getpass.getuser(), existing=name, team=ground.rules.team)
    private = stack.enter_context(private_folder())
    cluster = KubernetesCluster(ground.api, names, plan, private, note, wanted=wanted)
    stack.callback(lambda: cluster.close(hurried=lambda: signals.hurried))
    stack.callback(signals.note_only)  # the first to be called: nothing cuts the removal short
    cluster.start()
    with connect(cluster) as client:
        first_worker(cluster, client, plan.start_timeout, note)
    note(f"`{name}` is ready after {time.monotonic() - began:.1f} s, with {plan.workers} workers")
    signals.note_only()  # what is left half-way would be neither there nor gone
    cluster.detach()


def _check_absent(api: Api, name: str) -> None:
    """Raises ConfigError where something has this name, with whose it is."""
    namespace = api.context.namespace
    for run in runs.runs(api, namespace):
        if run.name == name:
            raise ConfigError(
                f"`{name}` already exists: {run.user}'s, {run.state}, with {run.workers} workers",
                f"`skjob run --cluster {name}` uses it; `skjob down {name}` ends it",
            )
    name_conflicts.check_available(api, name)
