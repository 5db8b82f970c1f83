"""Find out why a node, or Kubernetes, ended a running pod: evicted, preempted, or rejected by a node that filled up."""

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
    "Evicted": "reserve more with `--worker-memory`, so that a node takes fewer workers",
    "OutOfcpu": _ELSEWHERE,
    "OutOfmemory": _ELSEWHERE,
    "OutOfpods": _ELSEWHERE,
}


def eviction_of(pod: Manifest, evidence: Evidence) -> Symptom | None:
    """Return why a pod was or is being evicted, according to its status; None if it is not."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        words = in_words(f"{status['reason']}: {status.get('message', '')}")
        text = f"the node `{pod.get('spec', {}).get('nodeName', '')}` ended the pod: {words}"
        again = role_of_pod(pod) == SCHEDULER and _evicted_schedulers(evidence) > 1
        return CauseKind.EVICTED, text, _hint(status), again
    disruption = condition_of(pod, "DisruptionTarget") or {}
    if disruption.get("status") == "True":
        text = f"the pod is being evicted: {in_words(disruption.get('message') or disruption.get('reason', ''))}"
        return CauseKind.EVICTED, text, "another pod took its place or its node is being emptied", False
    return None


def evictions_in_events(evidence: Evidence) -> Iterator[Finding]:
    """Yield evictions that no pod's status shows: it may say that the pod succeeded, or the pod may be gone."""
    known = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod)}
    for event in evidence.events:
        if event.get("reason") in ("Evicted", "Preempted") and involved_name(event) not in known:
            known.add(involved_name(event))
            source = event.get("source", {}).get("host") or event.get("reportingInstance", "")
            who = f"the node `{source}` ended the pod" if event["reason"] == "Evicted" else "the pod was evicted"
            text = f"{who}: {event['reason']}: {in_words(event.get('message', ''))}"
            role = role_of_name(involved_name(event))
            hint = _hint({"reason": event["reason"], "message": event.get("message", "")})
            again = role == SCHEDULER and _evicted_schedulers(evidence) > 1
            yield Finding(CauseKind.EVICTED, text, hint, again, f"Pod/{involved_name(event)}", role)


def _evicted_schedulers(evidence: Evidence) -> int:
    """Return how many schedulers were evicted.

    One eviction is replaced by another pod; if that is evicted too, so will be the next.
    """
    names = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod) and role_of_pod(pod) == SCHEDULER}
    evicted = {involved_name(event) for event in evidence.events if event.get("reason") == "Evicted"}
    return len(names | {name for name in evicted if role_of_name(name) == SCHEDULER})


def _hint(status: Manifest) -> str:
    if re.search(r"ephemeral|emptyDir", status.get("message", "")):
        return "write less to `/tmp` and to the log, or ask your platform team for more ephemeral storage"
    return _HINTS.get(status["reason"], "its work is retried elsewhere")


def _is_evicted(pod: Manifest) -> bool:
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason") == "Evicted")
