"""Why a node, or Kubernetes, ended a pod that ran: evicted, preempted, or refused by a node that has filled up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skjob.deploy.kubernetes.diagnosis.evidence import (
    SCHEDULER,
    CauseKind,
    Evidence,
    Finding,
    Symptom,
    condition_of,
    in_words,
    involved_name,
    role_of_name,
    role_of_pod,
)
from skjob.deploy.kubernetes.manifests import Manifest

_ELSEWHERE = "the node filled up at the same moment; Kubernetes starts the pod elsewhere"
_HINTS = {
    "Evicted": "`--worker-memory` reserves more, so that a node takes fewer workers",
    "OutOfcpu": _ELSEWHERE,
    "OutOfmemory": _ELSEWHERE,
    "OutOfpods": _ELSEWHERE,
}


def eviction_of(pod: Manifest, evidence: Evidence) -> Symptom | None:
    """Return why a pod was evicted or has to go, by its status; None if it was not and has not."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        words = in_words(f"{status['reason']}: {status.get('message', '')}")
        text = f"the node `{pod.get('spec', {}).get('nodeName', '')}` ended the pod: {words}"
        again = role_of_pod(pod) == SCHEDULER and _evicted_schedulers(evidence) > 1
        return CauseKind.EVICTED, text, _hint(status), again
    disruption = condition_of(pod, "DisruptionTarget") or {}
    if disruption.get("status") == "True":
        text = f"the pod has to go: {in_words(disruption.get('message') or disruption.get('reason', ''))}"
        return CauseKind.EVICTED, text, "another pod took its place or its node is being emptied", False
    return None


def evictions_in_events(evidence: Evidence) -> Iterator[Finding]:
    """Yield evictions that no pod's status shows: it may say that the pod succeeded, or the pod is gone already."""
    known = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod)}
    for event in evidence.events:
        if event.get("reason") in ("Evicted", "Preempted") and involved_name(event) not in known:
            known.add(involved_name(event))
            source = event.get("source", {}).get("host") or event.get("reportingInstance", "")
            who = f"the node `{source}` ended the pod" if event["reason"] == "Evicted" else "the pod had to go"
            text = f"{who}: {event['reason']}: {in_words(event.get('message', ''))}"
            role = role_of_name(involved_name(event))
            hint = _hint({"reason": event["reason"], "message": event.get("message", "")})
            again = role == SCHEDULER and _evicted_schedulers(evidence) > 1
            yield Finding(CauseKind.EVICTED, text, hint, again, f"Pod/{involved_name(event)}", role)


def _evicted_schedulers(evidence: Evidence) -> int:
    """Return how many schedulers were evicted. Another takes the place of one; if that is evicted too, so will the
    next."""
    names = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod) and role_of_pod(pod) == SCHEDULER}
    evicted = {involved_name(event) for event in evidence.events if event.get("reason") == "Evicted"}
    return len(names | {name for name in evicted if role_of_name(name) == SCHEDULER})


def _hint(status: Manifest) -> str:
    if re.search(r"ephemeral|emptyDir", status.get("message", "")):
        return "write less to `/tmp` and to the log, or ask your platform team for more ephemeral storage"
    return _HINTS.get(status["reason"], "its work is done again elsewhere")


def _is_evicted(pod: Manifest) -> bool:
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason") == "Evicted")
