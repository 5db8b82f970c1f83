"""A cluster on Kubernetes: what is made for a run, under an anchor that outlives it by a little and no more.

The order of things: the anchor, then all that it owns, with heartbeats from the first moment on. If any step fails,
`close` removes the anchor; if `close` never comes, the anchor's deadline does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skjob.config.plan import CLOSING_SECONDS, Plan
from skjob.deploy.base import Problem
from skjob.deploy.kubernetes import environment_cache
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Raced, Rejected
from skjob.deploy.kubernetes.compatibility import this_skjob
from skjob.deploy.kubernetes.costs.meter import BillingKey, CostMeter
from skjob.deploy.kubernetes.costs.prices import Cost, money
from skjob.deploy.kubernetes.diagnosis.api_rejections import explain_rejections, is_terminating
from skjob.deploy.kubernetes.diagnosis.capacity import best_node
from skjob.deploy.kubernetes.diagnosis.evidence import CauseKind
from skjob.deploy.kubernetes.diagnosis.pods import Pods
from skjob.deploy.kubernetes.heartbeat import Heartbeat
from skjob.deploy.kubernetes.inventory import cleanup, name_conflicts
from skjob.deploy.kubernetes.kubecluster import DaskCluster
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.labels import (
    IDLE_ANNOTATION,
    USE_ANNOTATION,
    WORKERS_ANNOTATION,
    RunNames,
    kept_annotation,
)
from skjob.deploy.kubernetes.manifests.pods import Manifest, anchor_job, owned_by
from skjob.deploy.kubernetes.manifests.run import SCHEDULER_CPU
from skjob.deploy.kubernetes.operator.state import OperatorState, Presence, operator_state
from skjob.environment.image_cache import forget_image
from skjob.environment.pod.requirements import PodRequirements
from skjob.environment.skjob_source import skjob_archive
from skjob.environment.spec import EnvironmentSpec
from skjob.errors import ConfigError, ForbiddenError, OperatorError, SkjobError, StartError, Unanswered
from skjob.utils.tls import make_certificates
from skjob.utils.units import parse_quantity

REMOVAL_SECONDS = 10.0
"""How long after its deadline the last pod of a cluster may still be there: it is usually two or three."""

DEAD_OPERATOR_TIMEOUT = 20.0
"""Seconds that an operator which does not run has to make the scheduler's Deployment after all."""

OPERATOR_TIMEOUT = 40.0
"""The same for one that runs, or that can't be looked at. It may have much to do, or little to do it with."""

_OPERATOR_HINT = "`skjob doctor` says more; run `skjob install` to upgrade it"


