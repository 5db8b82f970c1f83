"""Why pods of a cluster do not run: from what the Kubernetes API says of them to causes a user can act on.

Pure over API objects, plain dicts in the API's own spelling. Pods with the same problem make one cause, with their
number. A cause is *fatal* if waiting cannot help: a missing image is, a full node is not, since another run may end or
an autoscaler may add one. The words of the event or the container are kept, because the platform team searches for
them.

List the events before the pods: a rejection whose pod exists by now is old news.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from skjob.deploy.kubernetes.diagnosis.capacity import Manifest, best_node, most_free, requests
from skjob.deploy.kubernetes.diagnosis.containers import last_lines, of_container
from skjob.deploy.kubernetes.diagnosis.evidence import (
    SCHEDULER,
    WORKER,
    CauseKind,
    Evidence,
    Finding,
    condition_of,
    container_statuses,
    in_words,
    involved_name,
    is_before,
    is_of,
    role_of_name,
    role_of_pod,
    waiting_state,
)
from skjob.deploy.kubernetes.diagnosis.rejections import rejections
from skjob.utils.units import format_size


@dataclass(frozen=True)
class Cause:
    """One reason, for all pods that share it. `object` is the first of them, as `Pod/name`.

    `topic` stays the same while the words, and the number of pods, change. `log` is the last lines of one of them that
    has ended.
    """

    kind: CauseKind
    message: str
    hint: str
    fatal: bool
    object: str
    topic: str = ""
    log: str = ""


def diagnose(
    pods: Sequence[Manifest],
    events: Sequence[Manifest],
    *,
    nodes: Sequence[Manifest] | None = None,
    logs: Mapping[str, str] | None = None,
    others: Sequence[Manifest] = (),
    cluster: str = "",
    since: str = "",
) -> list[Cause]:
    """Return why pods of one cluster do not run, fatal causes first; none if all is well.

    Args:
        pods: the pods of the cluster, all of them.
        events: events of the namespace. With `cluster`, those about other clusters' objects are left out.
        nodes: the nodes, if the user may list them: then a size that no node can hold is reported as such.
        logs: the last lines of pods that ended, by pod name: an import that fails is fatal at once.
        others: the pods on all nodes, if the user may list them: then the largest free capacity is reported.
        cluster: the name that the names of all the cluster's objects begin with.
        since: when the cluster was made, by the API's clock. Events stay for an hour, in which an earlier cluster may
            have had its name.
    """
    own = [event for event in events if is_of(involved_name(event), cluster) and not is_before(event, since)]
    evidence = Evidence(pods, own, nodes or (), logs or {}, others)
    findings = [*rejections(evidence), *_evictions(evidence)]
    for pod in pods:
        findings += _of_pod(pod, evidence)
    return _merge(findings)


def _merge(findings: Sequence[Finding]) -> list[Cause]:
    groups: dict[tuple[CauseKind, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.topic or finding.text), []).append(finding)
    causes = []
    for (kind, topic), group in groups.items():
        fatal = any(finding.fatal for finding in group)
        first = next(finding for finding in group if finding.fatal == fatal)
        message = f"{first.text} ({_who(group)})"
        causes.append(Cause(kind, message, first.hint, fatal, first.object, topic, first.log))
    order = list(CauseKind)
    return sorted(causes, key=lambda cause: (not cause.fatal, order.index(cause.kind)))


def _who(group: Sequence[Finding]) -> str:
    role_of = {finding.object: finding.role for finding in group}
    counts = Counter(role_of.values())
    parts = [SCHEDULER] * bool(counts[SCHEDULER])
    parts += [f"{counts[WORKER]} worker{'s' * (counts[WORKER] > 1)}"] * bool(counts[WORKER])
    others = [name for name, role in role_of.items() if role not in (SCHEDULER, WORKER)]
    parts += [f"`{others[0]}`"] if len(others) == 1 else [f"{len(others)} pods"] * bool(others)
    return " and ".join(parts)


# --- the pods that never came to be


# --- the pods that are there, or were


def _evictions(evidence: Evidence) -> Iterator[Finding]:
    """Yield evictions that no pod's status shows: it may say that the pod succeeded, or the pod is gone already."""
    told = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod)}
    for event in evidence.events:
        if event.get("reason") in ("Evicted", "Preempted") and involved_name(event) not in told:
            told.add(involved_name(event))
            source = event.get("source", {}).get("host") or event.get("reportingInstance", "")
            who = f"the node `{source}` ended the pod" if event["reason"] == "Evicted" else "the pod had to go"
            text = f"{who}: {event['reason']}: {in_words(event.get('message', ''))}"
            role = role_of_name(involved_name(event))
            hint = _eviction_hint({"reason": event["reason"], "message": event.get("message", "")})
            again = role == SCHEDULER and _evicted_schedulers(evidence) > 1
            yield Finding(CauseKind.EVICTED, text, hint, again, f"Pod/{involved_name(event)}", role)


def _evicted_schedulers(evidence: Evidence) -> int:
    """Return how many schedulers were evicted. Another takes the place of one; if that is evicted too, so will the
    next."""
    names = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod) and role_of_pod(pod) == SCHEDULER}
    evicted = {involved_name(event) for event in evidence.events if event.get("reason") == "Evicted"}
    return len(names | {name for name in evicted if role_of_name(name) == SCHEDULER})


