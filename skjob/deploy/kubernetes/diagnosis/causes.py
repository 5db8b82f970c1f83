"""Find out why pods of a cluster are not running: turn what the Kubernetes API reports into causes a user can act on.

Pure: takes API objects, plain dicts in the API's own spelling. Pods with the same problem make one cause, with their
number. A cause is *fatal* if waiting cannot help: a missing image is, a full node is not, since another run may end or
an autoscaler may add a node. The original words of an event or container are kept, because the platform team searches
for them.

List the events before the pods: a rejection is outdated if its pod exists by now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from skjob.deploy.kubernetes.diagnosis.containers import last_lines, of_container
from skjob.deploy.kubernetes.diagnosis.evictions import eviction_of, evictions_in_events
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
    role_of_pod,
    waiting_state,
)
from skjob.deploy.kubernetes.diagnosis.rejections import rejections
from skjob.deploy.kubernetes.diagnosis.unschedulable import unschedulable
from skjob.deploy.kubernetes.manifests import Manifest

_GONE_WITH_NODE = ("DeletionByTaintManager", "DeletionByPodGC")


@dataclass(frozen=True)
class Cause:
    """One cause, for all pods that share it. `object` is the first of them, as `Pod/name`.

    `topic` stays the same while the words, and the number of pods, change. `log` has the last lines of one pod that has
    ended.
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
    """Return why pods of one cluster are not running, fatal causes first; none if all is well.

    Args:
        pods: all pods of the cluster.
        events: events of the namespace. With `cluster`, those about other clusters' objects are ignored.
        nodes: the nodes, if the user may list them: a size that no node can hold is then reported as such.
        logs: the last lines of pods that have ended, by pod name: an import that fails is fatal at once.
        others: the pods on all nodes, if the user may list them: the largest free capacity is then reported.
        cluster: the prefix of the names of all the cluster's objects.
        since: when the cluster was created, by the API's clock. Events stay for an hour, in which an earlier cluster
            may have had its name.
    """
    relevant = [event for event in events if is_of(involved_name(event), cluster) and not is_before(event, since)]
    evidence = Evidence(pods, relevant, nodes or (), logs or {}, others)
    findings = [*rejections(evidence), *evictions_in_events(evidence)]
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


def _of_pod(pod: Manifest, evidence: Evidence) -> Iterator[Finding]:
    status = pod.get("status", {})
    node = pod.get("spec", {}).get("nodeName", "")

    def finding(kind: CauseKind, text: str, hint: str, fatal: bool) -> Finding:
        log = topic = ""
        if kind is CauseKind.CRASHED:
            # The last line of a container that has just ended may be missing.
            log, topic = last_lines(evidence.logs.get(pod["metadata"]["name"], "")), text.partition(": ")[0]
        return Finding(kind, text, hint, fatal, f"Pod/{pod['metadata']['name']}", role_of_pod(pod), log, topic)

    disruption = condition_of(pod, "DisruptionTarget") or {}
    if status.get("reason") == "NodeLost" or disruption.get("reason") in _GONE_WITH_NODE or node in evidence.lost_nodes:
        text = f"the node `{node}` does not answer"
        hint = "Kubernetes starts its pods elsewhere; lost fits are retried"
        yield finding(CauseKind.NODE, text, hint, role_of_pod(pod) == SCHEDULER)
        return
    if eviction := eviction_of(pod, evidence):
        yield finding(*eviction)
        return
    if "deletionTimestamp" in pod["metadata"]:
        return
    scheduled = condition_of(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        yield unschedulable(pod, scheduled, evidence)
        return
    for container in container_statuses(pod):
        for symptom in of_container(pod, container, evidence):
            yield finding(*symptom)
        if waiting_state(container).get("reason") in ("ContainerCreating", "PodInitializing"):
            for event in evidence.of(pod["metadata"]["name"], "FailedMount", "FailedCreatePodSandBox")[-1:]:
                kind = CauseKind.CONFIGURATION if event["reason"] == "FailedMount" else CauseKind.NODE
                text = f"the node `{node}` cannot set up the pod yet: {in_words(event.get('message', ''))}"
                yield finding(kind, text, "Kubernetes retries; `kubectl get events` shows more", False)
