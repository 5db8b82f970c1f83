"""Run a Dask cluster on Kubernetes: one run's objects, owned by an anchor that outlives the run only briefly.

The anchor, or owner Job, is a Job without pods that owns everything of a run through ownerReferences. It is created
first, then all that it owns, with heartbeats from the first moment on. If any step fails, `close` removes the anchor;
if `close` is never called, Kubernetes removes it at its deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skjob.config.environment_variables import NO_VARIABLES, Variables
from skjob.config.plan import Plan
from skjob.deploy.base import Problem
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.api.errors import Conflict, Raced, Rejected
from skjob.deploy.kubernetes.compatibility import this_skjob
from skjob.deploy.kubernetes.costs.cluster_costs import ClusterCosts
from skjob.deploy.kubernetes.costs.meter import BillingKey
from skjob.deploy.kubernetes.costs.prices import Cost, money
from skjob.deploy.kubernetes.diagnosis.api_rejections import explain_rejections
from skjob.deploy.kubernetes.diagnosis.capacity import best_node
from skjob.deploy.kubernetes.diagnosis.evidence import CauseKind
from skjob.deploy.kubernetes.diagnosis.nodes import common_architecture, known_nodes
from skjob.deploy.kubernetes.diagnosis.pods import Pods
from skjob.deploy.kubernetes.diagnosis.removal import removal_reason
from skjob.deploy.kubernetes.environment_cache import PodEnvironment
from skjob.deploy.kubernetes.heartbeat import Heartbeat
from skjob.deploy.kubernetes.inventory import cleanup, name_conflicts
from skjob.deploy.kubernetes.kubecluster import DaskCluster
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.labels import (
    IDLE_ANNOTATION,
    USE_ANNOTATION,
    WORKERS_ANNOTATION,
    RunNames,
    kept_annotation,
)
from skjob.deploy.kubernetes.manifests.pods import anchor_job, owned_by
from skjob.deploy.kubernetes.scheduler_start import SchedulerStart
from skjob.deploy.kubernetes.worker_group import WorkerGroup
from skjob.environment.image_cache import forget_image
from skjob.environment.pod.requirements import PodRequirements
from skjob.environment.skjob_source import skjob_archive
from skjob.environment.spec import EnvironmentSpec
from skjob.errors import ConfigError, ForbiddenError, StartError
from skjob.utils.notify import Notify
from skjob.utils.tls import make_certificates


class KubernetesCluster:
    """Implement `skjob.deploy.base.Cluster` on Kubernetes."""

    def __init__(
        self,
        api: Api,
        names: RunNames,
        plan: Plan,
        private: Path,
        notify: Notify,
        *,
        environment_spec: EnvironmentSpec | None = None,
        keep: bool = False,
        variables: Variables = NO_VARIABLES,
    ) -> None:
        self.name = names.cluster
        self.address = ""
        self._certificates = make_certificates(self.name)
        self.tls = self._certificates.write(private)
        self._api = api
        self._names = names
        self._namespace = api.context.namespace
        self._plan = plan
        self._notify = notify
        self._environment_spec = environment_spec
        self._environment = PodEnvironment(api, notify)
        self._keep = keep
        self.variables = variables.in_pods()
        self.workers = plan.workers
        self._idle_timeout = plan.keep_time
        self._check: Callable[[], None] = lambda: None
        self._heartbeat: Heartbeat | None = None
        self._group = WorkerGroup(api, self.name, plan.workers.first, notify)
        self._costs = ClusterCosts(api, names, plan, self.requested, notify)
        self._dask: DaskCluster | None = None
        self._pods = Pods(api, self.name, plan.rules)
        self._reported: dict[tuple[CauseKind, str], Problem] = {}
        self._begun = False
        self._closing = threading.Event()

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Create everything and wait until the scheduler answers."""
        self._check = check
        self._pods.look_at_nodes()
        self._plan = _on_one_architecture(self._plan, self._pods, self._notify)
        if unfit := _why_nothing_fits(self._pods.nodes, self._plan):
            self._notify(f"{unfit}; waiting for an autoscaler until `--start-timeout`")
        requirements = None
        if self._environment_spec is not None:  # before the cluster costs anything
            with explain_rejections(self._api):
                requirements = self._environment.ensure(
                    self._environment_spec, self._plan, self._pods.nodes, self._check_start
                )
        grace, max_lifetime = self._plan.grace, self._plan.rules.limits.time
        anchor = self._create_anchor(min(grace, max_lifetime or grace))
        heartbeat = self._heartbeat = Heartbeat(
            self._api, self.name, self._namespace, grace, self._notify,
            max_lifetime=max_lifetime, affordable=self._costs.affordable_seconds if self._plan.max_cost else None,
            on_beat=self._environment.keep_alive,
        )  # fmt: skip
        heartbeat.start()
        key = BillingKey(self._names.run_id, self._names.user, self._names.program)
        self._costs.start(key, self._plan.size, lambda: heartbeat.allowed(grace))
        if self._plan.max_cost:
            heartbeat.extend(grace)  # what is affordable is known only now
        cluster = manifest.dask_cluster(
            self._names, self._namespace, self._plan, requirements, self._environment.name, self.variables
        )
        with explain_rejections(self._api):
            self._create_what_pods_need(anchor, requirements)
            name_conflicts.create(self._api, owned_by(anchor, cluster), strict=True)
        self._connect(cluster)

    def _create_anchor(self, lifetime: float) -> Manifest:
        """Create the run's first object: if it is forbidden, the run is. If the API does not answer, it may exist."""
        self._begun = True
        try:
            with explain_rejections(self._api):
                anchor = anchor_job(
                    self._names, self._namespace, lifetime, self._environment.name, this_skjob().annotations()
                )
                return self._api.create(anchor)
        except (ConfigError, StartError, ForbiddenError, Raced):
            self._begun = False
            raise
        except Conflict as error:
            self._begun = False
            raise ConfigError(
                f"`{self.name}` already exists: you or somebody else started it at the same moment",
                f"`skjob run --cluster {self.name}` uses it once it is ready; `skjob down {self.name}` removes it",
            ) from error

    def _create_what_pods_need(self, anchor: Manifest, requirements: PodRequirements | None) -> None:
        """Create what pods mount and what protects them, concurrently, before there are any pods."""
        secrets = {name: value.encode() for name, value in self.variables.secret.items()}
        tls = manifest.secret(self._names, self._namespace, self._certificates.files() | secrets)
        files = manifest.files(self._names, self._namespace, skjob_archive(), requirements)
        policy = manifest.network_policy(self._names, self._namespace)
        with ThreadPoolExecutor(3, thread_name_prefix="skjob-create") as pool:
            mounts = [pool.submit(name_conflicts.create, self._api, owned_by(anchor, each)) for each in (tls, files)]
            protection = pool.submit(name_conflicts.create, self._api, owned_by(anchor, policy))
        for creation in mounts:
            creation.result()
        try:
            protection.result()
        except (ForbiddenError, Rejected):  # optional: not every user may create one
            self._notify(
                f"not allowed to create NetworkPolicies in namespace `{self._namespace}`: other pods can connect to"
                " this run's pods, and only TLS keeps them out"
            )

    def _connect(self, cluster: Manifest) -> None:
        """Wait until the scheduler of a DaskCluster answers."""
        scheduler = SchedulerStart(
            self._api, self.name, self._pods, self._plan.start_timeout,
            self.pending_problems, self._check_start, self._notify,
        )  # fmt: skip
        self._dask = DaskCluster(
            cluster, self._api.context, self.tls.security(), scheduler.wait, scheduler.check_running
        )
        self._dask.begin()
        self.address = self._dask.scheduler_address

    def _check_start(self) -> None:
        """Raise StartError if the start was stopped or costs too much. Call the caller's check as well."""
        if self._closing.is_set():
            raise StartError("the run was stopped while the scheduler was starting")
        self._check()
        self._costs.check()

    @property
    def environment(self) -> dict[str, object]:
        """How the workers' environment was provided, for the record; empty if nothing had to be done."""
        return self._environment.details

    def add_workers(self, total: int) -> None:
        """Request workers until there are `total`."""
        self._group.add(total)

    def remove_workers(self, names: list[str]) -> None:
        """Remove these workers and no others."""
        self._group.remove(names)

    def cancel_pending(self, maximum: int, connected: list[str]) -> None:
        """Cancel up to `maximum` workers whose pod is not running."""
        self._group.cancel_pending(maximum, connected)

    def requested(self) -> int:
        """Return how many workers were requested."""
        return self._group.requested

    def running(self) -> int:
        """Return how many workers have a running pod."""
        return self._pods.running_workers()

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return the workers among these whose node does not answer."""
        return self._pods.workers_on_lost_nodes(names)

    def pending_problems(self) -> list[Problem]:
        """Return why pods are not running, in the user's words. Raise StartError if they never will."""
        causes = self._pods.causes()
        problems = [
            self._reported.setdefault((cause.kind, cause.topic), Problem(cause.message, cause.hint)) for cause in causes
        ]
        fatal = next((cause for cause in causes if cause.fatal), None)
        if fatal is not None:
            if fatal.kind is CauseKind.ENVIRONMENT:
                forget_image(self._plan.image)  # it has changed, or is not what we remember
            raise StartError(fatal.message, fatal.hint, fatal.log)
        return problems

    def verify_lock(self, client: Any) -> None:
        """Do nothing: no other run may claim this run's own cluster."""

    def lost_reason(self) -> Problem | None:
        """Return why the cluster is gone for good, if it was removed or its namespace is being deleted."""
        ending = self._heartbeat.ending if self._heartbeat is not None else ""
        return removal_reason(self._api, self.name, ending, self._orphan_timeout)

    @property
    def _orphan_timeout(self) -> float:
        """Seconds that the cluster lives without a heartbeat."""
        return self._plan.grace

    def cost(self) -> Cost | None:
        """Return what the cluster has cost this run so far, and its hourly rate with all requested workers."""
        return self._costs.cost()

    def dashboard_port(self) -> int | None:
        """Return a port of this machine that is forwarded to the scheduler's pages."""
        return self._dask.dashboard_port() if self._dask is not None and self.address else None

    def logs(self) -> dict[str, str]:
        """Return the last log lines of each pod of the cluster; of the previous container if it was restarted."""
        return self._pods.logs()

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything, or, with `--keep`, leave the cluster running until its idle timeout.

        Return as soon as Kubernetes can finish the rest alone: the pods are gone a second or two later.
        """
        self._closing.set()
        if not self._begun:
            return
        self._begun = False
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            if self._keep and self._dask is not None and self.address:
                self.detach()
            else:
                wait = not (hurried() or cleanup.removed_by_owner(self._api, self.name, self._namespace))
                cleanup.remove(
                    self._api, self.name, self._namespace, run_id=self._names.run_id, hurried=hurried, wait=wait
                )
        finally:
            self._costs.finalize()
            if self._dask is not None:
                self._dask.end()

    def detach(self) -> None:
        """Leave the cluster running until its idle timeout, without heartbeats; `close` then only disconnects."""
        assert self._heartbeat is not None  # noqa: S101 - it starts with the anchor
        self._group.shrink(self.workers.first)  # workers that wait for the next run cost money
        lifetime = self._heartbeat.allowed(self._idle_timeout)
        affordable = self._costs.affordable_seconds()
        why = _why_it_ends(self._plan, lifetime, affordable) if lifetime < self._idle_timeout else ""
        until = self._extend(self._heartbeat)
        self._costs.finalize((until - datetime.now(UTC)).total_seconds())
        self._notify(f"`{self.name}` is kept until {until:%Y-%m-%d %H:%M} UTC{why}")
        for line in _how_to_use(self.name, self._api.context):
            self._notify(line)
        self._begun = False
        if self._dask is not None:
            self._dask.end()

    def _extend(self, heartbeat: Heartbeat) -> datetime:
        """Extend the cluster's life by its idle timeout, for when this process is gone, and return when it ends."""
        until = datetime.now(UTC) + timedelta(seconds=heartbeat.allowed(self._idle_timeout))
        annotations = kept_annotation(until) | {
            IDLE_ANNOTATION: str(round(self._idle_timeout)),
            WORKERS_ANNOTATION: str(self.workers),
            USE_ANNOTATION: None,
        }
        heartbeat.stop()
        heartbeat.join()  # a late beat must neither shorten its life nor mark it as in use
        self._api.patch("Job", self.name, self._namespace, {"metadata": {"annotations": annotations}})
        heartbeat.extend(self._idle_timeout)
        self._environment.keep(self._idle_timeout)
        return until


