"""Watch when the pods of a cluster are created, scheduled, and running; and when nothing of it is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3
from kubernetes import client, watch

GONE_TIMEOUT = 60.0


class Watched:
    """Watches the pods of one namespace while a start is timed. Moments are seconds since the epoch on this machine."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._core = client.CoreV1Api(api)
        self._custom = client.CustomObjectsApi(api)
        self._kinds = (
            self._core.list_namespaced_pod,
            self._core.list_namespaced_service,
            self._core.list_namespaced_secret,
            self._core.list_namespaced_config_map,
            client.AppsV1Api(api).list_namespaced_deployment,
            client.BatchV1Api(api).list_namespaced_job,
            client.NetworkingV1Api(api).list_namespaced_network_policy,
        )
        self._namespace = namespace
        self._old = {pod.metadata.name for pod in self._core.list_namespaced_pod(namespace).items}
        self._ended = threading.Event()
        self._moments: dict[str, dict[str, float]] = {}
        self.cluster = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def moments(self) -> dict[str, float]:
        """Return the moments of the scheduler's pod, and of the first worker's pod to reach each."""
        return {
            f"{component}: {name}": at
            for component, named in self._moments.items()
            for name, at in named.items()
        }  # fmt: skip

    def gone(self) -> float:
        """Wait until nothing of the cluster is left. Return when that was."""
        deadline = time.time() + GONE_TIMEOUT
        while time.time() < deadline:
            if not any(self._left()):
                return time.time()
            time.sleep(0.1)
        raise TimeoutError(f"something of {self.cluster} is left after {GONE_TIMEOUT:.0f} s")

    def _left(self) -> Iterator[Any]:
        for list_kind in self._kinds:
            for selector in (f"dask.org/cluster-name={self.cluster}", f"app.kubernetes.io/instance={self.cluster}"):
                yield from list_kind(self._namespace, label_selector=selector).items
        found = self._custom.list_namespaced_custom_object("kubernetes.dask.org", "v1", self._namespace, "daskclusters")
        yield from (each for each in found["items"] if each["metadata"]["name"] == self.cluster)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(urllib3.exceptions.HTTPError):
                for event in watch.Watch().stream(self._core.list_namespaced_pod, self._namespace, timeout_seconds=2):
                    if event["object"].metadata.name not in self._old:
                        self._see(event["object"])

    def _see(self, pod: Any) -> None:
        labels = pod.metadata.labels or {}
        component = labels.get("dask.org/component")
        if component is None:
            return
        self.cluster = labels["dask.org/cluster-name"]
        conditions = {each.type for each in pod.status.conditions or [] if each.status == "True"}
        containers = pod.status.container_statuses or []
        reached = {
            "pod made": True,
            "pod placed": "PodScheduled" in conditions,
            "container runs": bool(containers) and all(each.state.running for each in containers),
        }
        named = self._moments.setdefault(component, {})
        for name, so in reached.items():
            if so:
                named.setdefault(name, time.time())
