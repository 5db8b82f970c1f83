"""Find out why no node takes a pod: none is free now, none is large enough, or a queue holds it back."""

from __future__ import annotations

import re

from skjob.deploy.kubernetes.diagnosis.capacity import best_node, most_free, requests, requests_of_gpus
from skjob.deploy.kubernetes.diagnosis.evidence import CauseKind, Evidence, Finding, in_words, role_of_pod
from skjob.deploy.kubernetes.diagnosis.nodes import labels_of
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.utils.units import format_size

SMALLER = "`--worker-cpu` and `--worker-memory`"

_NO_CLAIM = re.compile(r'persistentvolumeclaim "[^"]+" not found|unbound immediate PersistentVolumeClaims')


def unschedulable(pod: Manifest, condition: Manifest, evidence: Evidence) -> Finding:
    """Return why no node takes a pod, according to its condition `PodScheduled`."""
    name, role = pod["metadata"]["name"], role_of_pod(pod)
    cpu, memory = requests(pod)
    gpus = requests_of_gpus(pod)
    nodes = _matching_nodes(pod, evidence)
    fit = best_node(nodes, cpu, memory, gpus=gpus, what=role or "pod") if nodes else None
    words = in_words(re.split(r"\.? (?:no new claims|preemption:)", condition.get("message", ""))[0])
    hint = "request fewer or smaller workers (`--workers`, `--worker-cpu`, `--worker-memory`), or free resources"
    if condition.get("reason") == "SchedulingGated":
        text = "the pod waits for a queue of this cluster to admit it"
        hint = "`kubectl describe pod` shows its scheduling gates"
    elif _NO_CLAIM.search(words):
        text = f"a volume of the pod does not exist: {words}"
        hint = "`pods` in the namespace's ConfigMap names its claim: ask your platform team to create it"
        return Finding(CauseKind.CONFIGURATION, text, hint, False, f"Pod/{name}", role, topic="claim")
    elif fit is not None and not fit.fits:
        text = fit.message
        smaller = "`--worker-cpu`, `--worker-memory` and `--worker-gpu`" if gpus else SMALLER
        hint = f"request less with {smaller}, or add a larger node"
    else:
        text = f"no node has room for a {role or 'pod'} of {format_size(cpu, memory, gpus)}: {words}"
        if nodes and evidence.others and (free := most_free(nodes, evidence.others, cpu, memory)):
            text += f"; the largest free capacity is {free}"
    topic = f"{role} {condition.get('reason')}"
    if evidence.of(name, "TriggeredScaleUp"):
        text += "; the cluster's autoscaler is adding a node"
        topic += " scale-up"
    elif declined := evidence.of(name, "NotTriggerScaleUp"):
        topic += " no scale-up"
        text += f"; the autoscaler adds no node: {in_words(declined[-1].get('message', ''))}"
    else:
        text += "; waiting for room"
    return Finding(CauseKind.UNSCHEDULABLE, text, hint, False, f"Pod/{name}", role, topic=topic)


def _matching_nodes(pod: Manifest, evidence: Evidence) -> list[Manifest]:
    """Return the nodes that the pod's selector matches: not all pods of a run have the same selector."""
    selector = pod.get("spec", {}).get("nodeSelector") or {}
    return [node for node in evidence.nodes or () if selector.items() <= labels_of(node).items()]