_GONE_WITH_NODE = ("DeletionByTaintManager", "DeletionByPodGC")


def _of_pod(pod: Manifest, evidence: Evidence) -> Iterator[Finding]:
    status = pod.get("status", {})
    scheduler = role_of_pod(pod) == SCHEDULER
    node = pod.get("spec", {}).get("nodeName", "")

    def finding(kind: CauseKind, text: str, hint: str, fatal: bool) -> Finding:
        log = topic = ""
        if kind is CauseKind.CRASHED:
            # If it has just ended, its last line may be missing.
            log, topic = last_lines(evidence.logs.get(pod["metadata"]["name"], "")), text.partition(": ")[0]
        return Finding(kind, text, hint, fatal, f"Pod/{pod['metadata']['name']}", role_of_pod(pod), log, topic)

    disruption = condition_of(pod, "DisruptionTarget") or {}
    if status.get("reason") == "NodeLost" or disruption.get("reason") in _GONE_WITH_NODE or node in evidence.lost_nodes:
        text = f"the node `{node}` does not answer"
        yield finding(CauseKind.NODE, text, "Kubernetes starts its pods elsewhere; fits are done again", scheduler)
        return
    if status.get("phase") == "Failed" and status.get("reason"):
        words = in_words(f"{status['reason']}: {status.get('message', '')}")
        text = f"the node `{node}` ended the pod: {words}"
        again = scheduler and _evicted_schedulers(evidence) > 1
        yield finding(CauseKind.EVICTED, text, _eviction_hint(status), again)
        return
    if disruption.get("status") == "True":
        text = f"the pod has to go: {in_words(disruption.get('message') or disruption.get('reason', ''))}"
        yield finding(CauseKind.EVICTED, text, "another pod took its place or its node is being emptied", False)
        return
    if "deletionTimestamp" in pod["metadata"]:
        return
    scheduled = condition_of(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        yield _unschedulable(pod, scheduled, evidence)
        return
    for container in container_statuses(pod):
        for kind, text, hint, fatal in of_container(pod, container, evidence):
            yield finding(kind, text, hint, fatal)
        if waiting_state(container).get("reason") in ("ContainerCreating", "PodInitializing"):
            for event in evidence.of(pod["metadata"]["name"], "FailedMount", "FailedCreatePodSandBox")[-1:]:
                kind = CauseKind.CONFIGURATION if event["reason"] == "FailedMount" else CauseKind.NODE
                text = f"the node `{node}` cannot set up the pod yet: {in_words(event.get('message', ''))}"
                yield finding(kind, text, "Kubernetes tries again; `kubectl get events` shows more", False)


_ELSEWHERE = "the node filled up at the same moment; Kubernetes starts the pod elsewhere"
_EVICTION_HINTS = {
    "Evicted": "`--worker-memory` reserves more, so that a node takes fewer workers",
    "OutOfcpu": _ELSEWHERE,
    "OutOfmemory": _ELSEWHERE,
    "OutOfpods": _ELSEWHERE,
}


def _eviction_hint(status: Manifest) -> str:
    if re.search(r"ephemeral|emptyDir", status.get("message", "")):
        return "write less to `/tmp` and to the log, or ask your platform team for more ephemeral storage"
    return _EVICTION_HINTS.get(status["reason"], "its work is done again elsewhere")


def _is_evicted(pod: Manifest) -> bool:
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason") == "Evicted")


def _unschedulable(pod: Manifest, condition: Manifest, evidence: Evidence) -> Finding:
    name, role = pod["metadata"]["name"], role_of_pod(pod)
    cpu, memory = requests(pod)
    fit = best_node(evidence.nodes, cpu, memory, what=role or "pod") if evidence.nodes else None
    words = in_words(re.split(r"\.? (?:no new claims|preemption:)", condition.get("message", ""))[0])
    hint = "ask for fewer or smaller workers (`--workers`, `--worker-cpu`, `--worker-memory`), or free some room"
    if condition.get("reason") == "SchedulingGated":
        text = "the pod waits until a queue of this cluster lets it in"
        hint = "`kubectl describe pod` shows its scheduling gates"
    elif fit is not None and not fit.fits:
        text = fit.message
        hint = "ask for less with `--worker-cpu` and `--worker-memory`, or add a larger node"
    else:
        text = f"no node has room for a {role or 'pod'} of {format_size(cpu, memory)}: {words}"
        if evidence.nodes and evidence.others and (free := most_free(evidence.nodes, evidence.others, cpu, memory)):
            text += f"; the most that is free now is {free}"
    topic = f"{role} {condition.get('reason')}"
    if evidence.of(name, "TriggeredScaleUp"):
        text += "; the cluster's autoscaler adds a node"
        topic += " scale-up"
    elif refusals := evidence.of(name, "NotTriggerScaleUp"):
        topic += " no scale-up"
        text += f"; the autoscaler adds no node: {in_words(refusals[-1].get('message', ''))}"
    else:
        text += "; waiting for room"
    return Finding(CauseKind.UNSCHEDULABLE, text, hint, False, f"Pod/{name}", role, topic=topic)


# --- the containers


# --- reading API objects