def _on_one_architecture(plan: Plan, pods: Pods, notify: Notify) -> Plan:
    """Return the plan with all pods on nodes of one architecture, if nodes differ and the rules do not choose one."""
    nodes = pods.all_nodes or ()
    architecture = common_architecture(nodes, plan.rules)
    if not architecture or plan.rules.architecture:
        return plan
    rules = plan.rules.on_architecture(architecture)
    if rules.node_pool is not None and rules.support_pool is None:
        raise ConfigError(
            f"workers in node pool `{rules.node_pool.name}` need `{architecture}`, but no node pool of that"
            " architecture takes a scheduler",
            "ask the platform team for a pool with `schedulers: true` on that architecture",
        )
    pods.on_architecture(architecture)
    if known_nodes(nodes, plan.rules):
        words = f"nodes have different architectures: pods run on `{architecture}`"
    elif rules.node_pool is not None:
        words = f"no node of node pool `{rules.node_pool.name}` is up: assuming `{architecture}`"
    else:
        words = f"no node that `node-selector` chooses is up: assuming `{architecture}`"
    notify(f"{words}; `--arch` chooses another")
    return replace(plan, rules=rules)


def _why_nothing_fits(nodes: Sequence[Manifest] | None, plan: Plan) -> str:
    """Return now what Kubernetes' scheduler would report later; empty if a worker fits, or the nodes are unknown.

    An autoscaler may still add a larger node.
    """
    if nodes is None:
        return ""
    fit = best_node(nodes, plan.size.cpu, plan.size.memory, gpus=plan.size.gpus)
    return "" if fit.fits else fit.message


def _why_it_ends(plan: Plan, lifetime: float, affordable: float) -> str:
    """Return what ends a cluster after `lifetime` seconds, before its idle timeout."""
    max_lifetime, max_cost = plan.rules.limits.time, plan.max_cost
    if max_cost is not None and (max_lifetime is None or affordable < lifetime + 1):
        return f", when `max-cost`, {money(max_cost, plan.rules.prices.currency)}, is spent"
    return f", when `limits.max-time`, {max_lifetime:.0f} s, is reached"


def _how_to_use(cluster: str, context: Context) -> tuple[str, ...]:
    """Return the commands for using and removing a kept cluster, one per line."""
    where, arguments = f"--namespace {context.namespace}", f'namespace="{context.namespace}"'
    if not context.in_cluster:  # a pod's own context has no name
        where, arguments = f"--context {context.name} {where}", f'context="{context.name}", {arguments}'
    return (
        f"use it: `skjob run --cluster {cluster} {where} PROGRAM`",
        f'or in Python: `with skjob.cluster(name="{cluster}", {arguments}): …`',
        f"remove it: `skjob down {cluster} {where}`",
    )
