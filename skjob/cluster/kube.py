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
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skjob.cluster import inventory, manifest
from skjob.cluster.api import Api, NotFound, Rejected
from skjob.cluster.capacity import largest_fit
from skjob.cluster.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Certificates, make_certificates
from skjob.cluster.diagnose import Cause, diagnose
from skjob.cluster.names import KEPT_ANNOTATION, RUN_LABEL, RunNames
from skjob.cluster.permissions import missing
from skjob.environment.installation import Installation
from skjob.environment.source import skjob_archive
from skjob.errors import ClusterLost, ForbiddenError, OperatorError, SkjobError, StartError
from skjob.plan import Plan

OPERATOR_TIMEOUT = 20.0
"""Seconds within which an operator that is alive has made the scheduler's pod."""

LISTEN_TIMEOUT = 60.0
"""Seconds within which a scheduler whose container runs answers."""

POLL = 0.1
DIAGNOSE_EVERY = 0.5
LOG_LINES = 40


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
        installation: Installation | None = None,
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
        self._installation = installation
        self._keep = keep
        self._asked = max(plan.workers.minimum, 1)
        self._heartbeat: Heartbeat | None = None
        self._dask: _DaskCluster | None = None
        self._nodes: list[manifest.Manifest] | None = None
        self._begun = False

    def start(self) -> None:
        """Create everything and wait until the scheduler answers."""
        self._warn_if_nothing_fits()
        grace = self._plan.grace
        anchor = self._create_anchor(grace)
        self._heartbeat = Heartbeat(self._api, self.name, self._namespace, grace)
        self._heartbeat.start()
        for content in (
            manifest.secret(self._names, self._namespace, self._certificates, self._installation),
            manifest.files(self._names, self._namespace, skjob_archive(), self._installation),
        ):
            self._api.create(manifest.owned_by(anchor, content))
        cluster = manifest.dask_cluster(self._names, self._namespace, self._plan, self._installation)
        self._dask = _DaskCluster(
            manifest.owned_by(anchor, cluster), self._api, self.tls.security(), self._find_scheduler
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
        self._asked -= len(names)
        self._set_replicas()

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
            raise StartError(fatal.message, fatal.hint)
        return [cause.message for cause in causes]

    def logs(self) -> dict[str, str]:
        """The last lines of each pod of the cluster; of its last life, where it has been restarted."""
        logs = {}
        for pod in self._pods():
            name = pod["metadata"]["name"]
            restarted = any(status.get("restartCount") for status in pod["status"].get("containerStatuses", []))
            text = self._api.log(name, self._namespace, lines=LOG_LINES, previous=restarted)
            if text:
                logs[name] = text
        return logs

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Remove everything, or, with `--keep`, leave it until its time is over."""
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

    def _leave(self) -> None:
        until = datetime.now(UTC) + timedelta(seconds=self._plan.keep_time)
        annotation = {KEPT_ANNOTATION: until.isoformat(timespec="seconds")}
        self._api.patch("Job", self.name, self._namespace, {"metadata": {"annotations": annotation}})
        assert self._heartbeat is not None  # noqa: S101 - it starts with the anchor
        self._heartbeat.prolong(self._plan.keep_time)
        where = f"--context {self._api.context.name} --namespace {self._namespace}"
        self._note(f"`{self.name}` is kept until {until:%Y-%m-%d %H:%M} UTC")
        self._note(f'use it: `with skjob.cluster(name="{self.name}"): …` in Python')
        self._note(f"remove it: `skjob down {self.name} {where}`")

    def _set_replicas(self) -> None:
        patch = {"spec": {"worker": {"replicas": self._asked}}}
        self._api.patch("DaskWorkerGroup", f"{self.name}-default", self._namespace, patch)

    def _create_anchor(self, lifetime: float) -> manifest.Manifest:
        """The first object of the run: what forbids it, forbids all. Whether it was created is in doubt only where the
        API did not answer."""
        self._begun = True
        try:
            return self._api.create(manifest.anchor(self._names, self._namespace, lifetime))
        except NotFound as error:
            self._begun = False
            raise StartError(
                f"there is no namespace `{self._namespace}` in the cluster of context `{self._api.context.name}`",
                "name one that is there with `--namespace`, or ask for it",
            ) from error
        except Rejected as error:
            self._begun = False
            raise StartError(error.message, "the cluster's own rules refuse the run: ask who keeps them") from error
        except ForbiddenError as error:
            self._begun = False
            lacking = ", ".join(f"`{permission}`" for permission in missing(self._api, self._namespace))
            raise ForbiddenError(
                f"you may not do in namespace `{self._namespace}` what a run needs: {lacking or error.message}",
                "`skjob doctor --role` prints the Role that gives it; ask for that",
            ) from error

    def _warn_if_nothing_fits(self) -> None:
        """Say at once what the scheduler of Kubernetes would say later. An autoscaler may still bring a larger node."""
        try:
            self._nodes = self._api.list("Node")
        except ForbiddenError:
            return  # nodes are not everybody's to see
        fit = largest_fit(self._nodes, self._plan.size.cpu, self._plan.size.memory)
        if not fit.fits:
            self._note(f"{fit.message}; waiting for an autoscaler until `--start-timeout`")

    def _find_scheduler(self) -> str:
        """Wait for the scheduler's container to run; the name of its pod."""
        begun = time.monotonic()
        deadline, looked = begun + self._plan.start_timeout, 0.0
        problems: list[str] = []
        while True:
            for pod in self._pods("scheduler"):
                if any("running" in status["state"] for status in pod["status"].get("containerStatuses", [])):
                    return str(pod["metadata"]["name"])
            now = time.monotonic()
            if now - looked > DIAGNOSE_EVERY:
                looked = now
                problems = self.problems()
                for problem in problems:
                    self._note(problem)
                if now - begun > OPERATOR_TIMEOUT and not problems:
                    self._check_operator()
            if now > deadline:
                why = f": {problems[0]}" if problems else ""
                raise StartError(
                    f"the scheduler did not start within `--start-timeout`, {self._plan.start_timeout:.0f} s{why}",
                    "`skjob doctor` looks for causes in the cluster",
                )
            time.sleep(POLL)

    def _check_operator(self) -> None:
        try:
            self._api.get("Deployment", f"{self.name}-scheduler", self._namespace)
        except NotFound:
            raise OperatorError(
                f"the Dask operator has not acted on `{self.name}` for {OPERATOR_TIMEOUT:.0f} s",
                "it is installed, and not alive: `skjob doctor` says more, `skjob install` installs it anew",
            ) from None

    def _causes(self) -> list[Cause]:
        try:
            # Before the pods: of a pod that was refused and then made, the making must be seen.
            events = self._api.list("Event", self._namespace)
        except ForbiddenError:
            events = []
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


class KeptCluster(KubernetesCluster):
    """A cluster that `--keep` has left: connected to, and left as it was.

    Its certificates come from its Secret: whoever may read Secrets in the namespace may use it.
    """

    def __init__(self, api: Api, name: str, plan: Plan, private: Path, note: Callable[[str], None]) -> None:
        namespace = api.context.namespace
        secret = api.get("Secret", name, namespace)["data"]
        cluster = api.get("DaskCluster", name, namespace)
        run_id = cluster["metadata"]["labels"][RUN_LABEL]
        super().__init__(api, RunNames(run_id, user="", program="", existing=name), plan, private, note)
        content = [base64.b64decode(secret[file]) for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)]
        self.tls = Certificates(*content).write(private)
        self._asked = int(cluster["spec"]["worker"]["replicas"])
        self._existing = cluster

    def start(self) -> None:
        """Connect to the scheduler."""
        self._dask = _DaskCluster(self._existing, self._api, self.tls.security(), self._find_scheduler, create=False)
        self._dask.begin()
        self.address = self._dask.scheduler_address

    def close(self, hurried: Callable[[], bool] = lambda: False) -> None:
        """Close the connection."""
        if self._dask is not None:
            self._dask.end()


