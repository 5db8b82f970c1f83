"""Where a run takes place, on Kubernetes or on this machine, and the cluster that its plan calls for there."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.plan import NO_RULES, JobSpec, Plan, make_plan
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.config.sources import Layer, ResolvedSettings
from skjob.deploy.base import Cluster
from skjob.deploy.kubernetes.manifests.labels import RunNames, check_cluster_name
from skjob.deploy.machine import ThisMachine
from skjob.errors import AccessError, ConfigError, OperatorError, Unauthorized, hide
from skjob.run.program.leading_imports import leading_imports
from skjob.run.program.variables import ProgramVariables
from skjob.run.run import Run
from skjob.utils.notify import Notify
from skjob.utils.text import listed

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.api.client import Api
    from skjob.deploy.kubernetes.reused_cluster import ReusedCluster
    from skjob.environment.spec import EnvironmentSpec


FIXED_AT_START = ("image", "arch", "worker_cpu", "worker_memory", "worker_gpu", "node_pool", "grace", "keep_time")
"""Settings that a cluster keeps from its start: a run on it cannot change them."""


@dataclass(frozen=True)
class RunTarget:
    """Where a run takes place: the place and the reason for it, the settings and the platform team's rules.

    `api` is that of a run on Kubernetes.
    """

    place: Place
    reason: str
    resolved: ResolvedSettings
    rules: NamespacePolicy = NO_RULES
    api: Api | None = None

    @property
    def settings(self) -> Settings:
        """The settings of all layers."""
        return self.resolved.settings

    @property
    def given(self) -> Layer:
        """What the command itself says."""
        return self.resolved.given

    @property
    def workers(self) -> WorkerRange | None:
        """How many workers the command itself asks for; None if it leaves that open."""
        return self.settings.workers if "workers" in self.given.values else None

    def plan(self, settings: Settings | None = None) -> Plan:
        """Return what the settings amount to here. Raises ConfigError."""
        return make_plan(settings or self.settings, self.place, self.reason, ThisMachine(), python_minor(), self.rules)


@dataclass(frozen=True)
class ChosenCluster:
    """The cluster of a run, not started yet, and the run with its plan for that cluster.

    `reused` is the same cluster if it stood before the run.
    """

    run: Run
    cluster: Cluster
    reused: ReusedCluster | None = None

    @property
    def variables(self) -> ProgramVariables:
        """What the program has to know of the variables that are set for it."""
        return ProgramVariables.of(self.run.variables, self.reused.variables if self.reused is not None else None)


def resolve_target(requested: ResolvedSettings, notify: Notify) -> RunTarget:
    """Choose where to run: as requested, else on Kubernetes if a context has the Dask operator, else on this machine.

    A user whose credentials are missing or refused has a cluster, and gets an error, not a slower run on this machine.

    `notify` gets a line if the API is throttling requests, now or later.

    Raises:
        AccessError, ForbiddenError, OperatorError: Kubernetes was requested explicitly and cannot be used.
    """
    settings = requested.settings
    if settings.on is Place.LOCAL:
        return RunTarget(Place.LOCAL, f"{requested.called('on')} is `local`", requested)
    from skjob.deploy.kubernetes.api.client import connect_api
    from skjob.deploy.kubernetes.namespace_config import read_defaults
    from skjob.deploy.kubernetes.operator.state import has_operator, why_no_operator

    try:
        api = connect_api(settings.context, settings.namespace, notify=notify)
        found = has_operator(api)
    except AccessError as error:
        if settings.on is Place.KUBERNETES or settings.context is not None or isinstance(error, Unauthorized):
            raise
        return RunTarget(Place.LOCAL, f"{error.message}{_useless(requested.given)}", requested)
    context = api.context
    if not found:
        missing = why_no_operator(api)
        if settings.on is Place.KUBERNETES:
            raise OperatorError(missing, f"`skjob install --context {context.name}` installs it")
        return RunTarget(Place.LOCAL, f"{missing}{_useless(requested.given)}", requested)
    resolved, rules = read_defaults(api, requested)
    for line in rules.notices:
        notify(line)
    reason = f"context `{context.name}`, namespace `{context.namespace}`"
    return RunTarget(Place.KUBERNETES, reason, resolved, rules, api)


def _useless(given: Layer) -> str:
    """Return, for a message, the options of the command that have no effect without Kubernetes."""
    names = [given.called(name) for name in ("namespace", "image") if name in given.values]
    return f" (ignoring {listed(names)}, for Kubernetes only)" if names else ""


def python_minor() -> str:
    """Return this interpreter's version as images are tagged: `3.11`."""
    import sys

    return f"{sys.version_info.major}.{sys.version_info.minor}"


