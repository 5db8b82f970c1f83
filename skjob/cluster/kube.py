"""A cluster on Kubernetes: a KubeCluster of ours, under an anchor that outlives it by a little and no more.

The only file that imports dask-kubernetes. Its KubeCluster is subclassed, because the stock one does not work with
current distributed and can't be told to use TLS (dask-kubernetes 2026.3.0: it starts pods with scripts that no longer
exist, writes `tcp://` into every address, spends 19 s looking for a DNS name that only pods can resolve, waits for a
`status.phase` that a race in the operator can leave at Pending for ever, and has no deadline when a pod can't run;
once `KubeCluster(name="x", image=…, security=…)` is ready within seconds, `_DaskCluster` can go). What is kept is
its place in distributed's Cluster interface and the operator behind it.

The order of things: the anchor, then all that it owns, with heartbeats from the first moment on. If any step fails,
`close` removes the anchor; if `close` never comes, the anchor's deadline does.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skjob.cluster import environment, inventory, manifest
from skjob.cluster.api import Api, Context, NotFound, Unanswered
from skjob.cluster.capacity import largest_fit
from skjob.cluster.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Certificates, make_certificates
from skjob.cluster.diagnose import Cause, CauseKind, diagnose
from skjob.cluster.names import ENVIRONMENT_ANNOTATION, RUN_LABEL, RunNames, kept_annotation
from skjob.cluster.refusals import refusals_explained
from skjob.environment.images import forget
from skjob.environment.source import skjob_archive
from skjob.environment.wanted import Wanted
from skjob.errors import ConfigError, ForbiddenError, OperatorError, SkjobError, StartError
from skjob.plan import Plan

OPERATOR_TIMEOUT = 20.0
"""Seconds within which an operator that is alive has made the scheduler's pod."""

LISTEN_TIMEOUT = 60.0
"""Seconds within which a scheduler whose container runs answers."""

POLL = 0.1
DIAGNOSE_EVERY = 0.5
LOG_LINES = 40
LOG_TIMEOUT = 5.0
API_PATIENCE = 15.0
"""Seconds without an answer of the API that a start survives."""