class Heartbeat:
    """Moves the anchor's deadline on for as long as this process lives.

    Kubernetes counts the deadline from the Job's own start, which is not before its creation; this counts from the
    creation, with this machine's monotonic clock, so that the clocks of the two need not agree.
    """

    def __init__(self, api: Api, name: str, namespace: str, grace: float) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._grace = grace
        self._created = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="skjob-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin beating: five times within each grace, so that a few may fail."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20)

    def prolong(self, seconds: float) -> None:
        """Let the anchor live for so many seconds from now."""
        deadline = round(time.monotonic() - self._created + seconds)
        patch = {"spec": {"activeDeadlineSeconds": deadline}}
        self._api.patch("Job", self._name, self._namespace, patch)

    def _run(self) -> None:
        while not self._stop.wait(self._grace / 5):
            with suppress(SkjobError):  # the API may be away for a while; if for too long, the anchor does its work
                self.prolong(self._grace)


class _DaskCluster:
    """The KubeCluster of ours, made when it is needed: importing dask-kubernetes takes a second."""

    def __init__(
        self,
        cluster: manifest.Manifest,
        api: Api,
        security: Any,
        find_scheduler: Callable[[], str],
        *,
        create: bool = True,
    ) -> None:
        self._create = create
        self._manifest = cluster
        self._api = api
        self._security = security
        self._find_scheduler = find_scheduler
        self._cluster: Any = None

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler is reached from here."""
        return str(self._cluster.scheduler_address)

    def begin(self) -> None:
        """Create the DaskCluster, unless it is there, and connect to its scheduler."""
        kube_cluster = _kube_cluster_class()
        self._cluster = kube_cluster(self._manifest, self._api, self._security, self._find_scheduler, self._create)

    def end(self) -> None:
        """Close what is open on this side; nothing is deleted."""
        if self._cluster is not None:
            with suppress(Exception):  # what was being connected to may be gone already
                self._cluster.close(timeout=5)


def _kube_cluster_class() -> type[Any]:
    import kr8s.asyncio
    from dask_kubernetes.operator import KubeCluster
    from distributed.core import rpc
    from distributed.deploy.cluster import Cluster
    from kr8s.asyncio.objects import Pod

    logging.getLogger("httpx").setLevel(logging.WARNING)

    class SkjobKubeCluster(KubeCluster):  # type: ignore[misc]
        """See the module's docstring."""

        def __init__(
            self,
            cluster: manifest.Manifest,
            api: Api,
            security: Any,
            find_scheduler: Callable[[], str],
            create: bool,
        ) -> None:
            self.security = security
            self._create = create
            self._manifest = cluster
            self._rest = api
            self._find_scheduler = find_scheduler
            self._forward: Any = None
            namespace = cluster["metadata"]["namespace"]
            super().__init__(custom_cluster_spec=cluster, namespace=namespace, shutdown_on_close=False, quiet=True)

        async def _start(self) -> None:
            # kr8s keeps its connections by thread and event loop, weakly: this one is ours to keep.
            context = None if self._rest.context.in_cluster else self._rest.context.name
            self._kr8s = await kr8s.asyncio.api(context=context, namespace=self.namespace)
            if self._create:
                await self._create_cluster()
            await self._connect_cluster()
            await Cluster._start(self)

        async def _create_cluster(self) -> None:
            await asyncio.to_thread(self._rest.create, self._manifest)

        async def _connect_cluster(self) -> None:
            name = await asyncio.to_thread(self._find_scheduler)
            pod = await Pod.get(name, namespace=self.namespace, api=self._kr8s)
            self._forward = pod.portforward(manifest.SCHEDULER_PORT, local_port="auto")
            await self._forward.start()
            self.forwarded_dashboard_port = None
            address = f"tls://127.0.0.1:{self._forward.local_port}"
            self.scheduler_comm = await self._first_answer(address)

        async def _first_answer(self, address: str) -> Any:
            arguments = self.security.get_connection_args("client")
            deadline = time.monotonic() + LISTEN_TIMEOUT
            while True:
                comm = rpc(address, connection_args=arguments, timeout=2)
                try:
                    await asyncio.wait_for(comm.identity(), timeout=5)
                except (OSError, TimeoutError) as error:
                    await comm.close_rpc()
                    if time.monotonic() > deadline:
                        raise ClusterLost(
                            f"the scheduler of `{self.name}` runs and did not answer within {LISTEN_TIMEOUT:.0f} s:"
                            f" {error}",
                            "its log, with `-v`, says more",
                        ) from error
                    await asyncio.sleep(POLL)
                else:
                    return comm

        async def _close(self, timeout: float | None = None) -> None:
            await Cluster._close(self)
            if self._forward is not None:
                await self._forward.stop()

        @property
        def dashboard_link(self) -> str:
            return f"http://127.0.0.1:{manifest.PAGES_PORT}/status"

    return SkjobKubeCluster
