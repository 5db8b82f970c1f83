"""Where a run takes place, Kubernetes or this machine, and the cluster that its plan calls for there."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skjob.config import sources
from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import NO_RULES, JobSpec, Machine, Plan, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.config.sources import Layer
from skjob.deploy.base import Cluster
from skjob.deploy.kubernetes.manifests.labels import RunNames, check_cluster_name
from skjob.errors import AccessError, ConfigError, OperatorError, Unauthorized
from skjob.run.leading_imports import leading_imports

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.api.client import Api
    from skjob.deploy.kubernetes.reused_cluster import ReusedCluster
    from skjob.environment.spec import EnvironmentSpec


NOTHING_GIVEN = Layer({}, str)

A_CLUSTERS_OWN = ("image", "worker_cpu", "worker_memory", "grace", "keep_time")
"""Settings that a cluster was started with: a run on it has no others."""


@dataclass(frozen=True)
class RunTarget:
    """Where a run takes place: the place, why there, the settings, the platform team's rules, and the API where it is
    Kubernetes. `given` is what the command itself says."""

    place: Place
    reason: str
    settings: Settings
    rules: NamespacePolicy = NO_RULES
    api: Api | None = None
    given: Layer = NOTHING_GIVEN

    @property
    def workers(self) -> WorkerRange | None:
        """How many the command itself asks for; None where it leaves that open."""
        return self.settings.workers if "workers" in self.given.values else None

    def plan(self, settings: Settings | None = None) -> Plan:
        """What the settings come to here. Raises ConfigError."""
        return make_plan(settings or self.settings, self.place, self.reason, this_machine(), python_minor(), self.rules)


@dataclass(frozen=True)
class ChosenCluster:
    """The cluster of a run, not started yet, and the plan for it. `kept` is the same, where it is there already."""

    cluster: Cluster
    plan: Plan
    kept: ReusedCluster | None = None


def resolve_target(layers: Sequence[Layer], note: Callable[[str], None]) -> RunTarget:
    """Where to run: Kubernetes where a context is there and has the Dask operator, or as asked; else this machine.

    Whose credentials can't be had or are not accepted has a cluster, and is told, not given fewer cores and success.

    `note` gets a line where the API puts requests off for long, now and later.

    Raises:
        AccessError, ForbiddenError, OperatorError: Kubernetes was asked for, by name, and can't be had.
    """
    settings = sources.resolve(layers)
    if settings.on is Place.LOCAL:
        return RunTarget(Place.LOCAL, f"{sources.called(layers, 'on')} is `local`", settings)
    from skjob.deploy.kubernetes.api.client import connect as connect_api
    from skjob.deploy.kubernetes.namespace_config import read_defaults
    from skjob.deploy.kubernetes.operator.state import has_operator, why_no_operator

    try:
        api = connect_api(settings.context, settings.namespace, told=note)
        found = has_operator(api)
    except AccessError as error:
        if settings.on is Place.KUBERNETES or settings.context is not None or isinstance(error, Unauthorized):
            raise
        return RunTarget(Place.LOCAL, f"{error.message}{_useless(layers[0])}", settings)
    context = api.context
    if not found:
        missing = why_no_operator(api)
        if settings.on is Place.KUBERNETES:
            raise OperatorError(missing, f"`skjob install --context {context.name}` installs it")
        return RunTarget(Place.LOCAL, f"{missing}{_useless(layers[0])}", settings)
    settings, rules = read_defaults(api, layers)
    reason = f"context `{context.name}`, namespace `{context.namespace}`"
    return RunTarget(Place.KUBERNETES, reason, settings, rules, api, layers[0])


def _useless(given: Layer) -> str:
    """What the command itself says of Kubernetes, where there is none."""
    names = [given.called(name) for name in ("namespace", "image") if name in given.values]
    return f" (ignoring {_listed(names)}, for Kubernetes only)" if names else ""


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def this_machine() -> Machine:
    """Cores that this process may use, and bytes of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(cores, memory)