class KubernetesCluster:
    """Implements `skjob.cluster.base.Cluster` on Kubernetes."""

    def __init__(
        self,
        api: Api,
        names: RunNames,
        plan: Plan,
        private: Path,
        note: Callable[[str], None],
        *,
        wanted: Wanted | None = None,
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
        self._asked = plan.workers.first
        self._heartbeat: Heartbeat | None = None
        self._dask: _DaskCluster | None = None
        self._nodes: list[manifest.Manifest] | None = None
        self._begun = False
        self._closing = threading.Event()

    def start(self) -> None:
        """Create everything and wait until the scheduler answers."""
        self._warn_if_nothing_fits()
        kept = self._make_environment()
        needs = kept.needs if kept else None
        grace = self._plan.grace
        anchor = self._create_anchor(grace)
        self._heartbeat = Heartbeat(
            self._api, self.name, self._namespace, grace, self._note, beside=self._keep_environment
        )
        self._heartbeat.start()
        for content in (
            manifest.secret(self._names, self._namespace, self._certificates.files()),
            manifest.files(self._names, self._namespace, skjob_archive(), needs),
        ):
            self._api.create(manifest.owned_by(anchor, content))
        cluster = manifest.dask_cluster(self._names, self._namespace, self._plan, needs, kept.name if kept else "")
        self._api.create(manifest.owned_by(anchor, cluster))
        self._connect(cluster)

    def _make_environment(self) -> environment.Kept | None:
        """Before the cluster is paid for: what its pods will need is in the image, or kept in the namespace."""
        if self._wanted is None:
            return None
        image, timeout = self._plan.image, self._plan.start_timeout
        platform = environment.platform_of(self._nodes)
        with refusals_explained(self._api):
            kept = environment.make_ready(self._api, self._wanted, image, platform, timeout, self._note)
        self._environment_name = kept.name
        self.environment = dict(kept.made)
        return kept

    def _keep_environment(self) -> None:
        """Workers that come later need it too. Where it is gone, they say so."""
        if self._environment_name:
            with suppress(SkjobError):
                environment.keep(self._api, self._environment_name)

    def _connect(self, cluster: manifest.Manifest) -> None:
        """Wait until the scheduler of a DaskCluster answers."""
        self._dask = _DaskCluster(
            cluster, self._api.context, self.tls.security(), self._wait_for_scheduler, self._check_scheduler
        )
        self._dask.begin()
        self.address = self._dask.scheduler_address

    def add_workers(self, total: int) -> None:
        """Ask for workers until there are `total`."""
        self._asked = max(self._asked, total)
        self._set_replicas()

    def remove_workers(self, names: list[str]) -> None:
        """Delete these workers' Deployments, then lower the number: the operator finds nothing left to choose."""
        for name in names:
            self._api.delete("Deployment", name, self._namespace)
            self._asked -= 1
        self._set_replicas()

    def withdraw(self, most: int, connected: list[str]) -> None:
        """Delete up to so many Deployments whose pod does not run, then lower the number."""
        selector = f"dask.org/workergroup-name={self.name}-default"
        waiting = [
            deployment["metadata"]["name"]
            for deployment in self._api.list("Deployment", self._namespace, selector=selector)
            if not deployment.get("status", {}).get("readyReplicas")
        ]
        names = [name for name in waiting if name not in connected][:most]
        if names:
            self.remove_workers(names)

    def unreachable(self, names: list[str]) -> list[str]:
        """Those whose node does not answer: Kubernetes then says of a pod that it runs, and that it is not ready."""
        gone = {_worker_of(pod) for pod in self._pods("worker") if _is_on_a_lost_node(pod)}
        return [name for name in names if name in gone]

    def asked(self) -> int:
        """How many workers were asked for."""
        return self._asked

    def running(self) -> int:
        """How many workers' pods run."""
        return sum(
            pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
            for pod in self._pods("worker")
        )

    def problems(self) -> list[str]:
        """Why pods do not run, in the user's words. Raises StartError where they never will."""
        causes = self._causes()
        fatal = next((cause for cause in causes if cause.fatal), None)
        if fatal is not None:
            if fatal.kind is CauseKind.ENVIRONMENT:
                forget(self._plan.image)  # it is not what it was, or not what we think
            raise StartError(fatal.message, fatal.hint)
        return [cause.message for cause in causes]

    def logs(self) -> dict[str, str]:
        """The last lines of each pod of the cluster; of its last life, where it has been restarted.

        What can be had within `LOG_TIMEOUT` seconds in all: a node that is lost does not answer for its pods.
        """
        pool = ThreadPoolExecutor(8, thread_name_prefix="skjob-logs")
        try:
            reading = {pool.submit(self._log, pod): pod["metadata"]["name"] for pod in self._pods()}
            done, _ = wait(reading, timeout=LOG_TIMEOUT)
            return {reading[log]: log.result() for log in done if log.result()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _log(self, pod: manifest.Manifest) -> str:
        restarted = any(status.get("restartCount") for status in pod["status"].get("containerStatuses", []))
        return self._api.log(pod["metadata"]["name"], self._namespace, lines=LOG_LINES, previous=restarted)

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything, or, with `--keep`, leave it until its time is over."""
        self._closing.set()
        if not self._begun:
            return
        self._begun = False
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            if self._keep and self._dask is not None and self.address:
                self._leave()
            else:
                inventory.remove(
                    self._api,
                    self.name,
                    self._namespace,
                    run_id=self._names.run_id,
                    hurried=hurried,
                    wait=not hurried(),
                )
        finally:
            if self._dask is not None:
                self._dask.end()

    def _prolong(self, heartbeat: Heartbeat) -> datetime:
        """Let it live for `--keep-time` without us; until when."""
        until = datetime.now(UTC) + timedelta(seconds=self._plan.keep_time)
        patch = {"metadata": {"annotations": kept_annotation(until)}}
        self._api.patch("Job", self.name, self._namespace, patch)
        heartbeat.stop()
        heartbeat.join()  # a last beat must not shorten what follows
        heartbeat.prolong(self._plan.keep_time)
        if self._environment_name:
            environment.keep(self._api, self._environment_name, self._plan.keep_time)
        return until

    def _leave(self) -> None:
        assert self._heartbeat is not None  # noqa: S101 - it starts with the anchor
        until = self._prolong(self._heartbeat)
        where = f"--context {self._api.context.name} --namespace {self._namespace}"
        self._note(f"`{self.name}` is kept until {until:%Y-%m-%d %H:%M} UTC")
        names = f'name="{self.name}", context="{self._api.context.name}", namespace="{self._namespace}"'
        self._note(f"use it: `skjob run --cluster {self.name}`, or in Python `with skjob.cluster({names}): …`")
        self._note(f"remove it: `skjob down {self.name} {where}`")

    def _set_replicas(self) -> None:
        patch = {"spec": {"worker": {"replicas": self._asked}}}
        self._api.patch("DaskWorkerGroup", f"{self.name}-default", self._namespace, patch)

    def _create_anchor(self, lifetime: float) -> manifest.Manifest:
        """The first object of the run: what forbids it, forbids all. Whether it was created is in doubt only where the
        API did not answer."""
        self._begun = True
        try:
            with refusals_explained(self._api):
                anchor = manifest.anchor(self._names, self._namespace, lifetime, self._environment_name)
                return self._api.create(anchor)
        except (StartError, ForbiddenError):
            self._begun = False
            raise

    def _warn_if_nothing_fits(self) -> None:
        """Say at once what the scheduler of Kubernetes would say later. An autoscaler may still bring a larger node."""
        try:
            self._nodes = self._api.list("Node")
        except ForbiddenError:
            return  # nodes are not everybody's to see
        fit = largest_fit(self._nodes, self._plan.size.cpu, self._plan.size.memory)
        if not fit.fits:
            self._note(f"{fit.message}; waiting for an autoscaler until `--start-timeout`")

    def _wait_for_scheduler(self) -> None:
        """Wait for the scheduler's container to run."""
        begun = answered = time.monotonic()
        deadline, looked = begun + self._plan.start_timeout, 0.0
        problems: list[str] = []
        while True:
            now = time.monotonic()
            try:
                for pod in self._pods("scheduler"):
                    if any("running" in status["state"] for status in pod["status"].get("containerStatuses", [])):
                        return
                if now - looked > DIAGNOSE_EVERY:
                    looked = now
                    problems = self.problems()
                    for problem in problems:
                        self._note(problem)
                    if now - begun > OPERATOR_TIMEOUT and not problems:
                        self._check_operator()
                answered = now
            except Unanswered:
                if now - answered > API_PATIENCE:
                    raise
            if now > deadline:
                why = f": {problems[0]}" if problems else ""
                raise StartError(
                    f"the scheduler did not start within `--start-timeout`, {self._plan.start_timeout:.0f} s{why}",
                    "`skjob doctor` looks for causes in the cluster",
                )
            if self._closing.wait(POLL):
                raise StartError("the run was stopped while the scheduler started")

    def _check_scheduler(self) -> None:
        """Called while the scheduler, which runs, does not answer yet. Raises StartError where it never will."""
        if self._closing.is_set():
            raise StartError("the run was stopped while the scheduler started")
        with suppress(Unanswered):
            self.problems()

    def _check_operator(self) -> None:
        try:
            self._api.get("Deployment", f"{self.name}-scheduler", self._namespace)
        except NotFound:
            raise OperatorError(
                f"the Dask operator has not acted on `{self.name}` for {OPERATOR_TIMEOUT:.0f} s",
                "it is installed, and not alive: `skjob doctor` says more, `skjob install` installs it anew",
            ) from None

    def _causes(self) -> list[Cause]:
        # Before the pods: of a pod that was refused and then made, the making must be seen.
        events = self._api.readable_events(self._namespace)
        pods = self._pods()
        logs: dict[str, str] = {}
        for pod in pods:
            statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
            for status in statuses:
                if status.get("lastState", {}).get("terminated") or status["state"].get("terminated"):
                    name = pod["metadata"]["name"]
                    previous = "terminated" not in status["state"]
                    text = self._api.log(name, self._namespace, container=status["name"], previous=previous)
                    logs[name] = text or logs.get(name, "")
        return diagnose(pods, events, nodes=self._nodes, logs=logs, cluster=self.name)

    def _pods(self, component: str = "") -> list[manifest.Manifest]:
        selector = f"dask.org/cluster-name={self.name}"
        if component:
            selector += f",dask.org/component={component}"
        return self._api.list("Pod", self._namespace, selector=selector)


def _worker_of(pod: manifest.Manifest) -> str:
    """The worker's name is that of its Deployment, to which its ReplicaSet adds a hash."""
    owners = pod["metadata"].get("ownerReferences", [])
    return str(next((owner["name"] for owner in owners if owner["kind"] == "ReplicaSet"), "")).rpartition("-")[0]


def _is_on_a_lost_node(pod: manifest.Manifest) -> bool:
    """These pods have no readiness probe: one whose container runs is ready, unless the node has not been heard of."""
    status = pod["status"]
    containers = status.get("containerStatuses", [])
    runs = bool(containers) and all("running" in container["state"] for container in containers)
    unready = any(each["type"] == "Ready" and each["status"] == "False" for each in status.get("conditions", []))
    return runs and unready


class KeptCluster(KubernetesCluster):
    """A cluster that `--keep` has left: connected to, and left as it was.

    Its certificates come from its Secret: whoever may read Secrets in the namespace may use it.
    """

    def __init__(self, api: Api, name: str, plan: Plan, private: Path, note: Callable[[str], None]) -> None:
        namespace = api.context.namespace
        try:
            secret = api.get("Secret", name, namespace)["data"]
            cluster = api.get("DaskCluster", name, namespace)
        except NotFound as error:
            raise ConfigError(
                f"there is no cluster `{name}` in namespace `{namespace}`",
                "`skjob ps --all-namespaces` lists those there are",
            ) from error
        run_id = cluster["metadata"]["labels"][RUN_LABEL]
        super().__init__(api, RunNames(run_id, user="", program="", existing=name), plan, private, note)
        content = [base64.b64decode(secret[file]) for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        self.tls = Certificates(*content).write(private)
        self._asked = int(cluster["spec"]["worker"]["replicas"])
        self._existing = cluster

    def start(self) -> None:
        """Connect to the scheduler; while it is used, it lives."""
        anchor = self._api.get("Job", self.name, self._namespace)
        age = inventory.age(anchor, datetime.now(UTC))
        self._heartbeat = Heartbeat(
            self._api, self.name, self._namespace, self._plan.keep_time, self._note,
            age=age, beside=self._keep_environment,
        )  # fmt: skip
        self._heartbeat.prolong(self._plan.keep_time)
        self._heartbeat.start()
        self._environment_name = (anchor["metadata"].get("annotations") or {}).get(ENVIRONMENT_ANNOTATION, "")
        if self._environment_name:
            environment.keep(self._api, self._environment_name, self._plan.keep_time)
        self._connect(self._existing)

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Close the connection; it lives on as if it had just been left."""
        self._closing.set()
        if self._heartbeat is not None:
            with suppress(SkjobError):  # it may be gone, by `skjob down`
                self._prolong(self._heartbeat)
            self._heartbeat = None
        if self._dask is not None:
            self._dask.end()


class Heartbeat:
    """Moves the anchor's deadline on for as long as this process lives.

    Kubernetes counts the deadline from the Job's own start, which is not before its creation; this counts from the
    creation, with this machine's clocks, so that those of the two need not agree.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        namespace: str,
        grace: float,
        note: Callable[[str], None],
        *,
        age: float = 0.0,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        """`age` is that of the anchor in seconds, where it was there before. `beside` is called with each beat."""
        self._api = api
        self._name = name
        self._namespace = namespace
        self._grace = grace
        self._note = note
        self._beside = beside
        self._created = (time.monotonic() - age, time.time() - age)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin beating: five times within each grace, so that a few may fail."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more. Does not wait for a beat that is under way."""
        self._stop.set()

    def join(self) -> None:
        """Wait for it."""
        self._thread.join(timeout=self._grace)

    def prolong(self, seconds: float) -> None:
        """Let the anchor live for so many seconds from now."""
        # The monotonic clock stands still while a laptop sleeps, the wall clock may be set back: the later one counts.
        elapsed = max(time.monotonic() - self._created[0], time.time() - self._created[1])
        patch = {"spec": {"activeDeadlineSeconds": round(elapsed + seconds)}}
        self._api.patch("Job", self._name, self._namespace, patch, timeout=self._grace / 5)

    def _run(self) -> None:
        missed = 0
        while not self._stop.wait(self._grace / 5):
            try:
                self.prolong(self._grace)
                missed = 0
                self._beside()
            except Exception as error:  # whatever it is, the next beat may succeed; without one the cluster ends
                missed += 1
                if missed == 2 and not self._stop.is_set():
                    self._note(
                        f"the cluster can't be kept alive, it ends {self._grace:.0f} s after the last beat: {error}"
                    )


class _DaskCluster:
    """The KubeCluster of ours, made when its pods are on their way: importing dask-kubernetes takes a second.

    `wait_for_scheduler` waits for the scheduler's pod; `check` raises where waiting has no sense.
    """

    def __init__(
        self,
        cluster: manifest.Manifest,
        context: Context,
        security: Any,
        wait_for_scheduler: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self.manifest = cluster
        self.context = context
        self.security = security
        self.wait_for_scheduler = wait_for_scheduler
        self.check = check
        self.kube_cluster: Any = None

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler is reached from here."""
        return str(self.kube_cluster.scheduler_address)

    def begin(self) -> None:
        """Connect to the scheduler."""
        _kube_cluster_class()(self)

    def end(self) -> None:
        """Close what is open on this side; nothing is deleted."""
        if self.kube_cluster is not None:
            with suppress(Exception):  # what was being connected to may be gone already
                self.kube_cluster.close(timeout=5)


def _tells_of_something_else(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Unhandled exception in client_connected_cb")


def _kube_cluster_class() -> type[Any]:
    import kr8s.asyncio
    from dask_kubernetes.operator import KubeCluster
    from distributed.core import rpc
    from distributed.deploy.cluster import Cluster
    from kr8s.asyncio.objects import Deployment
    from kr8s.asyncio.portforward import PortForward

    logging.getLogger("httpx").setLevel(logging.WARNING)
    # While a scheduler is started again, each try to connect is an error in kr8s' forwarding (0.20: `PortForward`
    # raises in the callback of a connection), which asyncio shows with its traceback. The connection is tried again.
    logging.getLogger("asyncio").addFilter(_tells_of_something_else)

    class SkjobKubeCluster(KubeCluster):  # type: ignore[misc]
        """See the module's docstring."""

        def __init__(self, ours: _DaskCluster) -> None:
            ours.kube_cluster = self  # before it starts: whoever stops the start must find it
            self.security = ours.security
            self._ours = ours
            self._forward: Any = None
            namespace = ours.manifest["metadata"]["namespace"]
            super().__init__(
                custom_cluster_spec=ours.manifest, namespace=namespace, shutdown_on_close=False, quiet=True
            )

        async def _start(self) -> None:
            # kr8s keeps its connections by thread and event loop, weakly: this one is ours to keep.
            name = None if self._ours.context.in_cluster else self._ours.context.name
            self._kr8s = await kr8s.asyncio.api(context=name, namespace=self.namespace)
            await self._connect_cluster()
            await Cluster._start(self)

        async def _connect_cluster(self) -> None:
            await asyncio.to_thread(self._ours.wait_for_scheduler)
            # To whichever pod of the Deployment is there when a connection is made: a scheduler that is started again
            # is found at the same address.
            deployment = await Deployment.get(f"{self.name}-scheduler", namespace=self.namespace, api=self._kr8s)
            self._forward = PortForward(deployment, manifest.SCHEDULER_PORT, local_port="auto")
            await self._forward.start()
            self.scheduler_comm = await self._first_answer(f"tls://127.0.0.1:{self._forward.local_port}")

        async def _first_answer(self, address: str) -> Any:
            arguments = self.security.get_connection_args("client")
            deadline = time.monotonic() + LISTEN_TIMEOUT
            while True:
                comm = rpc(address, connection_args=arguments, timeout=2)
                try:
                    await asyncio.wait_for(comm.identity(), timeout=5)
                except (OSError, TimeoutError) as error:
                    await comm.close_rpc()
                    await asyncio.to_thread(self._ours.check)
                    if time.monotonic() > deadline:
                        raise StartError(
                            f"the scheduler of `{self.name}` runs and did not answer within {LISTEN_TIMEOUT:.0f} s:"
                            f" {error}",
                            "its log, with `-v`, says more",
                        ) from error
                    await asyncio.sleep(POLL)
                else:
                    return comm

        def close(self, timeout: float | None = None) -> Any:
            return Cluster.close(self, timeout)

        async def _close(self) -> None:
            await Cluster._close(self)
            if self._forward is not None:
                await self._forward.stop()

        @property
        def dashboard_link(self) -> str:
            return f"http://127.0.0.1:{manifest.PAGES_PORT}/status"

    return SkjobKubeCluster
