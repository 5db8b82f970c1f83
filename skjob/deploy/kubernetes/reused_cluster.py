"""Use a cluster that `skjob up` or `--keep` has left running, and leave it running again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.parsers import parse_seconds, parse_workers
from skjob.config.plan import CLOSING_SECONDS, Plan, with_workers, within_time
from skjob.config.settings import WorkerRange
from skjob.deploy.kubernetes import compatibility
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.cluster import KubernetesCluster
from skjob.deploy.kubernetes.costs import ledger
from skjob.deploy.kubernetes.costs.meter import BillingKey
from skjob.deploy.kubernetes.costs.prices import Cost, read_cost
from skjob.deploy.kubernetes.heartbeat import MAX_INTERVAL, Heartbeat
from skjob.deploy.kubernetes.inventory import runs
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.labels import (
    COST_ANNOTATION,
    ENVIRONMENT_ANNOTATION,
    IDLE_ANNOTATION,
    RUN_LABEL,
    USE_ANNOTATION,
    WORKERS_ANNOTATION,
    RunNames,
    shown,
)
from skjob.deploy.kubernetes.run_lock import ClusterLocked, RunLock, lock_cluster
from skjob.errors import ClusterLost, ConfigError, SkjobError, StartError
from skjob.utils.notify import Notify
from skjob.utils.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE, VALID_FOR, Certificates

CLOSING = timedelta(days=1)
"""Time before its certificates expire from which no run starts on it: later workers could not join."""


@dataclass(frozen=True)
class _StoredOptions:
    """Options that a cluster was kept with, from its anchor. Other users may have changed them."""

    workers: WorkerRange
    idle_timeout: float


def _read_options(annotations: Mapping[str, str], defaults: _StoredOptions, where: str) -> _StoredOptions:
    """Return the options in an anchor's annotations, with `defaults` for those that it lacks.

    Raises:
        ConfigError: lists each that cannot be read.
    """
    workers, idle_timeout, problems = defaults.workers, defaults.idle_timeout, []
    if (text := annotations.get(WORKERS_ANNOTATION)) is not None:
        try:
            workers = parse_workers(text)
        except ValueError as error:
            problems.append(f"the annotation `{WORKERS_ANNOTATION}` of {where} {error}, not `{shown(text)}`")
    if (text := annotations.get(IDLE_ANNOTATION)) is not None:
        try:
            idle_timeout = parse_seconds(text)
        except ValueError as error:
            problems.append(f"the annotation `{IDLE_ANNOTATION}` of {where} {error}, not `{shown(text)}`")
    if problems:
        raise ConfigError.collect(problems, "somebody has changed it; remove the cluster with `skjob down`")
    return _StoredOptions(workers, idle_timeout)


def _rules_of(cluster: Manifest, rules: NamespacePolicy) -> NamespacePolicy:
    """Return the rules for a run on a cluster: those of the pool that it was started in, if it is there.

    A pool that the platform team has removed in the meantime has no limits and no price any more, and a cluster from
    before there were pools is in none: not in the default one.
    """
    pool = manifest.pool_of(cluster)
    if pool is None:
        return rules
    try:
        return rules.in_pool(pool)
    except KeyError:
        return rules


class ReusedCluster(KubernetesCluster):
    """A kept cluster: connect to it, and leave it again with the fewest of its workers.

    `workers` is the range it was started with, `variables` are those that its workers start with. Its certificates come
    from its Secret: whoever may read Secrets in the namespace may use it. `rules` are the namespace's; those of the
    plan are for a cluster of the run's own, which may be in another node pool. What it costs in the meantime is
    recorded under `billing_key`, for whoever uses it.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        plan: Plan,
        rules: NamespacePolicy,
        private: Path,
        notify: Notify,
        billing_key: BillingKey,
    ) -> None:
        namespace = api.context.namespace
        try:
            cluster = api.get("DaskCluster", name, namespace)
            self._anchor = api.get("Job", name, namespace)
            group = api.get("DaskWorkerGroup", f"{name}-default", namespace)
            secret = api.get("Secret", name, namespace)["data"]
        except NotFound as error:
            raise ConfigError(
                f"there is no cluster `{name}` in namespace `{namespace}`",
                f"`skjob ps --namespace {namespace}` lists the clusters there",
            ) from error
        annotations = self._anchor["metadata"].get("annotations") or {}
        compatibility.check(name, annotations, compatibility.this_skjob())
        run_id = cluster["metadata"]["labels"][RUN_LABEL]
        plan = replace(plan, rules=_rules_of(cluster, rules))
        super().__init__(api, RunNames(run_id, user="", program="", existing=name), plan, private, notify)
        content = [base64.b64decode(secret[file]) for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        certificates = Certificates(*content)
        if certificates.valid_until() - self._api.now() < CLOSING:
            raise StartError(
                f"the certificates of `{name}` expire on {certificates.valid_until():%Y-%m-%d %H:%M} UTC:"
                f" {VALID_FOR.days} days after it was started",
                f"`skjob down {name}` removes it, and `skjob up {name}` starts a new one",
            )
        self.tls = certificates.write(private)
        # Not the number that the cluster started with: a killed run leaves the workers it had.
        self._group.requested = int(group["spec"]["worker"]["replicas"])
        self._existing = cluster
        self.variables = manifest.variables_of(cluster, secret)
        self._plan = replace(plan, size=manifest.size_of(cluster), image=manifest.image_of(cluster))
        self._used_by: RunLock | None = None
        self._billing_key = billing_key
        defaults = _StoredOptions(WorkerRange(self._group.requested, self._group.requested), plan.keep_time)
        options = _read_options(annotations, defaults, f"Job `{name}` in namespace `{namespace}`")
        self.workers, self._idle_timeout = options.workers, options.idle_timeout
        self._environment.name = annotations.get(ENVIRONMENT_ANNOTATION, "")

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Connect to the scheduler, and keep the cluster alive while it is used."""
        self._check = check
        self._pods.forget_earlier()
        age = runs.age(self._anchor, self._api.now())
        self._heartbeat = Heartbeat(
            self._api, self.name, self._namespace, self._idle_timeout, self._notify,
            age=age, max_lifetime=self._plan.rules.limits.time, on_beat=self._on_beat,
        )  # fmt: skip
        self._heartbeat.extend(self._idle_timeout)
        self._heartbeat.start()
        self._environment.keep(self._idle_timeout)
        self._connect(self._existing)

    @property
    def _orphan_timeout(self) -> float:
        return self._idle_timeout

    def planned(self, workers: WorkerRange | None) -> Plan:
        """Return the plan of a run on the cluster: with the given workers or its own range, within today's limits.

        Raises:
            StartError: its time is nearly over.
        """
        age, max_lifetime = runs.age(self._anchor, self._api.now()), self._plan.rules.limits.time
        if max_lifetime is not None and age + CLOSING_SECONDS > max_lifetime:
            raise StartError(
                f"`{self.name}` ends within {CLOSING_SECONDS:.0f} s, at `limits.max-time`, {max_lifetime:.0f} s",
                "start a cluster of your own: leave out its name",
            )
        self._plan = within_time(with_workers(self._plan, workers or self.workers), lived=age)
        return self._plan

    def use(self, lock: RunLock) -> None:
        """Publish who has locked the cluster, for `skjob ps`. From then on, `close` reduces its workers."""
        self._used_by = lock
        annotations = self._api.get("Job", self.name, self._namespace)["metadata"].get("annotations") or {}
        self._publish_use()
        heartbeat = self._heartbeat
        if heartbeat is not None and self._plan.rules.prices.entries:
            now = datetime.now(UTC)
            before = read_cost(annotations.get(COST_ANNOTATION))
            so_far = Cost(before.by(now) if before else 0.0, 0.0, now, self._plan.rules.prices.currency)
            # Its owner pays again once this run leaves it; a run that died on it stops paying.
            ledger.change(self._api, self._namespace, self._names.run_id, now, lives=self._idle_timeout)
            if dead := runs.read_use(annotations.get(USE_ANNOTATION)).get("account"):
                ledger.change(self._api, self._namespace, str(dead), now)
            self._costs.start(self._billing_key, self._plan.size, lambda: heartbeat.allowed(self._idle_timeout), so_far)

    def verify_lock(self, client: Any) -> None:
        """Lock the cluster again: the lock only holds while the client is connected.

        Raises:
            ClusterLost: another run has locked it since, and uses its workers.
        """
        if self._used_by is None:
            return
        try:
            lock_cluster(client, self._used_by, self.name)
        except ClusterLocked as error:
            self._used_by = None
            raise ClusterLost(
                f"{error.message}, who locked it while this run was disconnected",
                "run it again; finished fits are reused",
            ) from error

    def _on_beat(self) -> None:
        self._environment.keep_alive()
        self._publish_use()

    def _publish_use(self) -> None:
        if self._used_by is not None:
            use = {"program": self._used_by.program, "owner": self._used_by.owner, "since": self._used_by.since}
            use["account"] = self._billing_key.key
            use["until"] = (datetime.now(UTC) + timedelta(seconds=3 * MAX_INTERVAL)).isoformat(timespec="seconds")
            patch = {"metadata": {"annotations": {USE_ANNOTATION: json.dumps(use)}}}
            with suppress(SkjobError):  # the next beat publishes it again
                self._api.patch("Job", self.name, self._namespace, patch)

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Disconnect; the cluster lives on as if it had just been kept."""
        self._closing.set()
        if self._heartbeat is not None:
            lifetime = 0.0
            if self._used_by is not None:
                with suppress(SkjobError):  # the next run starts with more workers than it needs
                    self._group.shrink(self.workers.first)
                with suppress(SkjobError):  # `skjob down` may have removed it
                    lifetime = (self._extend(self._heartbeat) - datetime.now(UTC)).total_seconds()
            self._heartbeat.stop()
            self._heartbeat = None
            final = self._costs.finalize(lifetime)
            if lifetime and final is not None:
                gpus, run_id = self.requested() * self._plan.size.gpus, self._names.run_id
                ledger.change(
                    self._api, self._namespace, run_id, datetime.now(UTC), rate=final.rate, lives=lifetime, gpus=gpus
                )
        if self._dask is not None:
            self._dask.end()
