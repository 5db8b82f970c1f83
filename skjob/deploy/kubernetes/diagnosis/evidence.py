"""What Kubernetes reports about pods, as the diagnosis reads it: statuses, conditions and events, by role."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from skjob.deploy.kubernetes.manifests import Manifest

SCHEDULER, WORKER = "scheduler", "worker"
"""The roles of pods."""


class CauseKind(StrEnum):
    """What keeps a pod from running, in the order of reporting."""

    REJECTED = "rejected"
    """The API rejects the pod: quota, limits, pod security, an admission rule."""
    IMAGE = "image"
    COMMAND = "command"
    """The image lacks the command that it should run."""
    ENVIRONMENT = "environment"
    """The image lacks what the program needs and cannot get it."""
    CONFIGURATION = "configuration"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out-of-memory"
    EVICTED = "evicted"
    NODE = "node"
    """The node is lost, or cannot set up the pod."""
    UNSCHEDULABLE = "unschedulable"


@dataclass(frozen=True)
class Evidence:
    """Pods and events of a cluster, nodes, the last lines of containers, and other objects that own pods."""

    pods: Sequence[Manifest]
    events: Sequence[Manifest]
    nodes: Sequence[Manifest]
    logs: Mapping[str, str]
    others: Sequence[Manifest]

    @cached_property
    def lost_nodes(self) -> set[str]:
        """Names of nodes that do not answer. Cached: needed for each pod, and there may be many of both."""
        return lost(self.nodes)

    def of(self, name: str, *reasons: str) -> list[Manifest]:
        """Return the events about one object with one of these reasons, the newest last."""
        chosen = [event for event in self.events if involved_name(event) == name and event.get("reason") in reasons]
        return sorted(chosen, key=_when)

    @property
    def scheduler_missing(self) -> bool:
        """Return whether a scheduler pod exists and does not run: workers that end in the meantime are not to blame."""
        schedulers = [pod for pod in self.pods if role_of_pod(pod) == SCHEDULER]
        return bool(schedulers) and not any(
            status.get("ready") for pod in schedulers for status in container_statuses(pod)
        )


@dataclass(frozen=True)
class Finding:
    """A cause as seen on one object."""

    kind: CauseKind
    text: str
    hint: str
    fatal: bool
    object: str
    role: str
    log: str = ""
    topic: str = ""


Symptom = tuple[CauseKind, str, str, bool]
"""A finding without its object: kind, text, hint, and whether it is fatal."""


def lost(nodes: Sequence[Manifest]) -> set[str]:
    """Return the names of nodes that do not answer."""
    unready = [node for node in nodes if (condition_of(node, "Ready") or {}).get("status") in ("Unknown", "False")]
    return {node["metadata"]["name"] for node in unready}


def in_words(text: str, limit: int = 400) -> str:
    """Return the API's message on one line."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def readable(words: str) -> str:
    """Return a text with large numbers of bytes written as `512Mi`."""
    return re.sub(r"(?<=[= ])\d{7,}(?=[,;\s]|$)", lambda match: _binary(int(match[0])), words)


def _binary(size: int) -> str:
    for unit, power in (("Gi", 30), ("Mi", 20)):
        if size >= 2**power and size % 2**10 == 0:
            return f"{size / 2**power:.3f}".rstrip("0").rstrip(".") + unit
    return str(size)


_SECONDS = len("2026-11-26T12:00:00")


def involved_name(event: Manifest) -> str:
    """Return the name of the object that an event is about."""
    return str((event.get("involvedObject") or event.get("regarding") or {}).get("name", ""))


def is_of(name: str, cluster: str) -> bool:
    """Return whether an object belongs to a cluster, by the names that the operator and a Job give.

    `dev-scheduler-…` belongs to `dev`, and `dev-2-scheduler-…` does not.
    """
    suffix = r"(-scheduler(-[\w-]+)?|-default(-worker-[\w-]+)?|-\w{5})?"
    return not cluster or re.fullmatch(re.escape(cluster) + suffix, name) is not None


def is_before(event: Manifest, moment: str) -> bool:
    """Return whether an event happened before a time. Some events have fractions of a second, and objects do not."""
    return bool(_when(event)) and _when(event)[:_SECONDS] < moment[:_SECONDS]


def count_of(event: Manifest) -> int:
    """Return how often an event has occurred."""
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _when(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def role_of_pod(pod: Manifest) -> str:
    """Return the role in the operator's label of a pod; empty if it has none."""
    return str((pod["metadata"].get("labels") or {}).get("dask.org/component", ""))


def role_of_name(name: str) -> str:
    """Return the role of a pod, or of a ReplicaSet's pods, by the operator's names: `…-scheduler-…`, `…-worker-…`."""
    return WORKER if "-default-worker-" in name else SCHEDULER if re.search(r"-scheduler-[\w-]+$", name) else ""


def _conditions(manifest: Manifest) -> list[Manifest]:
    return manifest.get("status", {}).get("conditions") or []


def condition_of(manifest: Manifest, kind: str) -> Manifest | None:
    """Return the condition of this type in an object's status."""
    return next((item for item in _conditions(manifest) if item["type"] == kind), None)


def container_statuses(pod: Manifest) -> list[Manifest]:
    """Return the statuses of a pod's containers, the init containers first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def waiting_state(container: Manifest) -> Manifest:
    """Return the waiting state in a container's status, reason and message; empty if it is not waiting."""
    return container.get("state", {}).get("waiting") or {}


def spec_of(pod: Manifest, container: str) -> Manifest:
    """Return the spec of the container with this name; empty if the pod has none."""
    spec = pod.get("spec", {})
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return next((item for item in containers if item["name"] == container), {})