def python_minor() -> str:
    """This interpreter's version as images are tagged: `3.11`."""
    import sys

    return f"{sys.version_info.major}.{sys.version_info.minor}"


def environment_for(plan: Plan, job: JobSpec) -> EnvironmentSpec | None:
    """The environment that pods must have. This machine's workers have the one they are started in."""
    if plan.place is Place.LOCAL:
        return None
    from skjob.environment.spec import resolve_environment

    return resolve_environment(plan.env, job)


def create_cluster(
    job: JobSpec,
    run_id: str,
    plan: Plan,
    ground: RunTarget,
    private: Path,
    note: Callable[[str], None],
    wanted: EnvironmentSpec | None,
    *,
    keep: bool = False,
    name: str | None = None,
) -> ChosenCluster:
    """A cluster of the run's own, or the one called `name`, that `skjob up` or `--keep` has left.

    `note` gets a line for each thing that the platform team's limits have cut, and for what was asked in vain of a
    cluster that is there. With `keep`, one of its own is left.

    Raises:
        SkjobError: there is none of this name, or it can't be used.
    """
    if name is None:
        chosen = ChosenCluster(_own_cluster(job, run_id, plan, ground, private, note, wanted, keep=keep), plan)
    else:
        kept = _kept_cluster(name, job, run_id, plan, ground, private, note)
        chosen = ChosenCluster(kept, kept.planned(ground.workers), kept)
        if unheeded := _unheeded(ground.given, keep=keep):
            note(f"ignoring {_listed(unheeded)}: cluster `{name}` stays as it was started")
    for line in chosen.plan.limited.values():
        note(line)
    return chosen


def _unheeded(given: Layer, *, keep: bool) -> list[str]:
    """What the command itself says of a cluster that is there, in vain."""
    names = [given.called(each) for each in A_CLUSTERS_OWN if each in given.values]
    return [*names, "`--keep`"] if keep else names


def _own_cluster(
    job: JobSpec,
    run_id: str,
    plan: Plan,
    ground: RunTarget,
    private: Path,
    note: Callable[[str], None],
    wanted: EnvironmentSpec | None,
    *,
    keep: bool,
) -> Cluster:
    names = RunNames(run_id, job.stem, getpass.getuser(), team=ground.rules.team)
    if plan.place is Place.LOCAL:
        from skjob.deploy.local import LocalCluster

        preload = leading_imports(job.path, job.module)
        return LocalCluster(names.cluster, private, plan.workers.first, plan.size, plan.retries, preload)
    from skjob.deploy.kubernetes.cluster import KubernetesCluster

    assert ground.api is not None  # noqa: S101 - there is no such ground without one
    return KubernetesCluster(ground.api, names, plan, private, note, wanted=wanted, keep=keep)


def check_name(name: str, hint: str = "") -> None:
    """Raises ConfigError where no cluster can have this name."""
    try:
        check_cluster_name(name)
    except ValueError as error:
        raise ConfigError(f"the name of a cluster {error}, not `{name}`", hint) from error


def _kept_cluster(
    name: str, job: JobSpec, run_id: str, plan: Plan, ground: RunTarget, private: Path, note: Callable[[str], None]
) -> ReusedCluster:
    check_name(name, "`skjob ps` lists those there are")
    if ground.settings.on is Place.LOCAL:
        raise ConfigError(f"`{name}` is on Kubernetes, and {ground.reason}", "leave one of the two out")
    if ground.api is None:
        raise AccessError(
            f"`{name}` can't be reached: {ground.reason}", "name its context, with `--context` or `context=`"
        )
    from skjob.deploy.kubernetes.costs.meter import BillingKey
    from skjob.deploy.kubernetes.reused_cluster import ReusedCluster

    return ReusedCluster(ground.api, name, plan, private, note, BillingKey(run_id, getpass.getuser(), job.stem))


@contextmanager
def private_folder() -> Iterator[Path]:
    """For certificates and sockets of this run: readable by this user alone, removed at the end.

    A forked child of the program, in which the block may end too, removes nothing.
    """
    folder, owner = Path(tempfile.mkdtemp(prefix="skjob-")), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