def environment_for(plan: Plan, job: JobSpec) -> EnvironmentSpec | None:
    """Return the environment that pods must have; None on this machine, whose workers have the one they start in."""
    if plan.place is Place.LOCAL:
        return None
    from skjob.environment.spec import resolve_environment

    return resolve_environment(plan.env, job)


def create_cluster(run: Run) -> ChosenCluster:
    """Create the cluster that a run's plan and options call for, without starting it: its own, or one by its name.

    The run's observer is notified of each thing that the platform team's limits have reduced, and of settings that a
    cluster which stands already ignores.

    Raises:
        SkjobError: there is no cluster of this name, or it cannot be used.
    """
    if (name := run.options.cluster) is None:
        chosen = ChosenCluster(run, _own_cluster(run))
    else:
        reused = _reused_cluster(name, run)
        hide(reused.variables.secret.values())
        if names := [f"`{each}`" for each in reused.variables.values if each not in run.variables.values]:
            run.observer.notify(f"cluster `{name}` sets {listed(names)} for every run on it")
        chosen = ChosenCluster(replace(run, plan=reused.planned(run.target.workers)), reused, reused)
        if ignored := _ignored(run):
            run.observer.notify(f"ignoring {listed(ignored)}: cluster `{name}` keeps what it was started with")
    for line in chosen.run.plan.limited.values():
        run.observer.notify(line)
    return chosen


def _ignored(run: Run) -> list[str]:
    """Return the options of the command that an existing cluster ignores."""
    given = run.target.given
    names = [given.called(each) for each in FIXED_AT_START if each in given.values]
    return [*names, "`--keep`"] if run.options.keep else names


def _own_cluster(run: Run) -> Cluster:
    job, plan = run.job, run.plan
    names = RunNames(run.run_id, job.stem, getpass.getuser(), team=run.target.rules.team)
    if plan.place is Place.LOCAL:
        from skjob.deploy.local import LocalCluster

        preload = leading_imports(job.path, job.module)
        return LocalCluster(
            names.cluster, run.private, plan.workers.first, plan.size, plan.retries, preload, run.variables.values
        )
    from skjob.deploy.kubernetes.cluster import KubernetesCluster

    assert run.target.api is not None  # noqa: S101 - a target on Kubernetes has one
    return KubernetesCluster(
        run.target.api,
        names,
        plan,
        run.private,
        run.observer.notify,
        environment_spec=run.environment,
        keep=run.options.keep,
        variables=run.variables,
    )


def check_name(name: str, hint: str = "") -> None:
    """Raise ConfigError if no cluster can have this name."""
    try:
        check_cluster_name(name)
    except ValueError as error:
        raise ConfigError(f"the name of a cluster {error}, not `{name}`", hint) from error


def _reused_cluster(name: str, run: Run) -> ReusedCluster:
    check_name(name, "`skjob ps` lists the names")
    target = run.target
    if target.settings.on is Place.LOCAL:
        raise ConfigError(f"`{name}` is on Kubernetes, and {target.reason}", "leave one of the two out")
    if target.api is None:
        raise AccessError(
            f"`{name}` cannot be reached: {target.reason}", "name its context, with `--context` or `context=`"
        )
    from skjob.deploy.kubernetes.costs.meter import BillingKey
    from skjob.deploy.kubernetes.reused_cluster import ReusedCluster

    account = BillingKey(run.run_id, getpass.getuser(), run.job.stem)
    return ReusedCluster(target.api, name, run.plan, target.rules, run.private, run.observer.notify, account)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for the run's certificates and sockets, readable by this user alone, and remove it at the end.

    A forked child of the program, in which the block may end too, removes nothing.
    """
    folder, owner = Path(tempfile.mkdtemp(prefix="skjob-")), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
