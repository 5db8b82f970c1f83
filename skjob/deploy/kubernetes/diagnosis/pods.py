"""Read the pods of one cluster from the API: which run, which are lost, their last log lines, what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

from skjob.config.namespace_policy import NamespacePolicy
from skjob.config.nodes import Scheduling
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.wait import wait_for_pod
from skjob.deploy.kubernetes.diagnosis.causes import Cause, diagnose
from skjob.deploy.kubernetes.diagnosis.evidence import lost
from skjob.deploy.kubernetes.diagnosis.nodes import all_nodes, open_to
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.errors import SkjobError

LOG_LINES = 40
LOG_TIMEOUT = 5.0
_MIN_LOG_TIMEOUT = 0.1


class Pods:
    """Pods of the cluster `name`. `all_nodes` is every node; None if they are unknown."""

    def __init__(self, api: Api, name: str, rules: NamespacePolicy) -> None:
        self._api = api
        self._name = name
        self._rules = rules
        self._namespace = api.context.namespace
        self.all_nodes: list[Manifest] | None = None
        self._others: list[Manifest] | None = None
        self._created = ""
        self._known_logs: dict[str, str] = {}

    @property
    def nodes(self) -> list[Manifest] | None:
        """The nodes that workers may use; None if they are unknown."""
        return self._open_to(self._rules.scheduling)

    def look_at_nodes(self) -> None:
        """Find the nodes. Once is enough for their size: a large cluster has many."""
        self.all_nodes = all_nodes(self._api, self._rules) or None

    def on_architecture(self, name: str) -> None:
        """Consider only nodes of this architecture: pods are placed on no others."""
        self._rules = self._rules.on_architecture(name)

    def _open_to(self, scheduling: Scheduling) -> list[Manifest] | None:
        return open_to(self.all_nodes or (), scheduling) or None

    def _where_pods_go(self) -> list[Manifest] | None:
        """Return the nodes of workers, and those of the scheduler if they differ."""
        others = self._rules.support_scheduling
        if others == self._rules.scheduling:
            return self.nodes
        return [*(self.nodes or ()), *(self._open_to(others) or ())] or None

    def forget_earlier(self) -> None:
        """Ignore what happened before now: it was reported to earlier users of the cluster."""
        self._created = f"{self._api.now():%Y-%m-%dT%H:%M:%SZ}"

    def running_workers(self) -> int:
        """Return how many workers have a running pod."""
        return sum(
            pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
            for pod in self._list("worker")
        )

    def workers_on_lost_nodes(self, names: list[str]) -> list[str]:
        """Return the workers among these whose node does not answer.

        Kubernetes shows their pods as running and not ready.
        """
        lost_workers = {_worker_of(pod) for pod in self._list("worker") if _is_on_a_lost_node(pod)}
        return [name for name in names if name in lost_workers]

    def wait_for_scheduler(self, look: Callable[[], None], deadline: float, check: Callable[[], None]) -> bool:
        """Return whether the scheduler's container is running before the deadline. See `wait_for_pod`."""

        def find(pod: Manifest) -> Manifest | None:
            statuses = pod["status"].get("containerStatuses", [])
            return pod if any("running" in status["state"] for status in statuses) else None

        selector = self._selector("scheduler")
        return wait_for_pod(self._api, selector, find, look, deadline, check=check) is not None

    def logs(self) -> dict[str, str]:
        """Return the last log lines of each pod of the cluster; of the previous container if it was restarted.

        Return what can be read within `LOG_TIMEOUT` seconds in total: a lost node does not answer for its pods.
        """
        pool = ThreadPoolExecutor(8, thread_name_prefix="skjob-logs")
        try:
            pods = self._list()
            deadline = time.monotonic() + LOG_TIMEOUT
            reading = {pool.submit(self._log, pod, deadline): pod["metadata"]["name"] for pod in pods}
            done, _ = wait(reading, timeout=LOG_TIMEOUT)
            # If a container has just been restarted, its previous log cannot be read for a moment.
            return self._known_logs | {reading[log]: log.result() for log in done if log.result()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _log(self, pod: Manifest, deadline: float) -> str:
        # Python waits for threads before it exits: no request may outlast the wait for it.
        timeout = max(deadline - time.monotonic(), _MIN_LOG_TIMEOUT)
        restarted = any(status.get("restartCount") for status in pod["status"].get("containerStatuses", []))
        name = pod["metadata"]["name"]
        return self._api.log(name, self._namespace, lines=LOG_LINES, previous=restarted, timeout=timeout)

    def causes(self) -> list[Cause]:
        """Return what keeps the pods from running, or has ended them."""
        # Before the pods, so that a pod that was rejected first and created later is seen.
        events = self._api.readable_events(self._namespace)
        pods = self._list()
        if lost(self.all_nodes or ()) & {pod["spec"].get("nodeName") for pod in pods}:
            self.look_at_nodes()  # Kubernetes places no pod on a lost node: it is back, or was lost again
        logs: dict[str, str] = {}
        for pod in pods:
            statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
            for status in statuses:
                if status.get("lastState", {}).get("terminated") or status["state"].get("terminated"):
                    name = pod["metadata"]["name"]
                    previous = "terminated" not in status["state"]
                    text = self._api.log(name, self._namespace, container=status["name"], previous=previous)
                    logs[name] = text or logs.get(name, "")
        self._known_logs |= {name: text for name, text in logs.items() if text}
        others = self._on_nodes() if any(not pod["spec"].get("nodeName") for pod in pods) else ()
        since = self._since()
        nodes = self._where_pods_go()
        return diagnose(pods, events, nodes=nodes, logs=logs, others=others, cluster=self._name, since=since)

    def _since(self) -> str:
        """Return when the cluster was created, queried once; empty if unknown."""
        if not self._created:
            with suppress(SkjobError):
                self._created = str(self._api.get("Job", self._name, self._namespace)["metadata"]["creationTimestamp"])
        return self._created

    def _on_nodes(self) -> list[Manifest]:
        """Return all pods on the nodes, queried once: a large cluster has many. None if the user may not list them."""
        if self._others is None:
            self._others = []
            if self.nodes:
                with suppress(SkjobError):
                    self._others = self._api.list("Pod", fields="status.phase!=Succeeded,status.phase!=Failed")
        return self._others

    def _list(self, component: str = "") -> list[Manifest]:
        return self._api.list("Pod", self._namespace, selector=self._selector(component))

    def _selector(self, component: str) -> str:
        """Return the label selector of the cluster's pods, or of those of one component."""
        return f"dask.org/cluster-name={self._name}" + (f",dask.org/component={component}" if component else "")


def _worker_of(pod: Manifest) -> str:
    """Return the worker's name, which is its Deployment's; the ReplicaSet's name has a hash appended."""
    owners = pod["metadata"].get("ownerReferences", [])
    return str(next((owner["name"] for owner in owners if owner["kind"] == "ReplicaSet"), "")).rpartition("-")[0]


def _is_on_a_lost_node(pod: Manifest) -> bool:
    """Return whether a pod's node is lost.

    These pods have no readiness probe: one whose container runs would otherwise be ready.
    """
    status = pod["status"]
    containers = status.get("containerStatuses", [])
    running = bool(containers) and all("running" in container["state"] for container in containers)
    unready = any(each["type"] == "Ready" and each["status"] == "False" for each in status.get("conditions", []))
    return running and unready
