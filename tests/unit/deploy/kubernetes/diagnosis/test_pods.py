"""Test which logs of a cluster's pods, and which of their nodes, are remembered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from clocks import Clock

from skjob.config.namespace_policy import NamespacePolicy
from skjob.deploy.kubernetes.api.context import Context
from skjob.deploy.kubernetes.diagnosis import pods as pods_module
from skjob.deploy.kubernetes.diagnosis.pods import LOG_TIMEOUT, Pods

pytestmark = pytest.mark.unit

CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-23T16:00:09Z"}}


class RestartingApi:
    """An API whose only pod has crashed; by the next check its container has been restarted."""

    context = Context("kind-skjob", "team", "https://localhost")

    def __init__(self) -> None:
        self.written = "FileNotFoundError: ca.crt\n"

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 16, 10, tzinfo=UTC)

    def readable_events(self, namespace: str) -> list[dict[str, Any]]:
        return []

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[dict[str, Any]]:
        labels = {"dask.org/component": "scheduler"}
        status = {"name": "dask", "restartCount": 0, "state": CRASHED}
        metadata = {
            "name": "scheduler",
            "namespace": namespace,
            "labels": labels,
            "creationTimestamp": "2026-11-23T16:00:00Z",
        }
        return [{"metadata": metadata, "spec": {"nodeName": "one"}, "status": {"containerStatuses": [status]}}]

    def log(self, pod: str, namespace: str, **_: Any) -> str:
        return self.written


def test_what_a_pod_wrote_before_it_was_started_again_is_not_lost() -> None:
    api: Any = RestartingApi()
    pods = Pods(api, "skjob-train", NamespacePolicy())
    pods.forget_earlier()
    pods.causes()
    api.written = ""
    assert pods.logs() == {"scheduler": "FileNotFoundError: ca.crt\n"}
    api.written = "it listens\n"
    assert pods.logs() == {"scheduler": "it listens\n"}


class CrowdedApi(RestartingApi):
    """An API with more pods than are read in parallel; each log takes a while."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.timeouts: list[float] = []

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[dict[str, Any]]:
        [pod] = super().list(kind, namespace, selector=selector)
        return [pod | {"metadata": {"name": f"worker-{number}"}} for number in range(20)]

    def log(self, pod: str, namespace: str, *, timeout: float = 99.0, **_: Any) -> str:
        self.timeouts.append(timeout)
        self.clock.sleep(0.05)
        return "it listens\n"


def test_no_log_is_asked_for_longer_than_all_of_them_may_take(clock_of: Callable[..., Clock]) -> None:
    """Python waits at exit for threads with open requests: one to a lost node would delay it."""
    api: Any = CrowdedApi(clock_of(pods_module))
    assert len(Pods(api, "skjob-train", NamespacePolicy()).logs()) == 20
    assert max(api.timeouts) <= LOG_TIMEOUT
    assert min(api.timeouts) < max(api.timeouts) - 0.05  # later requests have less time left


class RebootingApi(RestartingApi):
    """An API whose running pod's node does not answer at first."""

    ready = "Unknown"

    def list(self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "") -> list[dict[str, Any]]:
        if kind == "Node":
            conditions = [{"type": "Ready", "status": self.ready}]
            return [{"metadata": {"name": "one"}, "spec": {}, "status": {"conditions": conditions}}]
        [pod] = super().list(kind, namespace, selector=selector)
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "dask", "state": {"running": {}}}]}
        return [pod]


def test_a_node_that_is_back_is_not_taken_for_lost() -> None:
    api: Any = RebootingApi()
    pods = Pods(api, "skjob-train", NamespacePolicy())
    pods.forget_earlier()
    pods.look_at_nodes()
    [cause] = pods.causes()
    assert (cause.fatal, cause.message) == (True, "the node `one` does not answer (scheduler)")
    api.ready = "True"
    assert pods.causes() == []
