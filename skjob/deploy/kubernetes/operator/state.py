"""Find out whether the Dask operator is installed, running, and new enough."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from skjob.deploy.kubernetes.api.client import DASK_GROUP, Api
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import MANAGED_BY_LABEL, NAME_LABEL
from skjob.errors import ForbiddenError

CUSTOM_RESOURCES = f"{DASK_GROUP}/v1"

OPERATOR_NAME = "dask-kubernetes-operator"

OPERATOR_SELECTOR = f"{NAME_LABEL}={OPERATOR_NAME}"

MIN_OPERATOR_VERSION = (2023, 8)
"""Since this version workers are Deployments, so that each can be removed by name."""


class Presence(StrEnum):
    """Whether something exists; UNKNOWN if the user may not look."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class OperatorState:
    """What is known of the Dask operator. The fields after `deployment` are empty unless it is PRESENT."""

    custom_resources: bool
    deployment: Presence
    namespace: str = ""
    name: str = ""
    image: str = ""
    version: str = ""
    ready: bool = False
    managed_by_skjob: bool = False

    @property
    def too_old(self) -> bool:
        """Whether it is known to create pods in a way that skjob cannot work with."""
        return bool(re.match(r"v?\d+\.\d+", self.version)) and _release(self.version) < MIN_OPERATOR_VERSION

    @property
    def problem(self) -> str:
        """Why it will not act, as far as is known; empty if nothing is wrong."""
        where = f"the Dask operator `{self.namespace}/{self.name}`"
        if not self.custom_resources:
            return "the API does not know DaskClusters: the Dask operator is not installed"
        if self.deployment is Presence.ABSENT:
            return "the cluster has no Deployment of a Dask operator"
        if self.deployment is Presence.PRESENT and not self.ready:
            return f"{where} is not running"
        if self.too_old:
            oldest = ".".join(map(str, MIN_OPERATOR_VERSION))
            return f"{where} has version {self.version}, but skjob needs {oldest} or later"
        return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def has_operator(api: Api) -> bool:
    """Return whether the API knows DaskClusters, by one request that every user may make.

    That means that an operator was installed, not that it acts: see `operator_state`, which needs more permissions.
    """
    return api.serves(CUSTOM_RESOURCES)


def why_no_operator(api: Api) -> str:
    """Return why `has_operator` is False."""
    others = api.versions_of(DASK_GROUP)
    if others:
        return f"the cluster of context `{api.context.name}` has DaskClusters in version {', '.join(others)}, not v1"
    return f"the cluster of context `{api.context.name}` has no Dask operator"


def operator_state(api: Api) -> OperatorState:
    """Return what is known of the operator, wherever in the cluster it is."""
    custom_resources = has_operator(api)
    try:
        deployments = api.list("Deployment", selector=OPERATOR_SELECTOR)
    except ForbiddenError:
        return OperatorState(custom_resources, Presence.UNKNOWN)
    if not deployments:
        return OperatorState(custom_resources, Presence.ABSENT)
    # If there are several, the available one counts.
    deployment = max(deployments, key=is_available)
    metadata = deployment["metadata"]
    image = deployment["spec"]["template"]["spec"]["containers"][0].get("image", "")
    return OperatorState(
        custom_resources,
        Presence.PRESENT,
        namespace=metadata["namespace"],
        name=metadata["name"],
        image=image,
        version=(metadata.get("labels") or {}).get("app.kubernetes.io/version", "") or _tag(image),
        ready=is_available(deployment),
        managed_by_skjob=_is_ours(deployment),
    )


def is_available(deployment: Manifest) -> bool:
    """Return whether the newest version of a Deployment is running."""
    status = deployment.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= 1
        and status.get("availableReplicas", 0) >= 1
    )


def _is_ours(deployment: Manifest) -> bool:
    return (deployment["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == "skjob"


def _tag(image: str) -> str:
    """Return `v1` from `host:5000/name:v1`; empty if there is no tag."""
    last = image.split("@")[0].rpartition("/")[2]
    return last.partition(":")[2]
