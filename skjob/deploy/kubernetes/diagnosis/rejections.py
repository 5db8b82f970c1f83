"""Find out why the API rejects a pod: quotas, limits, admission."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from skjob.deploy.kubernetes.diagnosis.capacity import requests
from skjob.deploy.kubernetes.diagnosis.evidence import (
    SCHEDULER,
    WORKER,
    CauseKind,
    Evidence,
    Finding,
    in_words,
    involved_name,
    readable,
    role_of_name,
    role_of_pod,
)
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.utils.units import quantity

_REJECTION_HINTS = (
    (r"because it is being terminated", "the namespace is being deleted: choose another `--namespace`"),
    (
        r"exceeded quota",
        "`kubectl get resourcequota` shows it; request fewer or smaller workers, or ask for more quota",
    ),
    (
        r"failed quota: .*must specify",
        "the quota requires what skjob leaves open: a LimitRange in the namespace can set defaults for it",
    ),
    (
        r"(maximum|minimum) \S+ usage per|max limit to request ratio",
        "choose `--worker-cpu` and `--worker-memory` within what `kubectl describe limitrange` shows",
    ),
    (
        r"violates PodSecurity",
        "ask whoever sets the namespace's pod security level, or choose another `--namespace`",
    ),
    (
        r"serviceaccount \S+ not found",
        "ask your platform team to create it; a new namespace has its `default` after a moment",
    ),
    (r"admission webhook|ValidatingAdmissionPolicy", "a policy of this cluster rejects it: ask your platform team"),
)

_TEMPORARY_REJECTION = re.compile(
    r"failed calling webhook|status unknown for quota|serviceaccount \S+ not found|timed? ?out|deadline exceeded"
    r"|connection refused|object has been modified",
    re.IGNORECASE,
)


def hint_for_rejection(words: str) -> str:
    """Return what to do about a rejection; empty if its message is not known."""
    return next((hint for pattern, hint in _REJECTION_HINTS if re.search(pattern, words)), "")


_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: (\S+)")


def _fits_empty_quota(quota: re.Match[str], role: str, evidence: Evidence) -> bool:
    """Return whether a quota could hold the smallest cluster, a scheduler and a worker, if nothing else used it.

    What other runs use becomes free when they end.
    """
    requested, limited = _amounts(quota[2]), _amounts(quota[4])
    schedulers = [pod for pod in evidence.pods if role_of_pod(pod) == SCHEDULER] if role == WORKER else []
    return all(
        amount + sum(_usage(pod, name) for pod in schedulers) <= limited.get(name, math.inf)
        for name, amount in requested.items()
    )


def _amounts(text: str) -> dict[str, float]:
    """Parse `pods=1,limits.memory=2Gi` into numbers."""
    return {name: quantity(amount) for name, _, amount in (item.partition("=") for item in text.split(","))}


def _usage(pod: Manifest, name: str) -> float:
    """Return how much of a quota's resource a pod uses."""
    cpu, memory = requests(pod)
    resource = name.removeprefix("requests.")
    if name in ("limits.cpu", "limits.memory"):
        limits = [container.get("resources", {}).get("limits") or {} for container in pod["spec"]["containers"]]
        return sum(quantity(limit.get(name.removeprefix("limits."), "0")) for limit in limits)
    return {"cpu": cpu, "memory": float(memory), "pods": 1.0, "count/pods": 1.0}.get(resource, 0.0)


def rejections(evidence: Evidence) -> Iterator[Finding]:
    """Yield why the API rejects pods that a ReplicaSet or the operator would create."""
    owners = {owner.get("name") for pod in evidence.pods for owner in pod["metadata"].get("ownerReferences") or []}
    for event in evidence.events:
        if event.get("reason") != "FailedCreate" or involved_name(event) in owners:
            continue
        words = re.sub(r"^\(combined from similar events\): ", "", event.get("message", ""))
        words = re.sub(r"^Error creating: ", "", words)
        words = readable(in_words(re.sub(r'^pods "[^"]*" is forbidden: ', "", words)))
        role = role_of_name(involved_name(event))
        text = f"the API rejects the pod: {words}"
        fatal, topic = not _TEMPORARY_REJECTION.search(words), text
        if quota := _QUOTA.search(words):
            fatal, topic = not _fits_empty_quota(quota, role, evidence), f"quota {quota[1]}"
            text += "" if fatal else "; waiting for other runs to free it"
        yield Finding(
            CauseKind.REJECTED,
            text,
            hint_for_rejection(words) or "ask your platform team, or choose another `--namespace`",
            fatal,
            f"{event['involvedObject'].get('kind', 'ReplicaSet')}/{involved_name(event)}",
            role,
            topic=topic,
        )
