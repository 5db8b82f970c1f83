"""Whether the Dask operator is there, runs, and is new enough."""

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

OLDEST_OPERATOR = (2023, 8)
"""From then on, workers are Deployments: each can be removed by its name."""


class Presence(StrEnum):
    """Whether something is there; UNKNOWN if the user may not look."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class OperatorState:
    """What can be seen of the Dask operator. The fields after `deployment` are empty unless it is PRESENT."""

    custom_resources: bool
    deployment: Presence
    namespace: str = ""
    name: str = ""
    image: str = ""
    version: str = ""
    ready: bool = False
    ours: bool = False

    @property
    def too_old(self) -> bool:
        """Whether it is known to make pods in a way that skjob cannot work with."""
        return bool(re.match(r"v?\d+\.\d+", self.version)) and _release(self.version) < OLDEST_OPERATOR

    @property
    def trouble(self) -> str:
        """Why it will not act, as far as can be seen; empty if nothing is known against it."""
        where = f"the Dask operator `{self.namespace}/{self.name}`"
        if not self.custom_resources:
            return "the API does not know DaskClusters: there is no Dask operator"
        if self.deployment is Presence.ABSENT:
            return "there is no Deployment of a Dask operator in the cluster"
        if self.deployment is Presence.PRESENT and not self.ready:
            return f"{where} does not run"
        if self.too_old:
            oldest = ".".join(map(str, OLDEST_OPERATOR))
            return f"{where} is of version {self.version}, and skjob needs {oldest} or later"
        return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def has_operator(api: Api) -> bool:
    """Return whether the API knows DaskClusters: one request, which every user may make.

    That says that an operator was installed, not that it acts: see `operator_state`, which needs more permissions.
    """
    return api.serves(CUSTOM_RESOURCES)


def why_no_operator(api: Api) -> str:
    """Return in words why `has_operator` says no."""
    others = api.versions_of(DASK_GROUP)
    if others:
        return f"the cluster of context `{api.context.name}` has DaskClusters of {', '.join(others)}, not of v1"
    return f"the cluster of context `{api.context.name}` has no Dask operator"


def operator_state(api: Api) -> OperatorState:
    """Return what can be seen of the operator, wherever in the cluster it is."""
    custom_resources = has_operator(api)
    try:
        deployments = api.list("Deployment", selector=OPERATOR_SELECTOR)
    except ForbiddenError:
        return OperatorState(custom_resources, Presence.UNKNOWN)
    if not deployments:
        return OperatorState(custom_resources, Presence.ABSENT)
    # If there are several, the one that acts counts.
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
        ours=_is_ours(deployment),
    )


def is_available(deployment: Manifest) -> bool:
    """Return whether the newest version of a Deployment runs."""
    status = deployment.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= 1
        and status.get("availableReplicas", 0) >= 1
    )


def _is_ours(deployment: Manifest) -> bool:
    return (deployment["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == "skjob"


def _tag(image: str) -> str:
    """Return `v1` of `host:5000/name:v1`; empty if there is none."""
    last = image.split("@")[0].rpartition("/")[2]
    return last.partition(":")[2]