class KubernetesCluster:
    """Implements `skjob.deploy.base.Cluster` on Kubernetes."""

    def __init__(
        self,
        api: Api,
        names: RunNames,
        plan: Plan,
        private: Path,
        note: Callable[[str], None],
        *,
        wanted: EnvironmentSpec | None = None,
        keep: bool = False,
    ) -> None:
        self.name = names.cluster
        self.address = ""
        self._certificates = make_certificates(self.name)
        self.tls = self._certificates.write(private)
        self._api = api
        self._names = names
        self._namespace = api.context.namespace
        self._plan = plan
        self._note = note
        self._wanted = wanted
        self.environment: dict[str, object] = {}
        self._environment_name = ""
        self._keep = keep
        self.workers = plan.workers
        self._idle_timeout = plan.keep_time
        self._workers_selector = f"dask.org/workergroup-name={self.name}-default"
        self._asked = plan.workers.first
        self._lowering = False
        self._check: Callable[[], None] = lambda: None
        self._heartbeat: Heartbeat | None = None
        self._costs: CostMeter | None = None
        self._settled: Cost | None = None
        self._dask: DaskCluster | None = None
        self._pods = Pods(api, self.name, plan.rules)
        self._told: dict[tuple[CauseKind, str], Problem] = {}
        self._operator = OperatorState(custom_resources=True, deployment=Presence.UNKNOWN)
        self._begun = False
        self._closing = threading.Event()

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Create everything and wait until the scheduler answers."""
        self._check = check
        self._warn_if_nothing_fits()
        kept = self._make_environment()
        needs = kept.needs if kept else None
        grace, most_time = self._plan.grace, self._plan.rules.limits.time
        anchor = self._create_anchor(min(grace, most_time or grace))
        self._heartbeat = Heartbeat(
            self._api, self.name, self._namespace, grace, self._note,
            most_time=most_time, affordable=self._affordable if self._plan.max_cost else None,
            beside=self._keep_environment,
        )  # fmt: skip
        self._heartbeat.start()
        self._watch_costs(BillingKey(self._names.run_id, self._names.user, self._names.program), self._heartbeat, grace)
        if self._plan.max_cost:
            self._heartbeat.prolong(grace)  # for what it may cost, which is known only now
        cluster = manifest.dask_cluster(self._names, self._namespace, self._plan, needs, kept.name if kept else "")
        with explain_rejections(self._api):
            self._create_what_pods_need(anchor, needs)
            name_conflicts.create(self._api, owned_by(anchor, cluster), strict=True)
        self._connect(cluster)

    def _create_what_pods_need(self, anchor: Manifest, needs: PodRequirements | None) -> None:
        """Before there are any, and all at the same time: what they mount, and who may connect to them."""
        tls = manifest.secret(self._names, self._namespace, self._certificates.files())
        files = manifest.files(self._names, self._namespace, skjob_archive(), needs)
        policy = manifest.network_policy(self._names, self._namespace)
        with ThreadPoolExecutor(3, thread_name_prefix="skjob-create") as pool:
            mounted = [pool.submit(name_conflicts.create, self._api, owned_by(anchor, each)) for each in (tls, files)]
            walled = pool.submit(name_conflicts.create, self._api, owned_by(anchor, policy))
        for creation in mounted:
            creation.result()
        try:
            walled.result()
        except (ForbiddenError, Rejected):  # a second wall, which not everybody may build
            self._note(
                f"you may not create NetworkPolicies in namespace `{self._namespace}`: other pods can connect to the"
                " run's, and are refused by its TLS alone"
            )

    def _make_environment(self) -> environment_cache.CachedEnvironment | None:
        """Before the cluster is paid for: what its pods will need is in the image, or kept in the namespace."""
        if self._wanted is None:
            return None
        image, timeout = self._plan.image, self._plan.start_timeout
        platform = environment_cache.platform_of(self._pods.nodes)
        with explain_rejections(self._api):
            kept = environment_cache.ensure_environment(
                self._api, self._wanted, image, platform, timeout, self._note, self._plan.rules,
                check=self._check_wanted,
            )  # fmt: skip
        self._environment_name = kept.name
        self.environment = dict(kept.made)
        return kept

    def _keep_environment(self) -> None:
        """Workers that come later need it too. Where it is gone, they say so."""
        if self._environment_name:
            with suppress(SkjobError):
                environment_cache.keep(self._api, self._environment_name)

    def _connect(self, cluster: Manifest) -> None:
        """Wait until the scheduler of a DaskCluster answers."""
        self._dask = DaskCluster(
            cluster, self._api.context, self.tls.security(), self._wait_for_scheduler, self._check_scheduler
        )
        self._dask.begin()
        self.address = self._dask.scheduler_address

    def add_workers(self, total: int) -> None:
        """Ask for workers until there are `total`."""
        wanted = max(self._asked, total)
        try:
            if self._lowering:  # else the operator, which acts on a change of it, might see none
                self._lower()
            self._set_replicas(wanted)
        except Rejected as error:  # by limits that are lower than they were: the run goes on with those that it has
            self._note(f"there will be no more than {self._asked} workers: {error.message}")
        else:
            self._asked = wanted  # of a request that was not answered, the next try must still know

    def remove_workers(self, names: list[str]) -> None:
        """Delete these workers' Deployments, then lower the number: the operator finds nothing left to choose."""
        self._lowering = True
        for name in names:
            # A worker that somebody else has let join may be called like a Deployment that is not ours.
            if name.startswith(f"{self.name}-default-worker-"):
                self._api.delete("Deployment", name, self._namespace)
                self._asked -= 1
        self._lower()

    def _lower(self) -> None:
        self._set_replicas(self._asked)
        self._lowering = False

    def withdraw(self, most: int, connected: list[str]) -> None:
        """Delete up to so many Deployments whose pod does not run, then lower the number."""
        waiting = [
            deployment["metadata"]["name"]
            for deployment in self._api.list("Deployment", self._namespace, selector=self._workers_selector)
            if not deployment.get("status", {}).get("readyReplicas")
        ]
        names = [name for name in waiting if name not in connected][:most]
        if names:
            self.remove_workers(names)

    def unreachable(self, names: list[str]) -> list[str]:
        """Those whose node does not answer."""
        return self._pods.unreachable(names)

    def asked(self) -> int:
        """How many workers were asked for."""
        return self._asked

    def running(self) -> int:
        """How many workers' pods run."""
        return self._pods.running_workers()

    def problems(self) -> list[Problem]:
        """Why pods do not run, in the user's words. Raises StartError where they never will."""
        causes = self._pods.causes()
        told = [
            self._told.setdefault((cause.kind, cause.topic), Problem(cause.message, cause.hint)) for cause in causes
        ]
        fatal = next((cause for cause in causes if cause.fatal), None)
        if fatal is not None:
            if fatal.kind is CauseKind.ENVIRONMENT:
                forget_image(self._plan.image)  # it is not what it was, or not what we think
            raise StartError(fatal.message, fatal.hint, fatal.log)
        return told

    @property
    def _alone(self) -> float:
        """For how many seconds it lives without a heartbeat."""
        return self._plan.grace

    def reclaim(self, client: Any) -> None:
        """It is this run's, and goes with it: whoever else may use it."""

    def gone(self) -> Problem | None:
        """Whether somebody has removed it, or its namespace is being deleted: then it will not come back."""
        try:
            anchor = self._api.get("Job", self.name, self._namespace)
        except NotFound:
            anchor = None
        except SkjobError:
            return None  # who can't look can't know
        # Of a namespace that is being deleted, pods go first, and the anchor stays until they have gone.
        if self._namespace_is_going():
            return Problem(
                f"the namespace `{self._namespace}` is being deleted",
                "run it again in another, with `--namespace`; the fits it has finished are kept",
            )
        if anchor is not None and "deletionTimestamp" not in anchor["metadata"]:
            return None
        if self._heartbeat is not None and self._heartbeat.ending:
            return Problem(
                f"`{self.name}` has ended: {self._heartbeat.ending}",
                "give it more; the fits it has finished are kept",
            )
        return Problem(
            f"`{self.name}` was removed from the cluster, by somebody or after {self._alone:.0f} s without a heartbeat",
            "run it again; the fits it has finished are kept",
        )

    def _namespace_is_going(self) -> bool:
        """Asked by trying to make something in it, which its users may, who may not look at it."""
        nothing = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"generateName": "skjob-", "namespace": self._namespace},
        }
        try:
            self._api.create(nothing, dry_run=True)
        except NotFound:
            return True
        except SkjobError as error:
            return is_terminating(error)
        return False

    def spent(self) -> Cost | None:
        """What it has cost this run by now, and costs in an hour with all workers that were asked for."""
        return self._settled if self._costs is None else self._costs.spent()

    def _watch_costs(self, account: BillingKey, heartbeat: Heartbeat, grace: float, before: Cost | None = None) -> None:
        """From now on, where prices are known."""
        if self._plan.rules.prices.entries:
            scheduler = parse_quantity(SCHEDULER_CPU), manifest.scheduler_memory(self._plan.size)
            self._costs = CostMeter(
                self._api, self.name, self._names.run_id, account, self._plan.rules, self._plan.size, scheduler,
                self.asked, lambda: heartbeat.allowed(grace), self._note, before,
            )  # fmt: skip
            self._costs.start()

    def _settle(self, left_for: float = 0.0) -> None:
        """It is removed, or left for so many seconds with the workers that were asked for last."""
        if self._costs is not None:
            self._settled, self._costs = self._costs.settle(left_for, self._asked), None

    def _lasts(self) -> float:
        """For how many seconds what it may cost lasts, as it is."""
        spent, most = self.spent(), self._plan.max_cost
        return math.inf if spent is None or most is None else spent.lasts(most)

    def _affordable(self) -> float:
        """For how many seconds its deadline may be away: until its pods are gone they cost something."""
        return max(0.0, self._lasts() - REMOVAL_SECONDS)

    def _check_cost(self) -> None:
        """While it starts. Raises StartError where it may not go on."""
        if self._lasts() < CLOSING_SECONDS:
            raise StartError(f"`{self.name}` has cost what it may before it has started")

    def logs(self) -> dict[str, str]:
        """The last lines of each pod of the cluster; of its last life, where it has been restarted."""
        return self._pods.logs()

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything, or, with `--keep`, leave it until its time is over.

        Returns when nothing that is left depends on anything but Kubernetes: its pods are gone a second or two later.
        """
        self._closing.set()
        if not self._begun:
            return
        self._begun = False
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            if self._keep and self._dask is not None and self.address:
                self.leave()
            else:
                cleanup.remove(
                    self._api,
                    self.name,
                    self._namespace,
                    run_id=self._names.run_id,
                    hurried=hurried,
                    wait=not (hurried() or cleanup.removed_by_owner(self._api, self.name, self._namespace)),
                )
        finally:
            self._settle()
            if self._dask is not None:
                self._dask.end()

    def _prolong(self, heartbeat: Heartbeat) -> datetime:
        """Let it live for its idle timeout without us; until when."""
        until = datetime.now(UTC) + timedelta(seconds=heartbeat.allowed(self._idle_timeout))
        annotations = kept_annotation(until) | {
            IDLE_ANNOTATION: str(round(self._idle_timeout)),
            WORKERS_ANNOTATION: str(self.workers),
            USE_ANNOTATION: None,
        }
        heartbeat.stop()
        heartbeat.join()  # a last beat must not shorten what follows, nor say that it is used
        self._api.patch("Job", self.name, self._namespace, {"metadata": {"annotations": annotations}})
        heartbeat.prolong(self._idle_timeout)
        if self._environment_name:
            environment_cache.keep(self._api, self._environment_name, self._idle_timeout)
        return until

    def _shrink(self) -> None:
        """To the fewest workers of its range: those who wait for the next run cost something."""
        superfluous = self._asked - self.workers.first
        if superfluous > 0:
            ready: list[str] = []
            waiting: list[str] = []
            for deployment in self._api.list("Deployment", self._namespace, selector=self._workers_selector):
                has_pod = deployment.get("status", {}).get("readyReplicas")
                (ready if has_pod else waiting).append(deployment["metadata"]["name"])
            self.remove_workers([*waiting, *ready][:superfluous])

    def leave(self) -> None:
        """Leave it, with no heartbeat any more, until its idle timeout is over; `close` then only disconnects."""
        assert self._heartbeat is not None  # noqa: S101 - it starts with the anchor
        self._shrink()
        why = self._why_not_longer(self._heartbeat)
        until = self._prolong(self._heartbeat)
        self._settle((until - datetime.now(UTC)).total_seconds())
        where = f"--context {self._api.context.name} --namespace {self._namespace}"
        self._note(f"`{self.name}` is kept until {until:%Y-%m-%d %H:%M} UTC{why}")
        names = f'name="{self.name}", context="{self._api.context.name}", namespace="{self._namespace}"'
        self._note(f"use it: `skjob run --cluster {self.name} {where} PROGRAM`")
        self._note(f"or in Python: `with skjob.cluster({names}): …`")
        self._note(f"remove it: `skjob down {self.name} {where}`")
        self._begun = False
        if self._dask is not None:
            self._dask.end()

    def _why_not_longer(self, heartbeat: Heartbeat) -> str:
        """What would end it before its idle timeout; empty where nothing does."""
        lives = heartbeat.allowed(self._idle_timeout)
        if lives >= self._idle_timeout:
            return ""
        most_time, most_cost = self._plan.rules.limits.time, self._plan.max_cost
        if most_cost is not None and (most_time is None or self._affordable() < lives + 1):
            return f", when it has cost what it may, `max-cost`, {money(most_cost, self._plan.rules.prices.currency)}"
        return f", when its time, `most-time`, {most_time:.0f} s, is over"

    def _set_replicas(self, number: int) -> None:
        patch = {"spec": {"worker": {"replicas": number}}}
        self._api.patch("DaskWorkerGroup", f"{self.name}-default", self._namespace, patch)

    def _create_anchor(self, lifetime: float) -> Manifest:
        """The first object of the run: what forbids it, forbids all. Whether it was created is in doubt only where the
        API did not answer."""
        self._begun = True
        try:
            with explain_rejections(self._api):
                anchor = anchor_job(
                    self._names, self._namespace, lifetime, self._environment_name, this_skjob().annotations()
                )
                return self._api.create(anchor)
        except (ConfigError, StartError, ForbiddenError, Raced):
            self._begun = False
            raise
        except Conflict as error:
            self._begun = False
            raise ConfigError(
                f"`{self.name}` is there already: it was started at the same moment, by you or by somebody else",
                f"`skjob run --cluster {self.name}` uses it when it is ready; `skjob down {self.name}` ends it",
            ) from error

    def _warn_if_nothing_fits(self) -> None:
        """Say at once what the scheduler of Kubernetes would say later. An autoscaler may still bring a larger node."""
        self._pods.look_at_nodes()
        if self._pods.nodes is None:
            return
        fit = best_node(self._pods.nodes, self._plan.size.cpu, self._plan.size.memory)
        if not fit.fits:
            self._note(f"{fit.message}; waiting for an autoscaler until `--start-timeout`")

    def _wait_for_scheduler(self) -> None:
        """Wait for the scheduler's container to run."""
        begun = time.monotonic()
        problems: list[Problem] = []

        def look() -> None:
            problems[:] = self.problems()
            for problem in problems:
                self._note(str(problem))
            if time.monotonic() - begun > self._operator_timeout and not problems:
                self._check_operator()

        self._look_at_operator()
        timeout = self._plan.start_timeout
        if not self._pods.wait_for_scheduler(look, begun + timeout, self._check_wanted):
            why = f": {problems[0].message}" if problems else ""
            hint = (problems[0].hint if problems else "") or "`skjob doctor` looks for causes in the cluster"
            raise StartError(f"the scheduler did not start within `--start-timeout`, {timeout:.0f} s{why}", hint)

    def _check_scheduler(self) -> None:
        """Called while the scheduler, which runs, does not answer yet. Raises StartError where it never will."""
        self._check_wanted()
        with suppress(Unanswered):
            for problem in self.problems():
                self._note(str(problem))

    def _check_wanted(self) -> None:
        """Called while it starts. Raises StartError where the run has been stopped, or costs too much, and what whoever
        started it raises."""
        if self._closing.is_set():
            raise StartError("the run was stopped while the scheduler started")
        self._check()
        self._check_cost()

    def _look_at_operator(self) -> None:
        """While the scheduler's pod is on its way: what its users may know, who may look at all Deployments.

        One that does not run may be about to: it has its time.
        """
        with suppress(SkjobError):
            self._operator = operator_state(self._api)
        if self._operator.too_old:
            raise OperatorError(self._operator.trouble, _OPERATOR_HINT)
        if self._operator.trouble:
            self._note(f"{self._operator.trouble}; waiting for it for {self._operator_timeout:.0f} s")

    @property
    def _operator_timeout(self) -> float:
        return DEAD_OPERATOR_TIMEOUT if self._operator.trouble else OPERATOR_TIMEOUT

    def _check_operator(self) -> None:
        try:
            self._api.get("Deployment", f"{self.name}-scheduler", self._namespace)
        except NotFound:
            why = f": {self._operator.trouble}" if self._operator.trouble else ""
            raise OperatorError(
                f"the Dask operator has not acted on `{self.name}` for {self._operator_timeout:.0f} s{why}",
                _OPERATOR_HINT,
            ) from None
